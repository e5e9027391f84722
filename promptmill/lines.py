"""A line of a prompt file, or the short form of a job anywhere else, made into a job.

`{"id"?, "prompt" or "params", "model"?, "system"?, "max_tokens"?, "lane"?, "expect"?, "tags"?, ...}`; the Message
Batches form `{"custom_id", "params"}` is taken as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from promptmill.errors import BadJob
from promptmill.jobs import Job, make_job

_JOB_FIELDS: Final = frozenset(Job.model_fields) - {"request"}
_SHORT_FIELDS: Final = frozenset({"prompt", "params", "request", "custom_id", "model", "system", "max_tokens"})
_KNOWN: Final = _JOB_FIELDS | _SHORT_FIELDS


def job_from_line(line: Mapping[str, Any], *, model: str, max_tokens: int, **fixed: Any) -> Job:
    """Return the job that `line` describes.

    `model` and `max_tokens` are used where the line states none; `fixed` fields (run, position, a made-up id) win over
    the line's. Raises BadJob with the field, what was expected and what came.
    """
    for name in line:
        if name not in _KNOWN:
            shown = str(name)[:80]
            near = difflib.get_close_matches(shown, _KNOWN, n=1)
            raise BadJob(f"{shown}: unknown field" + (f"; did you mean {near[0]!r}?" if near else ""))
    bodies = [name for name in ("prompt", "params", "request") if line.get(name) is not None]
    if len(bodies) != 1:
        got = " and ".join(bodies) or "neither"
        raise BadJob(f'prompt: expected either "prompt" (a text) or "params" (a Messages API body), got {got}')
    request = _request(bodies[0], line[bodies[0]], line)
    request.setdefault("model", model)
    request.setdefault("max_tokens", max_tokens)
    fields = {name: line[name] for name in _JOB_FIELDS & line.keys() if line[name] is not None}
    if line.get("custom_id") is not None:
        fields.setdefault("id", line["custom_id"])
    return make_job({**fields, **fixed, "request": request})


def _request(form: str, body: Any, line: Mapping[str, Any]) -> dict[str, Any]:
    beside = {name: line[name] for name in ("model", "system", "max_tokens") if line.get(name) is not None}
    if form == "prompt":
        if not isinstance(body, str) or not body.strip():
            raise BadJob(f"prompt: expected a text that is not blank, got {_kind(body)}")
        return {**beside, "messages": [{"role": "user", "content": body}]}
    if not isinstance(body, Mapping):
        raise BadJob(f"{form}: expected a Messages API body as an object, got {_kind(body)}")
    return {**body, **beside}


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "a text" if value.strip() else "a blank text"
    return type(value).__name__
