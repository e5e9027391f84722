"""The tables. Names carry a prefix, because a PostgreSQL database is often shared with the app that asks.

No foreign keys: attempts are recorded before the result that they lead to, and a result must be kept even where
nobody wrote down its run.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from promptmill.store.columns import Count, Key, Milliseconds, Picodollars, Tags, Text, Time, json

SCHEMA_VERSION: Final = "0004"
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
    # With the lane they make the series of an answer. `model` is the name that the provider answered with, `sent_model`
    # the one that the request named: another than `asked_model` after a fallback.
    sa.Column("asked_model", Text),
    sa.Column("sent_model", Text),
    sa.Column("kind", Text),
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

series: Final = sa.Table(
    "promptmill_series",
    metadata,
    sa.Column("asked_model", Key, primary_key=True),
    sa.Column("model", Key, primary_key=True),
    sa.Column("kind", Key, primary_key=True),
    sa.Column("lane", Key, primary_key=True),
    # What `worker.monitoring.Series` keeps. Nobody else reads it.
    sa.Column("state", json(), nullable=False),
    # Whether its owner wants the baselines to stay as they are. The watcher reads it and never writes it.
    sa.Column("frozen", sa.Boolean, nullable=False),
)

alarms: Final = sa.Table(
    "promptmill_alarms",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
    sa.Column("asked_model", Key, nullable=False),
    sa.Column("model", Key, nullable=False),
    sa.Column("kind", Key, nullable=False),
    sa.Column("lane", Key, nullable=False),
    sa.Column("metric", Text, nullable=False),
    sa.Column("direction", Text, nullable=False),
    sa.Column("way", Text, nullable=False),
    sa.Column("since", Time, nullable=False),
    sa.Column("raised_at", Time, nullable=False),
    sa.Column("answers", Count, nullable=False),
    sa.Column("once_in", Count, nullable=False),
    sa.Column("evidence", json(), nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("acknowledged_at", Time),
    sa.Column("resolved_at", Time),
    sa.Column("resolution", Text),
    # False until the watcher has done to the series what its owner's resolution says.
    sa.Column("obeyed", sa.Boolean, nullable=False),
)
sa.Index("ix_promptmill_alarms_raised_at", alarms.c.raised_at, alarms.c.id)

actions: Final = sa.Table(
    "promptmill_actions",
    metadata,
    # An alarm, or what else happened; the name of an action that was configured for it.
    sa.Column("occasion", Key, primary_key=True),
    sa.Column("action", Key, primary_key=True),
    sa.Column("event", Text, nullable=False),
    sa.Column("alarm_id", sa.BigInteger),
    sa.Column("about", json(), nullable=False),
    sa.Column("state", Text, nullable=False),
    # Moves with each try. Whoever moves it takes the action, and nobody else until `next_at`.
    sa.Column("tries", Count, nullable=False),
    sa.Column("due_since", Time, nullable=False),
    sa.Column("next_at", Time, nullable=False),
    sa.Column("ended_at", Time),
    sa.Column("says", Text, nullable=False),
)
sa.Index("ix_promptmill_actions_state", actions.c.state)
sa.Index("ix_promptmill_actions_alarm_id", actions.c.alarm_id)

watch: Final = sa.Table(
    "promptmill_watch",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # Results up to this one have been watched. Moves in the transaction that writes what was found in them.
    sa.Column("seq", sa.BigInteger, nullable=False),
    # The worker that watches, and until when nobody else need try. Only spares work: `seq` keeps two apart.
    sa.Column("watcher", Text, nullable=False),
    sa.Column("held_until", Time, nullable=False),
)
