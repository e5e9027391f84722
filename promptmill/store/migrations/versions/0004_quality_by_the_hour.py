"""What the metrics of answers come to by the hour, what others may read of a series, and answers of fallbacks."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "promptmill_quality_hours",
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("asked_model", "model", "kind", "lane", "metric")),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("squares", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("promptmill_series", sa.Column("summary", sa.JSON))
    op.add_column("promptmill_watch", sa.Column("added_up", sa.BigInteger, nullable=False, server_default="0"))
    fell_back = sa.text("sent_model != asked_model")
    op.create_index(
        "ix_promptmill_results_fallbacks",
        "promptmill_results",
        ["finished_at"],
        sqlite_where=fell_back,
        postgresql_where=fell_back,
    )
