"""Every fault that the simulator knows, all at once, at three requests in ten; over TLS whose handshakes fail, too."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import pytest

from promptmill import Job
from promptmill.breaker import LEAST_MS
from promptmill.models import class_of
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.results import Attempt, Result, Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from promptmill.tasks import end
from promptmill.testing.simulator import FAULTS
from tests.support.faults import outcome_of
from tests.support.processes import simulator, valkey, workers
from tests.support.sockets import Server, distrusted_tls, listening
from worker.outcomes import POLICIES, Verdict

RUN: Final = "chaos"
RPM: Final = 60_000
SHARE: Final = 0.3
"""Of the requests that are struck."""
MODELS: Final = ("claude-haiku-5-5", "claude-haiku-4-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-fable-5")
STREAMED_ABOVE: Final = 700
HANDSHAKES_THAT_FAIL: Final = 0.3
PAUSES: Final = 2
"""Requests that each fault strikes after which everybody waits for seconds."""

UNARRIVED: Final = {"tls_failed"}
"""Outcomes of requests that the simulator never saw."""


@pytest.mark.scenario
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("jobs", [800, pytest.param(30_000, marks=pytest.mark.soak)])
async def test_every_fault_is_called_by_its_name_and_every_job_that_can_succeed_does(tmp_path: Path, jobs: int) -> None:
    log = tmp_path / "workers.log"
    with (
        simulator(
            *("--rpm", str(RPM), "--itpm", "0", "--otpm", "0", "--depth", "2", "--seed", "4", "--track"),
            *("--latency", "0.05", "--latency-sigma", "0.8", "--per-token", "0.2", "--tokens", "20"),
        ) as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        api.control(faults=list(_mix(jobs)))
        settings = Settings.load(environ={}, redis_url=url, data_dir=tmp_path)
        queue = Queue(connect(url, reply_timeout=None))
        submissions = [prepare(_job(number), settings) for number in range(jobs)]
        await queue.submit(submissions)
        started = time.monotonic()
        front = ShakyTls(api.base_url, tmp_path)
        async with listening(front) as server:
            with workers(2, _environment(url, f"https://localhost:{server.port}", tmp_path), log):
                await _all_ended(queue, jobs)
        seconds = time.monotonic() - started
        counted = api.stats(keys=True)
        async with await ResultStore.open(settings.store) as store:
            results = [result async for result in store.results(run=RUN)]
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    pairs = [pair for result in results for pair in _pairs(result, counted["met"].get(result.job_id, []))]
    attempts = [attempt for result in results for attempt in result.attempts]
    extra = Counter(attempt.outcome for result in results for attempt in result.attempts[:-1])
    unarrived = Counter(attempt.outcome for attempt in attempts if attempt.outcome in UNARRIVED)
    entries = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    struck = sum(counted["by_fault"].values())
    _print_table(pairs)
    print(
        f"{jobs} jobs in {seconds:.0f} s, {counted['requests']} requests arrived, {struck} of them struck; "
        f"{dict(Counter(result.status.value for result in results))}; "
        f"{front.failed} of {front.handshakes} handshakes failed, {unarrived['tls_failed']} times two in a row; "
        f"{sum(entry['event'] == 'budget_parked' for entry in entries)} times parked"
    )
    print(f"{len(attempts) - jobs} requests beyond one a job, after: {dict(extra.most_common())}")

    assert {result.job_id for result in results} == {submission.job.id for submission in submissions}
    assert len(results) == jobs
    assert left == (0, 0)
    assert [pair for pair in pairs if pair.expected != pair.recorded] == []
    assert {pair.met for pair in pairs} == {*FAULTS, "200"}, "each fault has struck, and the bucket has refused nobody"
    assert struck == pytest.approx(SHARE * counted["requests"], rel=0.15)
    assert [problem for result in results for problem in _problems(result)] == []
    # Whatever arrived is in the store, and whatever is there arrived but for what never could; one a job, and one more
    # after each that the policies say is to be followed by another.
    assert counted["requests"] == len(pairs) == len(attempts) - unarrived.total()
    assert counted["requests"] == jobs + extra.total() - unarrived.total()
    assert _taken_for_outages(entries) == []
    assert unarrived.total() * 2 <= front.failed


def _environment(url: str, address: str, folder: Path) -> dict[str, str]:
    return {
        "PROMPTMILL_REDIS_URL": url,
        "PROMPTMILL_DATA_DIR": str(folder),
        "PROMPTMILL_RPM": str(RPM),
        "PROMPTMILL_ITPM": "10000000000",
        "PROMPTMILL_OTPM": "10000000000",
        "PROMPTMILL_STREAM_ABOVE_TOKENS": str(STREAMED_ABOVE),
        # Shorter than what the simulator calls slow (3 s); few at a time, so that answers come sooner on any machine.
        "PROMPTMILL_FIRST_BYTE_TIMEOUT": "2",
        "PROMPTMILL_READ_TIMEOUT": "2",
        "PROMPTMILL_ATTEMPT_TIMEOUT": "2.9",
        "PROMPTMILL_CONCURRENCY": "12",
        # A mended account is noticed in a tenth of a second, not in minutes.
        "PROMPTMILL_PROBE_INTERVAL": "0.1",
        "PROMPTMILL_SPEND_PROBE_INTERVAL": "0.1",
        "PROMPTMILL_BACKOFF": "0.1",
        "PROMPTMILL_MAX_BACKOFF": "1",
        # Chance alone must end no job: three in ten, twenty times in a row, is nobody's luck.
        "PROMPTMILL_MAX_ATTEMPTS": "20",
        "SSL_CERT_FILE": str(folder / "certificate.pem"),
        "ANTHROPIC_API_KEY": "any",
        "ANTHROPIC_BASE_URL": address,
    }


def _mix(jobs: int) -> Iterator[dict[str, Any]]:
    """Rules that together strike SHARE of all requests; what makes everybody slow down for a minute, now and then."""
    pausing = [name for name in FAULTS if _verdict(name) is Verdict.PAUSE]
    for number, name in enumerate(pausing, start=1):
        yield {"fault": name, "requests": [jobs * number // 5 + place for place in range(PAUSES)]}
    others = [name for name in FAULTS if name not in pausing]
    for number, name in enumerate(others):  # the first rule that strikes wins: the later ones see fewer requests
        yield {"fault": name, "probability": SHARE / len(others) / (1 - SHARE * number / len(others))}


def _verdict(fault: str) -> Verdict:
    return POLICIES[outcome_of(fault, streamed=False)].verdict


def _job(number: int) -> Job:
    model = MODELS[number % len(MODELS)]
    request: dict[str, Any] = {
        "model": model,
        "max_tokens": (500, 1_000)[number // len(MODELS) % 2],
        "messages": [{"role": "user", "content": f"Say in at most ten words what {RUN}/{number} is."}],
    }
    if number % 3 == 0:
        schema = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
        request |= {"tools": [{"name": "tell", "input_schema": schema}], "tool_choice": {"type": "any"}}
    fallbacks = (MODELS[(number + 1) % len(MODELS)],) if number % 4 == 0 else ()
    return Job(id=f"{RUN}/{number}", request=request, run=RUN, fallbacks=fallbacks, keep_result=0)


def _submitted(result: Result) -> Job:
    return _job(int(result.job_id.partition("/")[2]))


@dataclass(frozen=True)
class Pair:
    """One request: what struck it at the simulator, what that is called, and what the worker wrote down."""

    met: str
    expected: str
    recorded: str


def _pairs(result: Result, met: Sequence[str]) -> list[Pair]:
    """Put each request that arrived beside its attempt; a job has one under way at a time, so both are in order."""
    arrived = [attempt.outcome for attempt in result.attempts if attempt.outcome not in UNARRIVED]
    request = _submitted(result).request
    how = {"streamed": request["max_tokens"] > STREAMED_ABOVE, "calls_tools": "tools" in request}
    return [
        Pair(one or "nothing", outcome_of(one, **how) if one else "nothing", outcome or "nothing")
        for one, outcome in itertools.zip_longest(met, arrived)
    ]


def _problems(result: Result) -> Iterator[str]:
    """Say where the policies do not explain that a job went on, or how it ended."""
    job = _submitted(result)
    *before, last = result.attempts
    for attempt, following in itertools.pairwise(result.attempts):
        policy = POLICIES[attempt.outcome]
        onward = policy.fallback and following.model != attempt.model
        if policy.verdict is Verdict.ANSWERED or (policy.verdict is Verdict.FINAL and not onward):
            yield f"{result.job_id} was sent again after {attempt.outcome}"
    policy = POLICIES[last.outcome]
    if result.status is Status.SUCCEEDED:
        if policy.verdict is not Verdict.ANSWERED:
            yield f"{result.job_id} succeeded by {last.outcome}"
    elif result.error is None or result.error.name != last.outcome:
        yield f"{result.job_id} ended with {result.error} after {last.outcome}"
    elif not _may_end(last, before, has_fallback=last.model != job.models[-1]):
        yield f"{result.job_id} ended with {last.outcome}"


def _may_end(last: Attempt, before: Sequence[Attempt], *, has_fallback: bool) -> bool:
    policy = POLICIES[last.outcome]
    if policy.personal:  # its own fault where it has failed before, while others were answered
        return any(attempt.failure for attempt in before)
    return policy.verdict is Verdict.FINAL and not (policy.fallback and has_fallback)


async def _all_ended(queue: Queue, jobs: int) -> None:
    ended = 0
    async with queue.redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.RUN_CHANNEL + RUN)
        async for message in pubsub.listen():
            ended += message["type"] == "message"
            if ended >= jobs:
                return


class ShakyTls:
    """Stands before a plain server with TLS whose handshakes often fail; passes everything else on, bad ends too."""

    def __init__(self, target: str, folder: Path) -> None:
        self._target = urlsplit(target)
        self._tls = distrusted_tls(folder)
        self._random = Random(4)
        self.handshakes = self.failed = 0

    async def __call__(self, _server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handshakes += 1
        if self._random.random() < HANDSHAKES_THAT_FAIL:
            self.failed += 1
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # to a hello that is not HTTP
            await writer.drain()
            return
        await writer.start_tls(self._tls)
        inner_reader, inner_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        ways = [asyncio.create_task(_pipe(reader, inner_writer)), asyncio.create_task(_pipe(inner_reader, writer))]
        try:
            # Cancelled where the test is over before its connections are: not worth a word.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            inner_writer.transport.abort()
            await end(*ways)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


def _taken_for_outages(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return where a breaker opened because nobody was answered any more, which takes LEAST_MS of that.

    Where a budget is parked, and a probe meets another fault, the log says that it opened, too. Of two probes the
    second one may say so late that it has been parked again.
    """
    parked: set[str] = set()
    answered: dict[str, datetime] = {}
    wrong = []
    for entry in sorted(entries, key=lambda entry: entry["timestamp"]):
        at = datetime.fromisoformat(entry["timestamp"])
        match entry["event"]:
            case "budget_parked":
                parked.add(entry["model_class"])
            case "breaker_closed":
                parked.discard(entry["model_class"])
            case "job_ended" if entry["status"] == Status.SUCCEEDED:
                answered[class_of(entry["model"], {})] = at
            case "breaker_opened" if entry["model_class"] not in parked:
                if at - answered[entry["model_class"]] >= timedelta(milliseconds=LEAST_MS):
                    wrong.append(entry)
    return wrong


def _print_table(pairs: Sequence[Pair]) -> None:
    """Print what was injected beside what was recorded."""
    rows: dict[str, Counter[str]] = {}
    for pair in pairs:
        name = pair.recorded if pair.recorded == pair.expected else f"{pair.recorded} (!= {pair.expected})"
        rows.setdefault(pair.met, Counter())[name] += 1
    print()
    for met in sorted(rows, key=lambda met: list(FAULTS).index(met) if met in FAULTS else -1):
        recorded = ", ".join(f"{outcome} {count}" for outcome, count in rows[met].most_common())
        print(f"{met:40} {recorded}")
