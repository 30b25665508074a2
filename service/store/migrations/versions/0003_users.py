"""Users, whose ids are actors; keys that expire, with their maker and last use; the security log,
which no statement changes or removes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "user",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("teams", sa.JSON(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "id"),
    )
    op.execute(
        """INSERT INTO "user" (workspace, id, name, teams, role, made_by, created_at)
        SELECT workspace, name, name, '[]', MIN(role), 'upgrade', MIN(created_at) FROM "key"
        WHERE role <> 'bot' GROUP BY workspace, name"""
    )
    for name, kind in (
        ("expires_at", sa.Double()),
        ("last_used_at", sa.Double()),
        ("made_by", sa.String()),
        ("sealed", sa.String()),
    ):
        op.add_column("key", sa.Column(name, kind, nullable=True))
    op.create_table(
        "security_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


_APPEND_ONLY = {
    "sqlite": [
        f"""CREATE TRIGGER security_event_no_{verb.lower()} BEFORE {verb} ON security_event
        BEGIN SELECT RAISE(ABORT, 'the security log is append-only'); END"""
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        """CREATE FUNCTION security_event_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'the security log is append-only'; END $$""",
        """CREATE TRIGGER security_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
        ON security_event FOR EACH STATEMENT EXECUTE FUNCTION security_event_append_only()""",
    ],
}
