"""MLflow pyfunc model of a published version: the loader and `predict`.

A copy of this file lies in every published version beside a copy of `learning` and the state, so
the version needs no installed Baton: `mlflow.pyfunc.load_model` and `mlflow models serve` run it
as it is. It goes the same way as the service, so it gives the same numbers, to the bit.

    model = mlflow.pyfunc.load_model("models:/baton-default@champion")
    model.predict(pandas.DataFrame({"messages": ['[{"id": "1", "author": "user", "text": "Hi"}]']}))
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from learning.conversation.state import BotReport, Message, fold
from learning.ledger import checkpoint

FIELDS = ("id", "author", "text", "at", "language", "bot", "attributes", "event", "advice")


class BatonPyfuncModel:
    """The model of one version. Predicting changes nothing in it."""

    def __init__(self, state: bytes) -> None:
        """Raises learning.ledger.checkpoint.CheckpointError for a state that is not whole."""
        self.model_state = checkpoint.load(state)

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """One row in, one row out: the probability that the newest message needs a person.

        `table` has a column `messages`: a conversation so far as a JSON list, oldest first, each
        message `{id, author, text, at?, language?, bot?, attributes?, event?, advice?}` as Baton's
        score route takes it. `uncertainty` is the variance of the model's score, not negative. A
        conversation that cannot be read raises ValueError, which names its row.
        """
        scores = []
        for row, text in enumerate(table["messages"]):
            try:
                scores.append(self.model_state.score(fold(conversation(text))))
            except (ValueError, TypeError) as error:
                raise ValueError(f"messages of row {row}: {error}") from error
        return pd.DataFrame(
            {
                "probability": [score.probability for score in scores],
                "uncertainty": [score.uncertainty for score in scores],
            },
            index=table.index,
            dtype="float64",
        )


def conversation(text: str) -> list[Message]:
    """The messages of one conversation from their JSON; at least one, the newest last."""
    rows = json.loads(text)
    if not isinstance(rows, list) or not rows:
        raise ValueError("expected a JSON list of at least one message, oldest first")
    return [_message(place, row) for place, row in enumerate(rows, 1)]


def _message(place: int, row: Any) -> Message:
    if not isinstance(row, Mapping):
        raise ValueError(f"message {place} is not an object")
    unknown, missing = sorted(set(row) - set(FIELDS)), [n for n in FIELDS[:3] if n not in row]
    if unknown or missing:
        raise ValueError(f"message {place} has unknown fields {unknown} and lacks {missing}")
    return Message(
        id=str(row["id"]),
        author=str(row["author"]),
        text=str(row["text"]),
        at=_seconds(row.get("at")),
        language=row.get("language"),
        bot=BotReport(**row["bot"]) if row.get("bot") else None,
        attributes=tuple(sorted((row.get("attributes") or {}).items())),
        event=row.get("event"),
        advice=tuple(sorted((row.get("advice") or {}).items())),
    )


def _seconds(at: float | str | None) -> float:
    """A message's time in seconds since the epoch; ISO 8601 is read, UTC where it names no zone."""
    if isinstance(at, str):
        time = datetime.fromisoformat(at)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return float(at or 0.0)


def _load_pyfunc(path: str) -> BatonPyfuncModel:
    return BatonPyfuncModel(Path(path).read_bytes())
