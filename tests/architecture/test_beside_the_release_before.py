"""What 0.1.0 has in Redis, and takes for granted there.

While a deploy rolls its scripts run on the same keys as those of today, so none of this may change; see docs/decisions
and tests/scenarios/test_rolling_deploy.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import promptmill.queue
from promptmill.queue import keys
from promptmill.queue.records import RECORD

RECORD_OF_0_1_0 = (
    *("state", "lane", "budget", "requests", "input", "output", "order", "claims", "attempts", "lost", "route"),
    *("deadline", "ends", "token", "charged", "kind", "longest", "reserved_input", "reserved_output", "fallbacks"),
    *("failed_at", "blamed", "refused_at", "seen"),
)
KEYS_OF_0_1_0 = {
    *("promptmill:queue", "promptmill:jobs", "arq:job:", "arq:result:", "promptmill:lane:", "promptmill:due"),
    *("promptmill:budget:", "promptmill:budgets", "promptmill:tenants:", "promptmill:learned:", "promptmill:spend"),
    *("promptmill:idle", "promptmill:workers", "promptmill:run:"),
    *("promptmill:wake:", "promptmill:done:", "promptmill:run-done:", "promptmill:cancel"),
}


def test_new_fields_of_a_record_stand_behind_those_that_0_1_0_reads_by_their_place():
    assert RECORD[: len(RECORD_OF_0_1_0)] == RECORD_OF_0_1_0


def test_the_keys_and_channels_of_0_1_0_have_their_names():
    assert {value for name, value in vars(keys).items() if name.isupper()} >= KEYS_OF_0_1_0


def test_a_record_has_no_value_that_0_1_0_takes_for_damage():
    """It would take the job for a stranger's, and adopt it from its payload anew."""
    record = (Path(promptmill.queue.__file__).parent / "lua" / "_record.lua").read_text(encoding="utf-8")
    sound = record[record.index("local function is_sound") : record.index("local function load_record")]
    assert set(re.findall(r"record\.(\w+) == '?(\w+)'?", sound)) == {
        *(("state", value) for value in "rwl"),
        *(("lane", value) for value in "123"),
        *(("ends", value) for value in ("0", "cancelled", "expired")),
        *(("token", "0"), ("kind", "0")),
    }
