"""A grading is a job: what it asks, how it is linked, and how its answer becomes a metric."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from promptmill.errors import BadJob
from promptmill.expectations import Expectation
from promptmill.grading import GradingSettings, grading_job
from promptmill.jobs import Job, Lane
from promptmill.results import Attempt, Result, Status
from worker.quality import Answer, measure

REQUEST = {
    "model": "claude-haiku-5-5",
    "max_tokens": 100,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "What is a closure?"}],
}
JOB = Job(id="job-1", request=REQUEST, tags={"kind": "faq"}, expect=Expectation(max_words=5), run="run-1", position=3)
RESULT = Result(
    "job-1", Status.SUCCEEDED, model="claude-haiku-5-5-20260801", text="A function with memory.", kind="faq"
)


def test_a_grading_is_an_overnight_job_that_says_what_it_grades() -> None:
    job = grading_job(JOB, RESULT)
    assert (job.id, job.lane, job.run, job.expect) == ("grade-of-job-1", Lane.OVERNIGHT, None, None)
    assert job.tags == {
        "kind": "grades of claude-haiku-5-5: faq",
        "grades": "job-1",
        "graded_model": "claude-haiku-5-5-20260801",
    }


def test_grades_of_a_fallback_are_a_kind_of_their_own_whatever_the_answer_calls_itself() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    fallback = Attempt(2, "claude-opus-5-5", now, now, "succeeded")
    assert grading_job(JOB, replace(RESULT, attempts=(fallback,), kind="")).tags["kind"] == "grades of claude-opus-5-5"


def test_which_answers_are_graded_follows_from_their_ids_and_comes_to_the_share() -> None:
    jobs = [Job(id=f"job-{number}", request=REQUEST) for number in range(10_000)]
    few, more = ({job.id for job in jobs if GradingSettings(share=share).chooses(job, RESULT)} for share in (0.05, 0.5))
    assert few < more, "a larger share keeps those that were chosen"
    assert len(few) == pytest.approx(500, abs=65)
    assert all(GradingSettings(share=1).chooses(job, RESULT) for job in jobs[:100])
    assert not any(GradingSettings().chooses(job, RESULT) for job in jobs)


def test_a_grading_a_failure_and_an_empty_answer_are_not_graded() -> None:
    every = GradingSettings(share=1)
    assert not every.chooses(grading_job(JOB, RESULT), RESULT)
    assert not every.chooses(JOB, Result("job-1", Status.FAILED, text="cut off"))
    assert not every.chooses(JOB, Result("job-1", Status.SUCCEEDED, text=""))


def test_it_asks_the_model_and_by_the_rubric_that_its_owner_names() -> None:
    request = grading_job(JOB, RESULT, model="claude-opus-5-5", rubric="Rhymes.").request
    assert (request["model"], "A good answer is: Rhymes.\n" in request["system"]) == ("claude-opus-5-5", True)


def test_it_hands_over_request_and_answer_whole() -> None:
    material = grading_job(JOB, RESULT).request["messages"][0]["content"]
    asked, answered = material.split("\n\n<answer>\n")
    assert orjson.loads(asked.removeprefix("<request>\n").removesuffix("\n</request>")) == {
        "system": REQUEST["system"],
        "messages": REQUEST["messages"],
    }
    assert answered == "A function with memory.\n</answer>"


def test_an_answer_is_graded_once_also_under_the_longest_id() -> None:
    longest = Job(id="x" * 256, request=REQUEST)
    assert grading_job(longest, RESULT).id == grading_job(longest, RESULT).id != grading_job(JOB, RESULT).id


@pytest.mark.parametrize("text", [None, ""])
def test_where_there_is_no_answer_there_is_nothing_to_grade(text: str | None) -> None:
    with pytest.raises(BadJob, match="expected an answer to grade, got a job that failed without any text"):
        grading_job(JOB, Result("job-1", Status.FAILED, text=text))


def grade(text: str, *, tags: dict[str, str] | None = None) -> Any:
    job = grading_job(JOB, RESULT)
    measured = measure(
        Answer(text, stop_reason="end_turn"),
        request=job.request,
        expectation=None,
        tags=job.tags if tags is None else tags,
    )
    return measured["grade"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"why": "It is right.", "grade": 8}', 0.8),
        ('{"why": "", "grade": 0}', 0.0),
        ('{"why": "", "grade": 10}', 1.0),
        ('```json\n{"why": "", "grade": 5}\n```', 0.5),
        ('{"why": "", "grade": 11}', None),
        ('{"why": "", "grade": -1}', None),
        ('{"why": "", "grade": true}', None),
        ('{"why": "", "grade": "8"}', None),
        ('{"why": ""}', None),
        ("[8]", None),
        ("Eight.", None),
    ],
)
def test_the_grade_is_a_metric_of_the_gradings_own_result(text: str, expected: float | None) -> None:
    assert grade(text) == expected


def test_an_answer_that_only_looks_like_a_grade_is_none() -> None:
    assert grade('{"why": "", "grade": 8}', tags={"kind": "faq"}) is None


def test_what_is_graded_instructs_nobody() -> None:
    """Neither the request nor the answer that is handed over asks the grader for anything."""
    job = grading_job(JOB, Result("job-1", Status.SUCCEEDED, text="Answer in at most 2 words."))
    measured = measure(Answer('{"why": "It is right.", "grade": 8}'), request=job.request, expectation=None)
    assert measured["instructions"] == [{"name": "json_schema", "source": "prompt", "followed": True}]
