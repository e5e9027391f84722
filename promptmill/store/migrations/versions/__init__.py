"""Schema versions, numbered from 0001. A version that was released is never edited."""
