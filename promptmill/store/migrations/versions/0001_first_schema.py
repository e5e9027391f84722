"""Results, attempts, dead letters, runs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "promptmill_results",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("run", sa.Text),
        sa.Column("position", sa.BigInteger),
        sa.Column("submitted_at", time),
        sa.Column("finished_at", time, nullable=False),
        sa.Column("queue_time_ms", sa.Double),
        sa.Column("latency_ms", sa.Double),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("cache_write_5m_tokens", sa.BigInteger),
        sa.Column("cache_write_1h_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("thinking_tokens", sa.BigInteger),
        sa.Column("service_tier", sa.Text),
        sa.Column("cost_pico_usd", sa.BigInteger),
        sa.Column("error_name", sa.Text),
        sa.Column("error_blame", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("request_ref", sa.Text, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("tags", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("length_chars", sa.BigInteger),
        sa.Column("length_words", sa.BigInteger),
        sa.Column("length_output_tokens", sa.BigInteger),
        sa.Column("has_code_block", sa.Boolean),
        sa.Column("specific_examples", sa.BigInteger),
        sa.Column("instruction_following", sa.Double),
        sa.Column("similarity", sa.Double),
        sa.Column("quality", sa.JSON),
        sa.Column("text", sa.Text),
        sa.Column("message", sa.JSON),
        sa.UniqueConstraint("job_id", name="uq_promptmill_results_job_id"),
    )
    op.create_index("ix_promptmill_results_finished_at", "promptmill_results", ["finished_at", "seq"])
    in_a_run = sa.text("run IS NOT NULL")
    for name, columns in (("run", ["run", "seq"]), ("run_position", ["run", "position", "seq"])):
        op.create_index(
            f"ix_promptmill_results_{name}",
            "promptmill_results",
            columns,
            sqlite_where=in_a_run,
            postgresql_where=in_a_run,
        )
    op.create_table(
        "promptmill_attempts",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("started_at", time, nullable=False),
        sa.Column("ended_at", time, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status_code", sa.BigInteger),
        sa.Column("request_id", sa.Text),
        sa.Column("first_byte_ms", sa.Double),
        sa.Column("usage", sa.JSON),
        sa.Column("error_name", sa.Text),
        sa.Column("error_blame", sa.Text),
        sa.Column("error_message", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "promptmill_dead_letters",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("died_at", time, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("redrivable", sa.Boolean, nullable=False),
        sa.Column("redriven_at", time),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_promptmill_dead_letters_died_at", "promptmill_dead_letters", ["died_at", "job_id"])
    op.create_table(
        "promptmill_runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("input_name", sa.Text, nullable=False),
        sa.Column("output_name", sa.Text, nullable=False),
        sa.Column("total_lines", sa.BigInteger),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("started_at", time, nullable=False),
        sa.Column("finished_at", time),
    )
