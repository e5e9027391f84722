"""The sums over what lua/backlog.lua found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from promptmill.foresight import NOTHING, Backlog, LaneBacklog, Learned, Work
from promptmill.halts import Halts
from promptmill.jobs import Lane
from promptmill.pacing import DIMENSIONS, LEAST_FACTOR, Budget, Pace, Ramp
from promptmill.queue.records import read_record

_LANES: Final = tuple(Lane)


def read_backlog(model_class: str, answer: list[Any]) -> Backlog:
    """Return what the script answered for `model_class`."""
    stored_now, stored_budget, stored_learned, halts, free, job, (*lanes, soon, later) = answer
    now, budget = float(stored_now), _texts(stored_budget)
    learned = {kind: known for kind, entry in _texts(stored_learned).items() if (known := Learned.read(entry))}
    ready, running, ages = dict.fromkeys(Lane, NOTHING), dict.fromkeys(Lane, NOTHING), 0.0
    for lane, queue in zip(Lane, lanes, strict=True):
        for members, record in _records(queue):
            ready[lane] += _cost(record, learned) * members
    for queue in (soon, later):
        for members, record in _records(queue):
            lane = _LANES[record["lane"] - 1]
            if record["budget"] != model_class:
                continue
            if age := _age(record, now):
                running[lane] += Work(1, record["reserved_input"], record["reserved_output"]) * members
                ages += members * age
            elif record["state"] == "w" and queue is soon:
                ready[lane] += _cost(record, learned) * members
    under_way = sum(each.requests for each in running.values())
    return Backlog(
        now=now,
        budget=_budget(budget),
        reason=budget.get("reason"),
        is_out="open_since" in budget,
        free_slots=bool(free),
        parked_lanes=Halts.read(dict(zip(halts[::2], halts[1::2], strict=True)), now).lanes,
        lanes={lane: LaneBacklog(ready[lane], running[lane]) for lane in Lane},
        learned=learned,
        mean_age_ms=ages / under_way if under_way else None,
        job_is_queued=job is not None,
        job_age_ms=_age(read_record(job) or {}, now),
    )


def _texts(flat: list[bytes]) -> dict[str, str]:
    texts = [text.decode("utf-8", "replace") for text in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _records(queue: list[Any]) -> list[tuple[float, dict[str, Any]]]:
    """Return the records that were read of a queue, each with the number of members that it stands for."""
    count, *found = queue
    records = [record for raw in found if (record := read_record(raw))]
    return [(count / len(records), record) for record in records]


def _cost(record: Mapping[str, Any], learned: Mapping[str, Learned]) -> Work:
    """Return what the next request is expected to cost: what `expected_cost` in lua/_learned.lua reserves."""
    estimate = Work(record["requests"], record["input"], record["output"])
    known = learned.get(record["kind"] or "")
    return known.corrected(estimate, longest=record["longest"]) if known else estimate


def _age(record: Mapping[str, Any], now: float) -> float | None:
    """Return for how long a request has been under way (ms), at least a little; None where none is."""
    return max(0.001, now - record["charged"]) if record.get("state") == "l" and record["charged"] else None


def _pace(fields: Mapping[str, str], d: str) -> Pace:
    """Return the pace that is left to us beside what others of the account take."""
    share = 1 - float(fields.get(f"{d}_others", 0))
    return Pace(float(fields[f"{d}_rate"]) * max(LEAST_FACTOR, share), float(fields[f"{d}_burst"]))


def _budget(fields: Mapping[str, str]) -> Budget | None:
    """Return the budget that these fields describe; None where limits are missing."""
    if any(f"{d}_{of}" not in fields for d in DIMENSIONS for of in ("rate", "burst", "tat")):
        return None
    return Budget(
        {d: _pace(fields, d) for d in DIMENSIONS},
        {d: float(fields[f"{d}_tat"]) for d in DIMENSIONS},
        float(fields.get("blocked_until", 0)),
        Ramp(
            float(fields.get("ramp_from", 0)), float(fields.get("ramp_share", 1)), float(fields.get("ramp_growth", 0))
        ),
    )
