"""File runs against a real server and a real store: whole, in order, resumable, paid for once."""
# ruff: noqa: PLR0917 - the parameters of a test are its fixtures

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from unittest.mock import AsyncMock

import pytest

from producers.finish import run_time_left
from producers.runs import CannotWrite, Phase, RunOptions, enqueue_file, run_file, telling
from producers.runs import file_run as file_run_module
from producers.runs.follower import RunFollower
from producers.runs.telling import Teller
from producers.runs.window import Window
from promptmill.errors import BadFile, BadInput, BadSettings, QueueUnavailable, StoreUnavailable
from promptmill.pacing import Pace
from promptmill.queue import Queue, connect, keys
from promptmill.results import Status
from promptmill.store import ResultStore
from promptmill.tasks import end
from tests.support.queues import PLENTY
from tests.unit.producers.signs import until
from tests.unit.producers.tiny_worker import TinyWorker


def write_prompts(path, count: int, *, bad: str = "no such prompt") -> None:
    lines = [{"id": f"q{n}", "prompt": f"prompt {n}{' ' + bad if n % 10 == 3 else ''}"} for n in range(1, count + 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def answers_in(path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ids(count: int) -> list[str]:
    return [f"q{n}" for n in range(1, count + 1)]


@pytest.fixture
def prompts(tmp_path):
    return tmp_path / "prompts.jsonl"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "answers.jsonl"


@pytest.fixture
def run(prompts, out, settings, redis, store):
    """Start the run of the two files; keyword arguments are options, `on_progress` and parts to replace."""

    def run(*, on_progress=lambda _: None, **options):
        parts = {name: options.pop(name, default) for name, default in {"store": store, "out": out}.items()}
        return run_file(
            prompts,
            parts["out"],
            settings,
            queue=Queue(redis),
            store=parts["store"],
            options=RunOptions(**options),
            on_progress=on_progress,
        )

    return run


@pytest.fixture
def serving(server, store):
    """Have a worker at work while the context lasts."""

    @asynccontextmanager
    async def serving(worker: TinyWorker | None = None, *, most: int = 100):
        redis = connect(server.url)
        worker = worker or TinyWorker(Queue(redis), store)
        work = asyncio.create_task(worker.serve(most))
        try:
            yield worker
        finally:
            await end(work)
            await redis.aclose()

    return serving


async def test_a_file_becomes_a_file_of_answers_in_the_same_order(prompts, out, run, serving, redis):
    write_prompts(prompts, 500)
    seen = []
    async with serving() as worker:
        summary = await run(on_progress=seen.append)

    answers = answers_in(out)
    assert [answer["id"] for answer in answers] == ids(500)
    assert [answer["text"] for answer in answers] == [
        json.loads(line)["prompt"].upper() for line in prompts.read_text().splitlines()
    ]
    assert sorted(worker.requests) == sorted({f"{summary.run}/{name}" for name in ids(500)})
    assert summary.ok
    assert (summary.total, summary.counts[Status.SUCCEEDED], summary.usage.input_tokens) == (500, 500, 5_000)
    assert seen[0].phase == Phase.CHECKING
    assert (seen[-1].phase, seen[-1].done, seen[-1].in_queue) == (Phase.DONE, 500, 0)
    assert not list(out.parent.glob("*.partial"))
    assert await redis.keys(f"{keys.RESULT}*") == []


async def test_the_same_command_again_sends_nothing_and_writes_the_same(prompts, out, run, serving):
    write_prompts(prompts, 30, bad="fail")
    async with serving() as worker:
        await run()
        first, sent = out.read_bytes(), len(worker.requests)
        seen = []
        summary = await run(on_progress=seen.append)

    assert out.read_bytes() == first
    assert len(worker.requests) == sent
    assert (summary.ok, summary.answered_before, summary.errors) == (False, 30, {"invalid_request": 3})
    assert seen[-1].notes == ("all 30 lines have their result already: the answers are written again",)
    assert seen[-1].failed == 3


async def test_a_run_tells_how_long_it_will_take_to_whoever_looks(prompts, run, redis, monkeypatch):
    monkeypatch.setattr(telling, "LOOK_AHEAD_EVERY", timedelta(0))
    write_prompts(prompts, 30)
    queue, seen = Queue(redis), []
    await queue.configure("haiku-5-5", {**PLENTY, "requests": Pace(0.5, 1)})  # a request in two minutes
    running = asyncio.create_task(run(on_progress=seen.append))

    async def shows(sign):
        async def does() -> bool:
            return bool(seen) and sign(seen[-1])

        await until(does)

    await shows(lambda progress: progress.in_queue == 30)
    assert seen[-1].time_left is None

    seconds, _ = await redis.time()
    await redis.zadd(keys.IDLE, {"a worker": seconds * 1_000 + 60_000})
    await shows(lambda progress: progress.time_left is not None)
    assert seen[-1].time_left / timedelta(minutes=2) == pytest.approx(30, abs=0.5)
    told = await run_time_left(queue, seen[-1].run)
    assert told / timedelta(minutes=2) == pytest.approx(30, abs=0.5)

    await queue.block("haiku-5-5", timedelta(hours=1), "bad_key")
    await shows(lambda progress: progress.time_left is None)
    assert await run_time_left(queue, seen[-1].run) is None
    await end(running)


async def test_a_redis_that_takes_no_forecast_does_not_hold_the_run_up(prompts, run, serving, monkeypatch):
    monkeypatch.setattr(telling, "say_finish", AsyncMock(side_effect=QueueUnavailable("no memory")))
    write_prompts(prompts, 30)
    seen = []
    async with serving():
        assert (await run(on_progress=seen.append)).ok
    assert {progress.held for progress in seen} == {None}
    telling.say_finish.assert_awaited()


async def test_what_failed_is_sent_again_only_when_asked_for(prompts, out, run, serving, store):
    write_prompts(prompts, 30, bad="fail")
    async with serving() as worker:
        await run()
        assert len(await store.dead_letters()) == 3
        del worker.requests[:]
        worker.failing = "nothing"
        summary = await run(retry_failed=True)

    assert summary.ok
    assert [name.partition("/")[2] for name in worker.requests] == ["q3", "q13", "q23"]
    assert await store.dead_letters() == []
    answers = answers_in(out)
    assert [answer["status"] for answer in answers] == ["succeeded"] * 30
    again = [answer["attempts"] for answer in answers if answer["id"] in {"q3", "q13", "q23"}]
    assert [[attempt["number"] for attempt in attempts] for attempts in again] == [[1, 2]] * 3


async def test_what_is_sent_again_is_no_dead_letter_any_more(prompts, run, redis, store, worker):
    write_prompts(prompts, 30, bad="fail")
    first = asyncio.create_task(run())
    while not first.done():
        await worker.work()
    again = asyncio.create_task(run(retry_failed=True))

    async def closed() -> bool:
        return await redis.zcard(keys.QUEUE) == 3 and not await store.dead_letters()

    await until(closed)
    await end(again)


async def test_what_fails_again_has_its_result_again(prompts, run, serving):
    write_prompts(prompts, 30, bad="fail")
    async with serving() as worker:
        await run()
        summary = await run(retry_failed=True)

    assert summary.counts[Status.FAILED] == 3
    assert len(worker.requests) == 33


async def test_only_so_many_jobs_are_in_redis_at_a_time(prompts, out, run, redis, worker):
    write_prompts(prompts, 900)
    running = asyncio.create_task(run(window=300))
    await until(lambda: redis.zcard(keys.QUEUE))
    largest = await redis.zcard(keys.QUEUE)
    while not running.done():
        largest = max(largest, await redis.zcard(keys.QUEUE))
        await worker.work(50)
    await running

    assert 250 <= largest <= 300
    assert [answer["id"] for answer in answers_in(out)] == ids(900)


async def test_a_run_that_is_cancelled_leaves_its_jobs_queued_and_goes_on_later(prompts, out, run, redis, worker):
    write_prompts(prompts, 100)
    running = asyncio.create_task(run())
    await until(lambda: redis.zcard(keys.QUEUE))
    await worker.work(30)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [path.name for path in out.parent.glob("answers*")] == []
    left = await redis.zcard(keys.QUEUE)
    assert left == 70
    await worker.work(20)
    seen = []
    again = asyncio.create_task(run(on_progress=seen.append))
    while not again.done():
        await worker.work()
    assert (await again).answered_before == 50
    assert len(worker.requests) == 100 == len(set(worker.requests))
    assert seen[-1].notes == ("going on: 50 of 100 lines have their result already",)
    assert len(answers_in(out)) == 100


async def test_a_cancellation_that_gets_lost_on_the_way_is_obeyed_all_the_same(prompts, run, monkeypatch):
    """As up to Python 3.11 in `asyncio.wait_for`, inside which Redis' client writes."""
    write_prompts(prompts, 5)
    looking = asyncio.Event()

    async def loses_it(_teller) -> None:
        looking.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(Teller, "look", loses_it)
    running = asyncio.create_task(run())
    await looking.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_bad_lines_stop_the_run_before_anything_is_sent_or_are_left_out(prompts, out, run, redis, serving):
    prompts.write_text('{"id":"q1","prompt":"x"}\nnonsense\n{"id":"q3","prompt":"y"}\n{"promt":"z"}\n')
    with pytest.raises(BadFile) as caught:
        await run()
    assert [problem.line for problem in caught.value.problems] == [2, 4]
    assert await redis.keys("*") == []
    assert not list(out.parent.glob("answers*"))

    seen = []
    async with serving():
        summary = await run(skip_bad=True, on_progress=seen.append)
    assert [answer["id"] for answer in answers_in(out)] == ["q1", "q3"]
    assert (summary.ok, summary.skipped, summary.total) == (True, 2, 2)
    assert [problem.line for problem in summary.problems] == [2, 4]
    assert seen[-1].notes[0].startswith("2 bad lines are left out; first line 2: expected a JSON object")


async def test_a_changed_file_is_a_new_run_and_says_so(prompts, out, run, serving):
    write_prompts(prompts, 10)
    seen = []
    async with serving() as worker:
        first = await run()
        write_prompts(prompts, 12)
        second = await run(on_progress=seen.append)

    assert first.run != second.run
    assert len(answers_in(out)) == 12
    assert len(worker.requests) == 22
    (note,) = seen[-1].notes
    assert note == (
        f"the prompts or how requests are made of them changed since run {first.run}, "
        "which wrote to answers.jsonl: this is a new run"
    )


async def test_nothing_more_is_sent_of_a_file_that_is_changed_meanwhile(prompts, run, redis, monkeypatch):
    write_prompts(prompts, 1_000)
    real = Window.send

    async def send_and_change(window, piece):
        await real(window, piece)
        write_prompts(prompts, 1_001)

    monkeypatch.setattr(Window, "send", send_and_change)
    with pytest.raises(BadFile, match="was changed while it was being read"):
        await run()
    assert await redis.zcard(keys.QUEUE) == 250


async def test_a_table_with_a_template_is_worked_off_like_any_file(prompts, out, settings, redis, store, serving):
    table = prompts.with_suffix(".csv")
    table.write_text('word,id\nsky,a\n"two\nlines",b\n')
    async with serving():
        await run_file(
            table, out, settings, queue=Queue(redis), store=store, options=RunOptions(template="Explain {word}")
        )
    assert [(answer["id"], answer["text"]) for answer in answers_in(out)] == [
        ("a", "EXPLAIN SKY"),
        ("b", "EXPLAIN TWO\nLINES"),
    ]


async def test_messages_that_never_arrive_are_made_up_for(prompts, out, run, serving, monkeypatch):
    write_prompts(prompts, 200)
    monkeypatch.setattr(RunFollower, "_note", lambda *_: None)
    monkeypatch.setattr(file_run_module, "RECOUNT", file_run_module.TICK)
    async with serving():
        await run()
    assert len(answers_in(out)) == 200


async def test_redis_restarts_in_the_middle(prompts, out, run, server, redis, store, monkeypatch):
    monkeypatch.setattr(file_run_module, "PAUSE", file_run_module.TICK)
    write_prompts(prompts, 200)
    seen = []
    running = asyncio.create_task(run(on_progress=seen.append))
    await until(lambda: redis.zcard(keys.QUEUE))
    worker = TinyWorker(Queue(redis), store)
    await worker.work(70)
    await asyncio.to_thread(server.kill)
    await until(lambda: said(seen, "Redis does not answer"))
    await asyncio.to_thread(server.start)
    while not running.done():
        await worker.work(50)

    assert (await running).ok
    assert seen[-1].held is None
    assert len(worker.requests) == 200 == len(set(worker.requests))
    assert len(answers_in(out)) == 200


async def said(seen, text) -> bool:
    return any(progress.held and text in progress.held for progress in seen)


async def test_jobs_that_redis_lost_are_sent_again_and_answered_ones_are_not(
    prompts, out, run, redis, worker, monkeypatch
):
    monkeypatch.setattr(file_run_module, "RECOUNT", file_run_module.TICK)
    write_prompts(prompts, 200)
    running = asyncio.create_task(run())
    await until(lambda: redis.zcard(keys.QUEUE))
    await worker.work(70)
    await redis.flushall()
    while not running.done():
        await worker.work(50)

    assert (await running).ok
    assert len(worker.requests) == 200 == len(set(worker.requests))
    assert len(answers_in(out)) == 200


async def test_a_redis_that_loses_every_job_is_not_fed_for_ever(prompts, run, redis, monkeypatch):
    monkeypatch.setattr(file_run_module, "RECOUNT", file_run_module.TICK)
    write_prompts(prompts, 5)
    running = asyncio.create_task(run())
    while not running.done():
        await redis.flushall()
    with pytest.raises(QueueUnavailable, match="5 jobs disappeared from Redis 3 times without a result"):
        await running


async def test_workers_that_write_to_another_store_are_noticed(prompts, out, run, serving, tmp_path, redis):
    write_prompts(prompts, 50)
    async with (
        await ResultStore.open(f"sqlite:///{tmp_path / 'other.sqlite'}") as other,
        serving(TinyWorker(Queue(redis), other)),
    ):
        with pytest.raises(BadSettings, match="give both the same PROMPTMILL_STORE_URL"):
            await run()
    assert not list(out.parent.glob("answers*"))


async def test_a_store_that_is_away_for_a_while_is_waited_for(prompts, out, run, worker, monkeypatch):
    """What was announced meanwhile is looked up afterwards, although no message comes twice."""
    monkeypatch.setattr(file_run_module, "PAUSE", file_run_module.TICK)
    write_prompts(prompts, 50)
    hear, recount = Window.hear, Window.recount
    failures = [StoreUnavailable("disk full"), StoreUnavailable("disk full")]
    recounted = asyncio.Event()

    async def fails_twice(window, job_ids):
        if job_ids and failures:
            raise failures.pop()
        await hear(window, job_ids)

    async def tells(window):
        await recount(window)
        recounted.set()

    monkeypatch.setattr(Window, "hear", fails_twice)
    monkeypatch.setattr(Window, "recount", tells)
    seen = []
    running = asyncio.create_task(run(on_progress=seen.append))
    await recounted.wait()  # the look at everything that a new subscription brings with it is over
    await worker.work(25)
    await until(lambda: said(seen, "disk full"))
    await worker.drain()

    async with asyncio.timeout(file_run_module.RECOUNT.total_seconds() / 2):
        await running
    assert len(failures) < 2
    assert len(answers_in(out)) == 50


async def test_a_job_that_failed_just_before_the_run_went_on_is_not_paid_for_again(
    prompts, out, run, redis, worker, monkeypatch
):
    """It ends between the look at the store that opens the run and the moment when its line would be sent."""
    write_prompts(prompts, 10, bad="fail")
    running = asyncio.create_task(run())
    await until(lambda: redis.zcard(keys.QUEUE))
    await end(running)
    real = Window.send

    async def send(window, piece):
        await worker.drain()
        await real(window, piece)

    monkeypatch.setattr(Window, "send", send)
    summary = await run()

    assert summary.counts[Status.FAILED] == 1
    assert len(worker.requests) == 10
    assert await redis.zcard(keys.QUEUE) == 0


async def test_what_is_cancelled_or_expired_counts_as_done_without_an_answer(prompts, out, run, redis, worker, client):
    prompts.write_text(
        '{"id":"a","prompt":"x"}\n{"id":"b","prompt":"x","deadline":"2020-01-01T00:00:00Z"}\n{"id":"c","prompt":"x"}\n'
    )
    running = asyncio.create_task(run())
    await until(lambda: redis.zcard(keys.QUEUE))
    (job_id,) = [name.decode() for name in await redis.zrange(keys.QUEUE, 0, -1) if name.endswith(b"/c")]
    await client.cancel(job_id)
    while not running.done():
        await worker.work()
    summary = await running

    assert [answer["status"] for answer in answers_in(out)] == ["succeeded", "expired", "cancelled"]
    assert not summary.ok


async def test_two_runs_of_one_output_do_not_mix(prompts, run, redis):
    write_prompts(prompts, 5)
    first = asyncio.create_task(run())
    await until(lambda: redis.zcard(keys.QUEUE))
    with pytest.raises(BadInput, match="another promptmill is writing"):
        await run()
    await end(first)


async def test_nothing_is_sent_where_nothing_could_be_written(prompts, run, redis, tmp_path):
    write_prompts(prompts, 5)
    with pytest.raises(CannotWrite):
        await run(out=tmp_path / "absent" / "answers.jsonl")
    assert await redis.keys("*") == []


async def test_a_redis_that_cannot_be_reached_is_said_at_once(prompts, out, run, server):
    write_prompts(prompts, 5)
    server.kill()
    with pytest.raises(QueueUnavailable):
        await run()
    assert not list(out.parent.glob("answers*"))


async def test_results_that_were_removed_from_the_store_are_missed(prompts, out, run, serving, monkeypatch):
    write_prompts(prompts, 5)

    class Forgetful:
        def __init__(self, store) -> None:
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        async def results(self, **conditions):
            async for result in self._store.results(**conditions):
                if not result.job_id.endswith("q2"):
                    yield result

    async with serving() as worker:
        with pytest.raises(StoreUnavailable, match=r"expected 5 results of run .*, got 4"):
            await run(store=Forgetful(worker.store))
    assert not list(out.parent.glob("answers*"))


async def test_a_file_is_enqueued_once_and_followed_by_nobody(prompts, settings, redis, store, worker):
    write_prompts(prompts, 700)
    queue = Queue(redis)

    first = await enqueue_file(prompts, settings, queue=queue)
    again = await enqueue_file(prompts, settings, queue=queue)

    assert (first.total, first.queued, first.there_already) == (700, 700, 0)
    assert (again.run, again.queued, again.there_already) == (first.run, 0, 700)
    await worker.drain()
    assert (await store.run_totals(first.run)).counts == {Status.SUCCEEDED: 700}


async def test_a_bad_file_is_not_enqueued_in_part(prompts, settings, redis):
    prompts.write_text('{"prompt":"x"}\nnonsense\n')
    with pytest.raises(BadFile):
        await enqueue_file(prompts, settings, queue=Queue(redis))
    assert await redis.keys("*") == []

    enqueued = await enqueue_file(prompts, settings, queue=Queue(redis), options=RunOptions(skip_bad=True))
    assert (enqueued.queued, enqueued.skipped) == (1, 1)
