"""What an attempt cost and when it ended, what else is billed, and what was rewritten for Claude Code."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("promptmill_results", sa.Column("web_searches", sa.BigInteger))
    op.add_column("promptmill_results", sa.Column("speed", sa.Text))
    op.add_column("promptmill_results", sa.Column("inference_geo", sa.Text))
    op.add_column("promptmill_results", sa.Column("rewrites", sa.JSON))
    op.add_column("promptmill_attempts", sa.Column("cost_pico_usd", sa.BigInteger))
    op.create_index("ix_promptmill_attempts_ended_at", "promptmill_attempts", ["ended_at"])
