"""Tables of the ledger: its entries, the versions of the model, what was evaluated and changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    Index,
    LargeBinary,
)
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, time_column


class LedgerRow(SQLModel, table=True):
    """An entry of the ledger, the append-only event log; `position` is gapless in a workspace."""

    __tablename__ = "ledger"
    __table_args__ = (Index("ledger_by_kind", "workspace", "kind", "position"),)
    workspace: str = Field(primary_key=True)
    position: int = Field(primary_key=True)
    kind: str
    body: dict[str, Any] = json_column()
    actor: str
    at: float = time_column()


class Version(SQLModel, table=True):
    """A checkpoint. `line` is the switch it descends from, 0 for one that never served.

    `without` is what the line left out while it learned; `registry_version` is its number in
    MLflow once published, and `registry_digest` that of its files there. `build` and `commit` are
    of the code that made it; `blocked` says why it may not be switched to,
    and `blocked_tag` is the same as MLflow last showed it.
    """

    __table_args__ = (
        Index("version_of_line", "workspace", "line", "position"),
        Index("version_of_registry", "workspace", "registry_version", "number"),
    )
    workspace: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    recipe: str
    line: int
    position: int
    digest: str
    parent: int | None
    reason: str
    without: dict[str, Any] = json_column()
    metrics: dict[str, Any] = json_column()
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: float = time_column()
    registry_version: str | None
    build: str
    commit: str | None
    blocked: str | None
    registry_digest: str | None
    blocked_tag: str | None


class Challenger(SQLModel, table=True):
    """A challenger: a model line that learns, or is `frozen`, in the champion's shadow.

    `status` is asked (jobs have yet to build it), open, closed or failed. `state` is its model and
    `duel` its promotion test, both up to `position`; one row of each of the `slot`s 1 to 4 is asked
    or open.
    """

    __table_args__ = (Index("challenger_by_status", "workspace", "status"),)
    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    slot: int
    status: str
    recipe: str
    version: int | None
    frozen: bool
    without: dict[str, Any] = json_column()
    why: str
    opened_by: str
    closed_why: str | None
    closed_by: str | None
    built: int
    position: int
    duel: dict[str, Any] = json_column()
    state: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    asked_at: float = time_column()
    opened_at: float | None = time_column(nullable=True)
    closed_at: float | None = time_column(nullable=True)


class Event(SQLModel, table=True):
    """An event for people: an alarm, a recommendation, a switch, a challenger.

    Ids sort by time; `facts` is plain JSON with a `sentence` in it.
    """

    __table_args__ = (Index("event_of_workspace", "workspace", "id"),)
    id: str = Field(primary_key=True)
    workspace: str
    kind: str
    facts: dict[str, Any] = json_column()
    at: float = time_column()


class Alias(SQLModel, table=True):
    """An MLflow alias as Baton last wrote or saw it: a change since is an engineer's request.

    `intended` is what Baton was about to write (write-ahead): seen at MLflow, it is Baton's own.
    `refused` are the newest requests that were reverted, each with its reason.
    """

    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    registry_version: str | None
    intended: str | None
    refused: list[Any] = json_column()
    at: float = time_column()


class Evaluation(SQLModel, table=True):
    """A finished evaluation; `run_id` is its MLflow run once published."""

    __table_args__ = (
        Index("evaluation_of_workspace", "workspace", "position"),
        Index("evaluation_of_run", "workspace", "run_id", "position"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    position: int
    report: dict[str, Any] = json_column()
    run_id: str | None
    at: float = time_column()
