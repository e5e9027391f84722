"""Ours on a virtual clock: real scripts on a real Valkey, the simulator's exact buckets, hours in seconds."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from promptmill.jobs import Job
from promptmill.models import estimate_input_tokens
from promptmill.queue import Queue, connect
from promptmill.testing.simulator.budget import Budget as Provider
from promptmill.testing.simulator.clock import to_ns
from tests.bench.pacing.cases import Case, Prompts
from tests.bench.pacing.measuring import Figures
from tests.bench.pacing.ours import jobs, settings_for
from tests.bench.pacing.prompts import MEAN_ESSAY
from tests.support.processes import valkey
from tests.support.virtual_fleet import Answer, VirtualFleet, open_budget

_START_MS = 1.8e12


async def measure(case: Case, folder: Path) -> Figures:
    """Let `case.processes` workers drain on a virtual clock for as long as `case` says."""
    assert case.virtual is not None
    with valkey(folder / "virtual") as (url, _):
        async with connect(url) as redis:
            settings = settings_for(case, url, folder)
            clock = [_START_MS]
            queue = Queue(redis, clock=lambda: clock[0])
            await open_budget(queue, settings)
            others = None if case.others is None else case.others.as_drain(0)
            provider = Provider(case.limits, charge_max_tokens=False, foreign=others, now_ns=0)
            fleet = VirtualFleet(queue, clock, provider, settings, answer=_answers(case), workers=case.processes)
            return await _run(case, fleet, provider)


async def _run(case: Case, fleet: VirtualFleet, provider: Provider) -> Figures:
    virtual = case.virtual
    assert virtual is not None
    numbers = itertools.count()
    templates = jobs(case)

    def keep_enough_waiting() -> list[Job]:
        missing = case.waiting - (len(fleet.jobs) - fleet.tally.granted)
        fresh = itertools.islice(numbers, max(0, missing))
        return [templates[n % case.waiting].model_copy(update={"id": f"job-{n}"}) for n in fresh]

    now = timedelta()
    used = {}
    for until in sorted({case.warm_up, virtual, *([case.change.at] if case.change else [])}):
        await fleet.run((until - now) / timedelta(minutes=1), producer=None if now else keep_enough_waiting)
        now = until
        if case.change is not None and now == case.change.at:
            provider.change(case.change.limits, charge_max_tokens=False, foreign=None, now_ns=to_ns(now))
        bucket = provider.buckets[case.bound_by]
        bucket.remaining(to_ns(now))  # others drink as time passes
        used[now] = bucket.granted + bucket.taken_by_others
    minute = timedelta(minutes=1)
    return Figures(
        use=(used[virtual] - used[case.warm_up]) / (case.judged_per_minute * ((virtual - case.warm_up) / minute)),
        early_use=used[virtual] / (case.judged_per_minute * (virtual / minute)),
        granted=fleet.tally.granted,
        refused=len(fleet.tally.refused),
        calls=fleet.tally.claims / max(fleet.tally.granted, 1),
    )


def _answers(case: Case) -> Callable[[Job], Answer]:
    """Return what the provider answers: as the simulator does that the real processes talk to."""
    chance = random.Random(5)

    def answer(job: Job) -> Answer:
        tokens = estimate_input_tokens(job.request)
        if case.prompts is not Prompts.ESSAYS:
            return Answer(tokens, 40, 80 * chance.lognormvariate(0, 0.3))
        length = chance.lognormvariate(math.log(MEAN_ESSAY) - 0.5, 1)
        length = int(min(job.request["max_tokens"], max(1, length)))
        return Answer(tokens, length, 4_500 * chance.lognormvariate(0, 0.2) + 8 * length)

    return answer
