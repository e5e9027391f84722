"""Metrics of the owner's own: whatever they do, the answer is kept."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from queue import Empty
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from promptmill.actions import PauseLane
from promptmill.errors import BadSettings
from promptmill.settings import Settings
from worker.main import build_worker
from worker.quality import Answer, Metric, PlugIns, Subject, measure
from worker.quality.markdown import find_fences
from worker.quality.plug_ins import Thread
from worker.quality.syntax import code_parses

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "quality-plugins.md"
SUBJECT = Subject(Answer("one two three"), {"model": "claude-haiku-5-5"}, None, {"kind": "demo"})


def metric(of: Callable[[Subject], Any], kind: str = "amount", name: str = "own") -> Metric:
    return Metric(name, kind, "lower", of)  # type: ignore[arg-type]


def patient(*metrics: Metric) -> PlugIns:
    """Plug-ins that a busy machine cannot make late."""
    return PlugIns(metrics, new_thread=lambda: Thread(timedelta(minutes=1)))


@pytest.fixture
def own_metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = ModuleType("own_metrics")
    monkeypatch.setitem(sys.modules, "own_metrics", module)
    return module


def test_a_plug_in_sees_answer_request_expectation_and_tags() -> None:
    seen = patient(metric(lambda subject: len(subject.reading.text) + len(subject.tags["kind"])))
    assert seen.measure(SUBJECT, job="j") == {"own": 17.0}


def test_the_settings_name_plug_ins_and_their_values_stand_beside_the_built_in_ones(own_metrics: ModuleType) -> None:
    own_metrics.vowels = metric(lambda subject: sum(map(subject.answer.text.count, "aeiou")), name="vowels")
    settings = Settings.load(environ={"PROMPTMILL_QUALITY_PLUGINS": '["own_metrics:vowels"]'})
    plug_ins = patient(*PlugIns.load(settings.quality_plugins).metrics)
    measured = measure(
        Answer("one two three"), request={}, expectation=None, also=lambda subject: plug_ins.measure(subject, job="j")
    )
    assert (measured["words"], measured["vowels"]) == (3, 5.0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:x", "cannot import no_such_module:x: ModuleNotFoundError"),
        ("own_metrics:missing", "cannot import own_metrics:missing: AttributeError"),
        ("own_metrics:function", "expected a worker.quality.Metric at own_metrics:function, got function"),
        ("own_metrics:words", "expected a new name, got another metric called 'words'"),
        ("own_metrics:instructions", "expected a new name, got another metric called 'instructions'"),
    ],
)
def test_a_plug_in_that_cannot_be_had_is_refused_by_name(own_metrics: ModuleType, name: str, says: str) -> None:
    own_metrics.function = lambda _subject: 1
    own_metrics.words = metric(lambda _subject: 1, name="words")
    own_metrics.instructions = metric(lambda _subject: 1, name="instructions")
    with pytest.raises(BadSettings, match=says):
        PlugIns.load([name])


def test_the_same_plug_in_twice_is_refused(own_metrics: ModuleType) -> None:
    own_metrics.own = metric(lambda _subject: 1)
    with pytest.raises(BadSettings, match="another metric called 'own'"):
        PlugIns.load(["own_metrics:own", "own_metrics:own"])


@pytest.mark.parametrize("name", ["own_metrics", "own_metrics:", ":own", "own metrics:own", "../own:own"])
def test_a_setting_that_names_no_plug_in_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match="quality_plugins"):
        Settings.load(environ={}, quality_plugins=(name,))


def failing(_subject: Subject) -> float:
    raise KeyError("secret words of an answer")


@pytest.mark.parametrize(
    ("of", "kind", "error"),
    [
        (failing, "amount", "KeyError"),
        (lambda _subject: sys.exit(1), "amount", "RuntimeError"),
        (lambda _subject: 1, "flag", "TypeError"),
        (lambda _subject: "much", "amount", "ValueError"),
        (lambda _subject: [1], "amount", "TypeError"),
        (lambda _subject: -1, "amount", "ValueError"),
        (lambda _subject: math.nan, "score", "ValueError"),
        (lambda _subject: math.inf, "amount", "ValueError"),
        (lambda _subject: 1.1, "score", "ValueError"),
    ],
)
def test_a_faulty_plug_in_is_named_in_the_log_and_costs_its_own_value_only(of: Any, kind: str, error: str) -> None:
    plug_ins = patient(metric(of, kind), metric(lambda _subject: True, "flag", name="good"))
    with capture_logs() as logs:
        assert plug_ins.measure(SUBJECT, job="job-1") == {"own": None, "good": True}
    (entry,) = logs
    assert (entry["event"], entry["job"], entry["metric"], entry["error"]) == ("metric_failed", "job-1", "own", error)
    assert "secret" not in repr(logs)


def test_a_plug_in_may_not_apply() -> None:
    with capture_logs() as logs:
        assert patient(metric(lambda _subject: None)).measure(SUBJECT, job="j") == {"own": None}
    assert logs == []


def test_one_that_does_not_return_is_left_behind() -> None:
    released, returned = threading.Event(), threading.Event()
    thread = Thread(timedelta(milliseconds=10))
    with pytest.raises(Empty):
        thread.call(lambda: released.wait() and returned.set())
    thread.leave()
    assert Thread(timedelta(minutes=1)).call(lambda: 2) == 2
    released.set()
    assert returned.wait(60)


class ScriptedThread:
    """A thread in which some functions never return."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def call(self, function: Callable[[], Any]) -> Any:
        if (value := function()) == "hangs":
            raise Empty
        return value

    def leave(self) -> None:
        pass


def with_scripted_threads(*metrics: Metric) -> PlugIns:
    return PlugIns(metrics, new_thread=ScriptedThread)  # type: ignore[arg-type]


def test_one_that_is_late_three_times_in_a_row_is_switched_off() -> None:
    asked: list[Subject] = []
    plug_ins = with_scripted_threads(
        metric(lambda subject: asked.append(subject) or "hangs"), metric(lambda _subject: 2, name="good")
    )
    with capture_logs() as logs:
        measured = [plug_ins.measure(SUBJECT, job=f"job-{number}") for number in range(5)]
    assert measured == [{"own": None, "good": 2.0}] * 5
    assert len(asked) == 3
    assert [(entry["event"], entry["job"], entry["metric"], entry["off"]) for entry in logs] == [
        ("metric_late", "job-0", "own", False),
        ("metric_late", "job-1", "own", False),
        ("metric_late", "job-2", "own", True),
    ]


def test_one_that_is_late_now_and_then_stays() -> None:
    values = iter(["hangs", "hangs", 1] * 3)
    plug_ins = with_scripted_threads(metric(lambda _subject: next(values)))
    assert [plug_ins.measure(SUBJECT, job="j")["own"] for _ in range(9)] == [None, None, 1.0] * 3


def test_no_worker_starts_without_a_plug_in_that_its_settings_name() -> None:
    settings = Settings(
        redis_url="redis://127.0.0.1:1", anthropic_api_key=SecretStr("key"), quality_plugins=("no_such_module:x",)
    )
    with pytest.raises(BadSettings, match="no_such_module:x"):
        build_worker(settings)


def test_no_worker_starts_with_an_action_for_a_metric_that_none_of_its_plug_ins_is(own_metrics: ModuleType) -> None:
    own_metrics.vowels = metric(lambda _subject: 1, name="vowels")
    settings = Settings(
        redis_url="redis://127.0.0.1:1",
        anthropic_api_key=SecretStr("key"),
        quality_plugins=("own_metrics:vowels",),
        alarm_actions=(PauseLane(do="pause_lane", metric="vowels"), PauseLane(do="pause_lane", metric="vowel")),
    )
    with pytest.raises(BadSettings, match="expected metric to be the name of one, got 'vowel'; did you mean vowels"):
        build_worker(settings)


def test_the_guides_first_example_works(own_metrics: ModuleType) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    exec(find_fences(guide)[0].code, own_metrics.__dict__)
    plug_ins = patient(*PlugIns.load(["own_metrics:EXCLAMATIONS"]).metrics)
    subject = Subject(Answer("Look! There!"), {}, None, {})
    assert plug_ins.measure(subject, job="j") == {"exclamations": 2.0}


@pytest.mark.parametrize("number", range(4))
def test_the_guides_examples_are_at_least_python(number: int) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    fence = find_fences(guide)[number]
    assert fence.language in {"python", "toml"}
    assert code_parses((fence,)) is True
