"""Conversations held out from the model: the chance with which each was drawn, whether it was, and
with a decision, whether rules alone decided.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def _drawn() -> sa.Column[bool]:
    return sa.Column("held_out", sa.Boolean(), nullable=False, server_default=sa.false())


def upgrade() -> None:
    with op.batch_alter_table("conversation") as conversation:
        conversation.add_column(sa.Column("holdout", sa.Double(), nullable=True))
        conversation.add_column(_drawn())
        conversation.create_index(
            "conversation_held_out",
            ["workspace", "opened_at"],
            sqlite_where=sa.text("held_out"),
            postgresql_where=sa.text("held_out"),
        )
    with op.batch_alter_table("decision") as decision:
        decision.add_column(_drawn())
