"""What is done when there is an alarm, or something else to know."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "promptmill_actions",
        sa.Column("occasion", sa.Text, primary_key=True),
        sa.Column("action", sa.Text, primary_key=True),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("alarm_id", sa.BigInteger),
        sa.Column("about", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("tries", sa.BigInteger, nullable=False),
        sa.Column("due_since", time, nullable=False),
        sa.Column("next_at", time, nullable=False),
        sa.Column("ended_at", time),
        sa.Column("says", sa.Text, nullable=False),
    )
    op.create_index("ix_promptmill_actions_state", "promptmill_actions", ["state"])
    op.create_index("ix_promptmill_actions_alarm_id", "promptmill_actions", ["alarm_id"])
