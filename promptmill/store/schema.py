"""The tables. Names carry a prefix, because a PostgreSQL database is often shared with the app that asks.

No foreign keys: attempts are recorded before the result that they lead to, and a result must be kept even where
nobody wrote down its run.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from promptmill.store.columns import Count, Key, Milliseconds, Picodollars, Tags, Text, Time, json

SCHEMA_VERSION: Final = "0002"
"""The newest revision in `migrations/versions`. Revisions are numbered, so that a later one compares as greater."""

VERSION_TABLE: Final = "promptmill_schema_version"

metadata: Final = sa.MetaData()

results: Final = sa.Table(
    "promptmill_results",
    metadata,
    # Counts upwards as results are recorded; pages of a listing continue after it.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
    sa.Column("job_id", Key, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("model", Text),
    sa.Column("lane", Text, nullable=False),
    sa.Column("run", Key),
    sa.Column("position", Count),
    sa.Column("submitted_at", Time),
    sa.Column("finished_at", Time, nullable=False),
    sa.Column("queue_time_ms", Milliseconds),
    sa.Column("latency_ms", Milliseconds),
    # Usage of the answer; all null where the provider reported none.
    sa.Column("input_tokens", Count),
    sa.Column("output_tokens", Count),
    sa.Column("cache_write_5m_tokens", Count),
    sa.Column("cache_write_1h_tokens", Count),
    sa.Column("cache_read_tokens", Count),
    sa.Column("thinking_tokens", Count),
    sa.Column("service_tier", Text),
    sa.Column("web_searches", Count),
    sa.Column("speed", Text),
    sa.Column("inference_geo", Text),
    sa.Column("cost_pico_usd", Picodollars),
    sa.Column("error_name", Text),
    sa.Column("error_blame", Text),
    sa.Column("error_message", Text),
    sa.Column("request_ref", Text, nullable=False),
    sa.Column("worker", Text),
    # A column, not a table of its own: every result that is read needs its tags, and writing is the hot path. Asking
    # for one tag therefore reads through the rows that the other conditions leave.
    sa.Column("tags", Tags, nullable=False),
    # Quality: every metric in one document, and the ones that people plot and alert on as numbers.
    sa.Column("length_chars", Count),
    sa.Column("length_words", Count),
    sa.Column("length_output_tokens", Count),
    sa.Column("has_code_block", sa.Boolean),
    sa.Column("specific_examples", Count),
    sa.Column("instruction_following", sa.Double),
    sa.Column("similarity", sa.Double),
    sa.Column("quality", json()),
    # Last, because SQLite reads a row from its beginning: what only looks at the columns above never touches these.
    sa.Column("text", Text),
    sa.Column("message", json()),
    sa.Column("rewrites", json()),
    sa.UniqueConstraint("job_id", name="uq_promptmill_results_job_id"),
)
sa.Index("ix_promptmill_results_finished_at", results.c.finished_at, results.c.seq)
_in_a_run = results.c.run.is_not(None)
sa.Index(
    "ix_promptmill_results_run",
    results.c.run,
    results.c.seq,
    sqlite_where=_in_a_run,
    postgresql_where=_in_a_run,
)
sa.Index(
    "ix_promptmill_results_run_position",
    results.c.run,
    results.c.position,
    results.c.seq,
    sqlite_where=_in_a_run,
    postgresql_where=_in_a_run,
)

attempts: Final = sa.Table(
    "promptmill_attempts",
    metadata,
    sa.Column("job_id", Key, primary_key=True),
    sa.Column("number", Count, primary_key=True, autoincrement=False),
    sa.Column("model", Text, nullable=False),
    sa.Column("started_at", Time, nullable=False),
    sa.Column("ended_at", Time, nullable=False),
    sa.Column("outcome", Text, nullable=False),
    sa.Column("status_code", Count),
    sa.Column("request_id", Text),
    sa.Column("first_byte_ms", Milliseconds),
    sa.Column("usage", json()),
    sa.Column("cost_pico_usd", Picodollars),
    sa.Column("error_name", Text),
    sa.Column("error_blame", Text),
    sa.Column("error_message", Text),
    sqlite_with_rowid=False,
)
sa.Index("ix_promptmill_attempts_ended_at", attempts.c.ended_at)

dead_letters: Final = sa.Table(
    "promptmill_dead_letters",
    metadata,
    sa.Column("job_id", Key, primary_key=True),
    sa.Column("reason", Text, nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Column("died_at", Time, nullable=False),
    sa.Column("attempts", Count, nullable=False),
    sa.Column("redrivable", sa.Boolean, nullable=False),
    # Set when the job was sent back to the queue. The row stays until it is purged, so that the same death, recorded
    # once more by a worker that did not hear the answer, does not open it again.
    sa.Column("redriven_at", Time),
    sa.Column("payload", sa.LargeBinary, nullable=False),
)
sa.Index("ix_promptmill_dead_letters_died_at", dead_letters.c.died_at, dead_letters.c.job_id)

runs: Final = sa.Table(
    "promptmill_runs",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("input_name", Text, nullable=False),
    sa.Column("output_name", Text, nullable=False),
    sa.Column("total_lines", Count),
    sa.Column("options", json(), nullable=False),
    sa.Column("started_at", Time, nullable=False),
    sa.Column("finished_at", Time),
)
