"""Puts a worker process together. `python -m worker` and `arq worker.main.WorkerSettings` both start here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from signal import Signals
from typing import Any, Final

import click
import structlog

from promptmill.actions import refuse_unknown_metrics
from promptmill.doctor import Level, check_redis, collect_redis
from promptmill.errors import BadSettings, PromptmillError
from promptmill.queue import Queue, keys
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from promptmill.tasks import end
from worker import events
from worker.canaries import Canaries, load_canaries
from worker.engine import PacedWorker, arq_pool, arq_redis_settings, at_each
from worker.leases import Lease
from worker.logs import configure_logs, where
from worker.monitoring.acting import Acting
from worker.monitoring.watcher import Watcher
from worker.observer import Observer
from worker.pipeline import Pipeline
from worker.provider import Provider
from worker.quality import METRICS, PlugIns
from worker.recorder import Recorder
from worker.status_page import StatusPage
from worker.telemetry import exposition, make_meters, start_exporting

LAST_LOOK: Final = timedelta(seconds=5)
"""How long a worker that stops may take for the last answers and what follows from them; others find it later."""


def build_worker(
    settings: Settings,
    *,
    burst: bool = False,
    handle_signals: bool = True,
    orphaned: Callable[[], bool] = lambda: False,
    makes_store: bool = True,
) -> PacedWorker:
    """Return a worker for the Redis that `settings` name; it stops by itself once it is `orphaned`.

    Where there is no result store it makes one, or refuses to begin.

    Raises BadSettings where they name no Redis, no key, or a plug-in that cannot be had, and BadFile for canaries that
    cannot be used.
    """
    if settings.redis_url is None:
        raise BadSettings("redis_url: expected PROMPTMILL_REDIS_URL; `promptmill worker` brings a Redis of its own")
    if settings.anthropic_api_key is None:
        raise BadSettings("no API key: set ANTHROPIC_API_KEY")
    plug_ins = PlugIns.load(settings.quality_plugins)
    try:
        refuse_unknown_metrics(settings.alarm_actions, [metric.name for metric in (*METRICS, *plug_ins.metrics)])
    except ValueError as error:
        raise BadSettings(f"settings: alarm_actions: {error}") from None
    canary_set = load_canaries(settings)
    pool = arq_pool(settings.redis_url)
    queue = Queue(pool)
    canaries = Canaries(queue, settings, canary_set)
    rounds = [] if settings.canaries is None else [at_each(settings.canary_every, canaries.send_round)]

    async def open_resources(
        worker: PacedWorker, stack: contextlib.AsyncExitStack
    ) -> Callable[[Lease], Awaitable[None]]:
        store = await stack.enter_async_context(await ResultStore.open(settings.store, make=makes_store))
        provider = await stack.enter_async_context(Provider(settings))
        recorder = Recorder(store, queue)
        stack.push_async_callback(recorder.close)
        worker.claiming_paused = lambda: recorder.store_is_away
        worker.holds_answers = lambda: recorder.holds_answers
        observer = Observer(queue, settings)
        stack.push_async_callback(observer.close)
        acting = Acting(store, queue, settings.alarm_actions, more_canaries=canaries.send_more)
        worker.holdups.tell = acting.hear
        pipeline = Pipeline(
            settings=settings,
            recorder=recorder,
            provider=provider,
            hear=observer.hear,
            ensure_lease=worker.leases.ensure,
            worker=worker.name,
            plug_ins=plug_ins,
            meters=make_meters(settings.metrics_address),
            uplink=worker.uplink,
            halts=lambda: worker.holdups.halts,
            tell=acting.hear,
        )
        stack.callback(_say_stopped, worker, pipeline)
        if settings.traces:
            stack.push_async_callback(asyncio.to_thread, start_exporting())
        watcher = Watcher(
            store,
            (*METRICS, *plug_ins.metrics),
            name=worker.name,
            false_alarm_every=settings.false_alarm_every,
            tell=acting.poke,
        )
        watching = [asyncio.create_task(helper.keep()) for helper in (watcher, acting)]
        stack.push_async_callback(_watch_the_last, worker, watcher, acting, watching)
        if settings.status_page_url is not None:
            page = StatusPage(settings.status_page_url, queue, worker=worker.name)
            stack.push_async_callback(end, asyncio.create_task(page.keep()))
        await worker.configure({settings.class_of(settings.model)})
        await _say_what_redis_may_lose(settings.redis_url or "")
        return pipeline.run

    return PacedWorker(
        settings,
        queue,
        open_resources=open_resources,
        rounds=rounds,
        redis_pool=pool,
        burst=burst,
        handle_signals=handle_signals,
        orphaned=orphaned,
    )


async def _watch_the_last(
    worker: PacedWorker, watcher: Watcher, acting: Acting, tasks: Sequence[asyncio.Task[None]]
) -> None:
    """Look at the answers that came since the last look, before the worker leaves: nobody else may come after it.

    A fault in it is said, as it is while the worker runs: one that ended so would be started again, a burst for ever.
    """
    await end(*tasks)
    if worker.leaves_at_once:
        return
    try:
        async with asyncio.timeout(LAST_LOOK.total_seconds()):
            await watcher.finish()
            await acting.step()
    except (PromptmillError, TimeoutError):
        pass  # others find it later
    except Exception as error:  # noqa: BLE001 - said
        structlog.get_logger().error(events.HELPER_CRASHED, error=type(error).__name__, where=where(error))


async def _say_what_redis_may_lose(url: str) -> None:
    for finding in check_redis(await collect_redis(url)):
        if finding.level is not Level.OK:
            structlog.get_logger().warning(
                events.REDIS_UNSAFE, subject=finding.subject, says=finding.says, advice=finding.advice
            )


def _say_stopped(worker: PacedWorker, pipeline: Pipeline) -> None:
    tally = pipeline.tally
    structlog.get_logger().info(
        events.WORKER_STOPPED,
        worker=worker.name,
        succeeded=tally.ended[Status.SUCCEEDED],
        failed=tally.ended[Status.FAILED],
        returned=tally.returned,
    )


def __getattr__(name: str) -> Any:
    """Make `WorkerSettings` when the `arq` command asks for it: importing this module reads no settings."""
    if name == "WorkerSettings":
        return arq_settings(Settings.load())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def arq_settings(settings: Settings) -> dict[str, Any]:
    """Return what `arq worker.main.WorkerSettings` starts: an arq worker that hands itself over to a paced one.

    The `arq` command always makes a plain `arq.Worker`. Its start-up hook runs ours and ends with it, so that the
    plain one never polls; the signals that it handles reach ours as the hook's cancellation.
    """
    configure_logs(settings)

    async def run_paced(_ctx: dict[Any, Any]) -> None:
        with exposition(settings):
            worker = build_worker(settings, burst=_arq_was_told_to_burst(), handle_signals=False)
            running = asyncio.create_task(worker.async_run())
            try:
                while not running.done():
                    try:
                        await asyncio.shield(running)
                    except asyncio.CancelledError:
                        worker.handle_sig(Signals.SIGTERM)  # at the second one it hands its jobs back at once
            finally:
                await worker.close()
        raise asyncio.CancelledError  # arq takes it for a shutdown, and it is one

    if settings.redis_url is None:
        raise BadSettings("redis_url: expected PROMPTMILL_REDIS_URL to be set")
    return {
        "functions": [_never_called],
        "queue_name": keys.QUEUE,
        "redis_pool": arq_pool(settings.redis_url),
        "redis_settings": arq_redis_settings(settings.redis_url),
        "on_startup": run_paced,
    }


async def _never_called(_ctx: dict[Any, Any]) -> None:
    """Stand where arq wants at least one function; the plain worker never picks a job."""


def _arq_was_told_to_burst() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("burst"))
