"""Advice that comes with a message: probabilities from elsewhere, by name."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("message") as message:
        message.add_column(sa.Column("advice", sa.JSON(), nullable=True))
