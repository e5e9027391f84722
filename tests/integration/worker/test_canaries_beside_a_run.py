"""A worker that sends canaries, while it works off a file: both at one pace, neither in the other's figures."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import worker.canaries
from producers.runs import RunOptions, run_file
from promptmill.canaries.rounds import round_name
from promptmill.canaries.schedule import round_at
from promptmill.canaries.standing import standings
from promptmill.jobs import Lane
from promptmill.results import Status
from promptmill.testing.simulator import Simulator, SimulatorConfig
from tests.support.canaries import MODEL, starter

LINES = 250


async def test_canaries_are_answered_while_a_file_of_overnight_prompts_is_worked_off(mill, tmp_path, monkeypatch):
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    sent: asyncio.Queue[str] = asyncio.Queue()
    send = worker.canaries.send_present_round

    async def telling(queue, settings, canaries, model, now):
        queued = await send(queue, settings, canaries, model, now)
        sent.put_nowait(round_name(round_at(now, settings.canary_every)))
        return queued

    monkeypatch.setattr(worker.canaries, "send_present_round", telling)
    file, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Tell me about river number {n}."}) + "\n" for n in range(LINES)))
    async with Simulator(SimulatorConfig()) as simulator:
        settings = {"anthropic_base_url": simulator.base_url, "canaries": "starter", "rpm": 6_000}
        async with mill.worker(**settings):
            summary = await run_file(
                file, out, mill.settings, queue=mill.queue, store=mill.store, options=RunOptions(lane=Lane.OVERNIGHT)
            )
            name = await sent.get()
            await mill.ends.of(*(f"canary/{name}/{MODEL}/{canary.id}" for canary in starter().canaries))

    assert (summary.ok, summary.total, sum(summary.counts.values())) == (True, LINES, LINES)
    assert len(out.read_text().splitlines()) == LINES

    [standing] = standings(await mill.store.canary_answers(since=an_hour_ago))
    assert (standing.model, standing.round, standing.unanswered) == (MODEL, name, 0)
    assert standing.now.answers == len(starter().canaries)
    ended = [result async for result in mill.store.results()]
    assert [result.status for result in ended] == [Status.SUCCEEDED] * (LINES + len(starter().canaries))
    assert not ended[-1].kind.startswith("canary:"), "canaries did not wait for the overnight work to be done"
    assert all(result.cost_usd for result in ended if result.kind.startswith("canary:"))
    by_tenant = {part.group: part.requests for part in await mill.store.spend(since=an_hour_ago, by=("tag", "tenant"))}
    assert by_tenant == {None: LINES, "canary": len(starter().canaries)}
