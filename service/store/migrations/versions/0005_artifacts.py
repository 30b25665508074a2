"""The digest of each published version's files in MLflow, as they were when Baton wrote them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("version", sa.Column("registry_digest", sa.String(), nullable=True))
