"""Handoffs that a person or a bot opened, raised ones, offers that wait for an answer, and who
spoke, in what format, with what attached.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("handoff") as handoff:
        handoff.alter_column("decision_id", existing_type=sa.String(), nullable=True)
        handoff.add_column(
            sa.Column("opened_by", sa.String(), nullable=False, server_default="decision")
        )
        handoff.add_column(sa.Column("reason", sa.String(), nullable=True))
        handoff.add_column(sa.Column("opening_note", sa.String(), nullable=True))
        handoff.add_column(sa.Column("raised_at", sa.Double(), nullable=True))
    with op.batch_alter_table("conversation") as conversation:
        conversation.add_column(sa.Column("offer_id", sa.String(), nullable=True))
    with op.batch_alter_table("message") as message:
        message.add_column(sa.Column("agent", sa.String(), nullable=True))
        message.add_column(sa.Column("format", sa.String(), nullable=True))
        message.add_column(sa.Column("attachments", sa.JSON(), nullable=True))
