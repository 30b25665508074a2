"""Which kinds of personal data were redacted in a message, and its original, encrypted, where the
policy keeps it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("message") as message:
        message.add_column(sa.Column("redacted", sa.String(), nullable=True))
    op.create_table(
        "original",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("conversation_id", sa.String(), primary_key=True),
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("sealed", sa.String(), nullable=False),
    )
