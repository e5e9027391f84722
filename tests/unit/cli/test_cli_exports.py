"""Results written out, each form read back with somebody else's reader."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow.parquet
import pytest

from producers.cli import exports
from producers.cli.exports import COLUMNS, WRITERS, export, whole_file
from promptmill.errors import BadInput, MissingExtra
from promptmill.results import Failure, Result, Status, Usage

ANSWERED = Result(
    job_id="a/1",
    status=Status.SUCCEEDED,
    model="claude-haiku-5-5",
    text='He said "hi",\nthen left. \x00 ü',
    message={"id": "msg_1", "stop_reason": "end_turn", "content": []},
    usage=Usage(input_tokens=10, output_tokens=20, service_tier="standard"),
    cost_usd=Decimal("0.000011"),
    quality={"chars": 27, "words": 5, "code_block": False, "similarity": 0.5, "missed": ["format"]},
    tags={"team": "search"},
    run="a",
    position=1,
    finished_at=datetime(2026, 11, 22, tzinfo=UTC),
    latency=timedelta(seconds=1.5),
)
FAILED = Result(
    job_id="a/2",
    status=Status.FAILED,
    error=Failure("invalid_request", "max_tokens: too large", "ours"),
    finished_at=datetime(2026, 11, 22, tzinfo=UTC),
)
HALF_A_PAIR = Result(
    job_id="a/3", status=Status.SUCCEEDED, text="\ud83d", finished_at=datetime(2026, 11, 22, tzinfo=UTC)
)


async def written(form: str, *results: Result) -> bytes:
    async def stream():
        for result in results:
            yield result

    out = io.BytesIO()
    assert await export(stream(), WRITERS[form](out)) == len(results)
    return out.getvalue()


async def test_json_lines_hold_everything():
    lines = (await written("jsonl", ANSWERED, FAILED)).splitlines()
    assert [Result.from_line(json.loads(line)) for line in lines] == [ANSWERED, FAILED]


async def test_half_a_surrogate_pair_is_spelled_out_in_json():
    assert json.loads(await written("jsonl", HALF_A_PAIR))["text"] == "\ud83d"


async def test_csv_keeps_quotes_line_ends_and_every_column():
    answered, failed = csv.DictReader(io.StringIO((await written("csv", ANSWERED, FAILED)).decode(), newline=""))
    assert list(answered) == list(COLUMNS)
    assert answered["text"] == ANSWERED.text
    assert (answered["cost_usd"], answered["output_tokens"], answered["similarity"]) == ("0.000011", "20", "0.5")
    assert json.loads(answered["tags"]) == {"team": "search"}
    assert json.loads(answered["quality"])["missed"] == ["format"]
    assert (failed["status"], failed["error"], failed["text"], failed["output_tokens"]) == (
        "failed",
        "invalid_request",
        "",
        "",
    )


async def test_parquet_has_types_and_nulls(monkeypatch):
    monkeypatch.setattr(exports, "_ROWS_A_GROUP", 2)
    content = await written("parquet", ANSWERED, FAILED, HALF_A_PAIR)
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    assert table.column_names == list(COLUMNS)
    answered, failed, half = table.to_pylist()
    assert answered["text"] == ANSWERED.text
    assert (answered["input_tokens"], answered["code_block"], answered["latency_s"]) == (10, False, 1.5)
    assert (failed["text"], failed["input_tokens"], failed["error"]) == (None, None, "invalid_request")
    assert half["text"] == "\\ud83d"


async def test_no_results_are_a_readable_file_too():
    assert await written("jsonl") == b""
    assert list(csv.DictReader(io.StringIO((await written("csv")).decode()))) == []
    assert pyarrow.parquet.read_table(io.BytesIO(await written("parquet"))).num_rows == 0


async def test_parquet_without_pyarrow_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"promptmill\[parquet\]"):
        await written("parquet")


def test_a_file_is_complete_or_as_it_was(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"before")

    def fail_half_way():
        with whole_file(path) as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_bytes() == b"before"
    with whole_file(path) as stream:
        stream.write(b"after")
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["answers.jsonl"]
    assert path.read_bytes() == b"after"


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(BadInput, match=r"cannot write .*nowhere/answers.csv: No such file"),
        whole_file(tmp_path / "nowhere" / "answers.csv"),
    ):
        pass
