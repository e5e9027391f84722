"""For every test: random cases that are the same each time, unless `--hypothesis-profile` says otherwise.

`explore`: others each time. `soak`: others each time, and twenty times as many (see tests/support/effort.py).
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same-each-time", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile("same-each-time")
