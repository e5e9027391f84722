"""Everything is asked for again: at once, from several processes, afterwards, and after Redis has forgotten it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from producers import Client, KeyReused, Submitted
from promptmill.queue import keys
from tests.support.processes import simulator, valkey, workers

JOBS: Final = 200
PRODUCERS: Final = 3


@pytest.mark.scenario
@pytest.mark.timeout(120)
async def test_however_often_a_job_is_asked_for_it_is_one_call_and_everybody_gets_the_answer(tmp_path: Path) -> None:
    asked = [_fields(number) for number in range(JOBS)]
    with (
        simulator("--tier", "none", "--latency", "0.1", "--per-token", "0", "--track") as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        environment = {
            "PROMPTMILL_REDIS_URL": url,
            "PROMPTMILL_DATA_DIR": str(tmp_path),
            "PROMPTMILL_RPM": "10000000",
            "PROMPTMILL_ITPM": "10000000000",
            "PROMPTMILL_OTPM": "10000000000",
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": api.base_url,
        }
        async with Client(url) as client:
            # A click before any worker is there, and another one with the same key that asks something else.
            first = [await client.submit(**fields) for fields in asked[:2]]
            await _refuses_what_else_is_asked(client)
            with workers(2, environment, tmp_path / "workers.log"):
                at_once = await asyncio.gather(*(_ask_in_a_process(url, asked) for _ in range(PRODUCERS)))
                waited = [await handle.result() for handle in first]
                texts = {answer["id"]: answer["text"] for answer in at_once[0]}

                again = [await client.submit(**fields) for fields in asked]
                afterwards = [await handle.result() for handle in again]
                await _refuses_what_else_is_asked(client)

                await client.queue.redis.delete(*(keys.RESULT + job_id for job_id in texts))
                forgotten = [await client.submit(**fields) for fields in asked]
                out_of_the_store = [await handle.result() for handle in forgotten]
                await client.queue.redis.delete(*(keys.RESULT + job_id for job_id in texts))
                with pytest.raises(KeyReused):  # only the answer out of the store tells
                    await client.ask("Say something else.", idempotency_key="click 1")
        counted = api.stats(keys=True)

    answers = [answer for process in at_once for answer in process]
    asks = len(answers) + len(again) + len(forgotten) + len(first)
    print(
        f"\n{JOBS} jobs asked for {asks} times by {PRODUCERS + 1} processes: {counted['requests']} requests, "
        f"{counted['requests'] - JOBS} more than jobs; {counted['billed']} answers paid for"
    )
    assert len(answers) == 2 * PRODUCERS * JOBS
    assert len(texts) == JOBS
    assert all(texts.values())
    assert [
        answer for answer in answers if (answer["status"], answer["text"]) != ("succeeded", texts[answer["id"]])
    ] == []
    assert {handle.submitted for handle in again} == {Submitted.ENDED_ALREADY}
    assert {handle.submitted for handle in forgotten} == {Submitted.QUEUED}
    for results in (afterwards, out_of_the_store, waited):
        assert {result.job_id: result.text for result in results}.items() <= texts.items()
    assert counted["requests"] == counted["billed"] == JOBS
    assert {count["requests"] for count in counted["contents"].values()} == {1}


def _fields(number: int) -> dict[str, Any]:
    """One half has ids of its own, the other half idempotency keys."""
    named = {"id": f"order/{number}"} if number % 2 == 0 else {"idempotency_key": f"click {number}"}
    return {"prompt": f"Say in at most ten words what {number} is.", **named}


async def _refuses_what_else_is_asked(client: Client) -> None:
    with pytest.raises(KeyReused):
        await client.submit("Say something else.", idempotency_key="click 1")


async def _ask_in_a_process(url: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.asking", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await process.communicate(orjson.dumps(asked))
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return list(orjson.loads(output))
