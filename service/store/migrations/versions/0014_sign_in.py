"""Users who sign in by OpenID Connect, and users that were removed; presence: who is at which
conversation, or in the console at all.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    for name, kind in (
        ("email", sa.String()),
        ("subject", sa.String()),
        ("removed_at", sa.Double()),
    ):
        op.add_column("user", sa.Column(name, kind, nullable=True))
    op.create_index("ix_user_email", "user", ["email"])
    op.create_index("ix_user_subject", "user", ["subject"])
    op.create_table(
        "presence",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "user_id", "place"),
    )
