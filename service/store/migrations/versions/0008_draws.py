"""What each line would have done, and the chance of the disagreement draw, recorded with an audit's
draws; with an outcome, the chance with which its handoff was drawn to be asked about; and with a
version, its block as MLflow last showed it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("audit") as audit:
        audit.add_column(
            sa.Column("disagreement", sa.Double(), nullable=False, server_default=sa.text("0"))
        )
        audit.add_column(sa.Column("actions", sa.JSON(), nullable=True))
    with op.batch_alter_table("outcome") as outcome:
        outcome.add_column(sa.Column("asked", sa.Double(), nullable=True))
    with op.batch_alter_table("version") as version:
        version.add_column(sa.Column("blocked_tag", sa.String(), nullable=True))
