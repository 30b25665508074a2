"""Connections to other systems: their inbox, the conversations they have, what is sent, and what is
inferred from their events.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

WAITING = sa.text("status = 'waiting'")
OPEN = sa.text("status IN ('waiting', 'sending')")


def upgrade() -> None:
    _connection()
    _inbox()
    _deliveries()
    _inferred()


def _connection() -> None:
    op.create_table(
        "connection",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("secrets", sa.String(), nullable=False),
        sa.Column("previous_secret", sa.String(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("disabled_at", sa.Double(), nullable=True),
        sa.Column("failing_since", sa.Double(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("failed_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("connection_of_workspace", "connection", ["workspace", "id"])
    op.create_table(
        "conversation_link",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.String(), nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("native_id", sa.String(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("heard_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "conversation_id"),
    )
    op.create_index("links_of_connection", "conversation_link", ["connection_id", "heard_at"])


def _inbox() -> None:
    op.create_table(
        "inbox_entry",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.String(), nullable=False),
        sa.Column("occurred_at", sa.Double(), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("connection_id", "key"),
    )
    op.create_index(
        "inbox_waiting",
        "inbox_entry",
        ["workspace", "conversation_id", "occurred_at"],
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    op.create_index("inbox_of_connection", "inbox_entry", ["connection_id", "at"])


def _deliveries() -> None:
    op.create_table(
        "connection_delivery",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("call", sa.String(), nullable=False),
        sa.Column("repeat", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("tried_at", sa.Double(), nullable=True),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.Column("echoed_at", sa.Double(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "calls_open",
        "connection_delivery",
        ["due_at"],
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
    op.create_index(
        "calls_of_conversation",
        "connection_delivery",
        ["connection_id", "conversation_id", "place"],
    )
    op.create_index("calls_of_connection", "connection_delivery", ["connection_id", "created_at"])


def _inferred() -> None:
    op.create_table(
        "inferred_label",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.String(), nullable=False),
        sa.Column("handoff_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("outcome_id", sa.String(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("inferred_of_workspace", "inferred_label", ["workspace", "kind", "at"])
