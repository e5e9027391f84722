"""Which series an answer belongs to; the series' states, alarms, and how far the watcher has come."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    key = ("asked_model", "model", "kind", "lane")
    for name in ("asked_model", "sent_model", "kind"):
        op.add_column("promptmill_results", sa.Column(name, sa.Text))
    op.create_table(
        "promptmill_series",
        *(sa.Column(name, sa.Text, primary_key=True) for name in key),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("frozen", sa.Boolean, nullable=False),
    )
    op.create_table(
        "promptmill_alarms",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in (*key, "metric", "direction", "way")),
        sa.Column("since", time, nullable=False),
        sa.Column("raised_at", time, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("once_in", sa.BigInteger, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("acknowledged_at", time),
        sa.Column("resolved_at", time),
        sa.Column("resolution", sa.Text),
        sa.Column("obeyed", sa.Boolean, nullable=False),
    )
    op.create_index("ix_promptmill_alarms_raised_at", "promptmill_alarms", ["raised_at", "id"])
    op.create_table(
        "promptmill_watch",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("watcher", sa.Text, nullable=False),
        sa.Column("held_until", time, nullable=False),
    )
