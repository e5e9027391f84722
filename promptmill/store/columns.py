"""Column types: each takes any value that a user, a model or a stranger can produce, and gives it back as it was.

Databases are narrower than Python. PostgreSQL refuses NUL in text, no UTF-8 encoder takes half a surrogate pair, SQLite
knows neither times nor exact decimals, and both stop at 64 bits. One value that does not fit would fail the
transaction that holds hundreds of paid answers, again and again; so nothing is left to fail.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

_ESCAPE: Final = "\x10"  # DLE, "data link escape": does not occur in what people and models write
_UNSTORABLE: Final = re.compile(f"[\x00{_ESCAPE}\ud800-\udfff]")
_ESCAPED: Final = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")

_MAX_KEY_CHARS: Final = 400
_LARGEST: Final = 2**63 - 1
_PICO: Final = 12
_WIDE: Final = Context(prec=60)
_MILLISECOND: Final = timedelta(milliseconds=1)


def storable(text: str) -> str:
    """Return `text` with NUL and lone surrogates written as DLE and four hexadecimal digits; `restored` undoes it."""
    if text.isascii():
        if "\x00" not in text and _ESCAPE not in text:
            return text
    elif _encodable(text) and "\x00" not in text and _ESCAPE not in text:
        return text
    return _UNSTORABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def restored(text: str) -> str:
    """Return the text that `storable` was given."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def key_of(text: str) -> str:
    """Return `text` in the length that PostgreSQL can index: a longer one is its beginning and its SHA-256.

    Promptmill's own ids are short; a stranger's job in Redis may be called anything.
    """
    if len(text) <= _MAX_KEY_CHARS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:300]}~sha256:{digest}"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Text(TypeDecorator[str]):
    """Any Python string, of any length."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Escape; what is not a string although it should be is written as one."""
        del dialect
        return None if value is None else storable(value if isinstance(value, str) else str(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Undo the escapes."""
        del dialect
        return None if value is None else restored(value)


class Key(Text):
    """A string that is looked up by index: see `key_of`."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Shorten, then escape."""
        return None if value is None else super().process_bind_param(key_of(str(value)), dialect)


class Count(TypeDecorator[int]):
    """A whole number; one beyond 64 bits is kept as the largest that fits."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:
        """Fit into 64 bits."""
        del dialect
        if value is None:
            return None
        number = int(value)
        return number if -_LARGEST <= number <= _LARGEST else (_LARGEST if number > 0 else -_LARGEST)


class Time(TypeDecorator[datetime]):
    """A point in time, to the microsecond, in UTC; one without a zone is taken to be in UTC.

    `timestamptz` in PostgreSQL; in SQLite ISO 8601 text, which sorts by time and which its date functions read.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> datetime | None:
        """Convert to UTC."""
        del dialect
        if value is None:
            return None
        utc: datetime = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC: SQLite forgets zones."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


class Milliseconds(TypeDecorator[timedelta]):
    """A duration, exact to the microsecond, as a fraction of milliseconds."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> float | None:
        """Divide."""
        del dialect
        return None if value is None else value / _MILLISECOND

    def process_result_value(self, value: float | None, dialect: Dialect) -> timedelta | None:
        """Round to the microsecond that was written."""
        del dialect
        return None if value is None else timedelta(milliseconds=value)


class Picodollars(TypeDecorator[Decimal]):
    """US dollars as a whole number of 10^-12, so that every sum is exact in every database.

    A price of up to six decimals for a million tokens is a whole number of these for each token, so no cost is ever
    rounded; what is finer is rounded half to even. Holds, as does a sum in SQLite, up to 9.2 million dollars.
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:
        """Scale up; an amount that is no number has no known price."""
        del dialect
        if value is None or not value.is_finite():
            return None
        pico = int(value.scaleb(_PICO, _WIDE).to_integral_value(ROUND_HALF_EVEN, _WIDE))
        return max(-_LARGEST, min(pico, _LARGEST))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Scale down, without zeros at the end."""
        del dialect
        if value is None:
            return None
        dollars = Decimal(int(value)).scaleb(-_PICO, _WIDE).normalize(_WIDE)
        return dollars if dollars.as_tuple().exponent <= 0 else dollars.quantize(Decimal(1), context=_WIDE)  # type: ignore[operator]


class Tags(TypeDecorator[dict[str, str]]):
    """Names and values that their owner chose. In PostgreSQL `jsonb`, which refuses NUL: they are escaped inside."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the type that can be searched."""
        return dialect.type_descriptor(postgresql.JSONB() if dialect.name == "postgresql" else sa.JSON())

    def process_bind_param(self, value: Any, dialect: Dialect) -> dict[str, str] | None:
        """Escape names and values."""
        del dialect
        return {storable(str(name)): storable(str(text)) for name, text in (value or {}).items()}

    def process_result_value(self, value: dict[str, str] | None, dialect: Dialect) -> dict[str, str]:
        """Undo the escapes."""
        del dialect
        return {restored(name): restored(text) for name, text in (value or {}).items()}


def json() -> sa.JSON:
    """Return the type of a column that holds JSON; None is NULL, not the JSON value null."""
    return sa.JSON(none_as_null=True)
