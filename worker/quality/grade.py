"""The grade in the answer of a grading job."""

from __future__ import annotations

from collections.abc import Mapping

from promptmill.grading import BEST_GRADE, GRADES
from worker.quality.reading import Reading


def grade(answer: Reading, tags: Mapping[str, str]) -> float | None:
    """Return on 0..1 the grade that a model gave another answer; None unless the job is one of `promptmill.grading`.

    The tags `grades` and `graded_model` say which answer, and whose. The job's kind names the graded model and its kind
    of prompts, so each of them has a series of grades of its own, for as long as the grader is the same.
    Cannot see: whether the grade is just. Models grade generously, prefer long answers, and can be talked into a grade
    by the text they read; compare grades of one model with one rubric only.
    """
    if GRADES not in tags:
        return None
    said = answer.json_unwrapped
    points = said.get("grade") if isinstance(said, dict) else None
    if not isinstance(points, int) or isinstance(points, bool) or not 0 <= points <= BEST_GRADE:
        return None
    return points / BEST_GRADE
