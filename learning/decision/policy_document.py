"""Base model of every part of a policy: frozen, and closed to unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PolicyDocument(BaseModel):
    """Pydantic base model of a part of a policy: an immutable value, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
