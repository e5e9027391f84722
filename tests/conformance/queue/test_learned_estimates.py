"""What a kind of prompt really takes is learned from its answers and reserved for those to come."""

from __future__ import annotations

import pytest

from promptmill.pacing import Cost, Pace
from promptmill.queue import Settlement, Snooze
from promptmill.results import Status
from tests.support.queues import CLASS, make_submission

REQUEST = {"model": "claude-haiku-5-5", "max_tokens": 1_000, "messages": [{"role": "user", "content": "Hello"}]}


async def submit(bench, job_id, kind="summary", max_tokens=1_000):
    request = {**REQUEST, "max_tokens": max_tokens}
    job = make_submission(job_id, request=request, tags={"kind": kind} if kind else {}, cost=Cost(1, 100, 500))
    await bench.queue.submit([job])


async def answer(bench, used, *, answers=1, status=Status.SUCCEEDED, kind="summary"):
    for number in range(answers):
        await submit(bench, f"answered-{kind}-{number}", kind)
        await bench.queue.settle([Settlement(await bench.claim_one(), status, used=used)])


async def reserved(bench, **about):
    await submit(bench, "next", **about)
    return (await bench.claim_one()).reserved


async def test_what_was_estimated_is_reserved_until_something_is_known(bench):
    await bench.configure()
    assert await reserved(bench) == Cost(1, 100, 500)


async def test_estimates_come_ever_closer_to_what_answers_take(bench):
    await bench.configure()
    await answer(bench, Cost(1, 200, 60))
    assert await bench.redis.hget(f"promptmill:learned:{CLASS}", "summary") == b"11 460.000 1.090909"
    await answer(bench, Cost(1, 200, 60), answers=600)
    assert await reserved(bench) == Cost(1, 200, 61)


async def test_no_more_is_reserved_than_the_longest_answer(bench):
    await bench.configure()
    await answer(bench, Cost(1, 100, 400), answers=10)
    assert await reserved(bench, max_tokens=30) == Cost(1, 100, 30)


@pytest.mark.parametrize("kind", ["other", ""])
async def test_kinds_learn_by_themselves_and_jobs_without_a_kind_not_at_all(bench, kind):
    await bench.configure()
    await answer(bench, Cost(1, 200, 60), answers=3)
    await answer(bench, Cost(1, 200, 60), answers=3, kind="")
    assert await reserved(bench, kind=kind) == Cost(1, 100, 500)


@pytest.mark.parametrize("used", [None, Cost(0, 0, 0)])
async def test_nothing_is_learned_where_nobody_knows_what_was_used(bench, used):
    await bench.configure()
    await answer(bench, used)
    await answer(bench, Cost(1, 100, 1), status=Status.FAILED)
    assert await reserved(bench) == Cost(1, 100, 500)


async def test_what_was_reserved_is_what_is_given_back_whatever_was_learned_since(bench):
    await bench.configure(input=Pace(60_000, 1_000), output=Pace(60_000, 1_000))
    await submit(bench, "early")
    early = await bench.claim_one()
    for _ in range(3):
        bench.clock.advance(3_000)
        await answer(bench, Cost(1, 300, 100))
    before = await bench.tats()
    await bench.queue.settle([Settlement(early, Status.SUCCEEDED, used=Cost(1, 50, 200))])
    after = await bench.tats()
    assert (after["input"] - before["input"], after["output"] - before["output"]) == (-50, -300)


async def test_a_job_that_comes_back_is_estimated_anew_from_what_it_was_submitted_with(bench):
    await bench.configure()
    await answer(bench, Cost(1, 200, 60), answers=20)
    await submit(bench, "job")
    for _ in range(3):
        claim = await bench.claim_one()
        first = claim.reserved
        await bench.queue.snooze(Snooze(claim, used=claim.reserved))
    assert (await bench.claim_one()).reserved == first


async def test_no_stranger_fills_memory_with_names_of_kinds(bench):
    await bench.configure()
    learned = f"promptmill:learned:{CLASS}"
    await bench.redis.hset(learned, mapping={f"k{number}": "11 5 1" for number in range(1_000)})
    await answer(bench, Cost(1, 200, 60), kind="one-too-many")
    assert await bench.redis.hlen(learned) == 1_000


async def test_the_system_prompt_tells_the_kind_where_no_tag_does():
    def kind(**fields):
        return make_submission(request={**REQUEST, **fields}).kind

    assert kind() == ""
    assert kind(system="You are terse.") == kind(system="You are terse.") != kind(system="You are not.")
