"""For every test: random schedules that are the same each time, unless `--hypothesis-profile=explore` is given."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same-each-time", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("same-each-time")
