"""Nested runs and the dataset of an evaluation run, as plain values.

Plain values, which `registry` writes; making them needs no mlflow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Curves = Mapping[str, Sequence[tuple[int, float]]]
FILE = "lessons.csv"


@dataclass(frozen=True, slots=True)
class NestedRun:
    """A line beside others, by plain names of measures, so that MLflow draws lines together.

    `metrics` are points at the evaluation's position, `curves` have their own.
    """

    name: str
    metrics: Mapping[str, float]
    curves: Curves = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunDataset:
    """Evaluated lessons as a table of numbers: a file of the run, and an MLflow dataset."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float | None]]

    def csv(self) -> str:
        lines = [",".join("" if x is None else f"{x:.10g}" for x in row) for row in self.rows]
        return "\n".join([",".join(self.columns), *lines]) + "\n"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.csv().encode()).hexdigest()[:8]

    def schema(self) -> str:
        """In MLflow's notation."""
        spec = [{"type": "double", "name": name, "required": False} for name in self.columns]
        return json.dumps({"mlflow_colspec": spec})

    def profile(self) -> str:
        size = {"num_rows": len(self.rows), "num_elements": len(self.rows) * len(self.columns)}
        return json.dumps(size)
