"""Column types that the tables share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Double,
)
from sqlmodel import Field


def json_column() -> Any:
    return Field(sa_column=Column(JSON, nullable=False))


def time_column(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_column=Column(Double, nullable=nullable))
