"""Messages that the customer edited or removed; words to show, and languages."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("message") as message:
        message.add_column(sa.Column("edits", sa.String(), nullable=True))
        message.add_column(sa.Column("removed", sa.Integer(), nullable=True))
    with op.batch_alter_table("conversation") as conversation:
        conversation.add_column(sa.Column("spoken", sa.String(), nullable=True))
    with op.batch_alter_table("decision") as decision:
        decision.add_column(sa.Column("say", sa.JSON(), nullable=True))
        decision.add_column(sa.Column("language", sa.JSON(), nullable=True))
