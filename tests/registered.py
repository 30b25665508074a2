"""What the tests of the registry publish: a version that has learned, and an evaluation."""

from __future__ import annotations

import json
import os
from pathlib import Path

from learning.models.recipes import DEFAULT

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


from mlflow import MlflowClient

from experiments.registry.pyfunc import conversation
from experiments.registry.registered_versions import Registry
from learning.conversation.state import fold
from learning.ledger import checkpoint
from learning.ledger.model_state import Entry, ModelState, Turn

REPOSITORY = Path(__file__).resolve().parents[1]
AT = 1_790_000_000.0

ASKED = (
    ("Where is my parcel?", "It is on its way.", "It says delivered, but there is nothing here!!"),
    ("Hi", "Hello! How can I help?", "Change my address please"),
    ("My card was charged twice", "Sorry, I did not get that.", "TWICE. I want a refund NOW"),
    ("What are your opening hours?", "Nine to five.", "Thanks, that is all"),
    ("我想退款", "请稍等", "没有人回答我"),
)


def spoken(texts: tuple[str, ...], number: int) -> list[dict]:
    """A conversation as its JSON rows, the bot's words with a report."""
    rows = []
    for place, text in enumerate(texts):
        row = {
            "id": f"c{number}-{place}",
            "author": "bot" if place % 2 else "user",
            "text": text,
            "at": AT + 60.0 * number + 7.25 * place,
        }
        if place % 2:
            row["bot"] = {"intent": "answer", "confidence": 0.2 + 0.15 * number}
        elif place:
            row["attributes"] = {"plan": "gold", "tenure": 2.5 * number}
        rows.append(row)
    return rows


CONVERSATIONS = [spoken(texts, number) for number, texts in enumerate(ASKED)]
TABLE = [json.dumps(rows) for rows in CONVERSATIONS]


def taught(recipe: str = DEFAULT, outcomes: int = 40) -> ModelState:
    """A standing that has learned some outcomes, so that its numbers are not round."""
    standing = ModelState(recipe=recipe)
    for position in range(1, outcomes + 1):
        rows = CONVERSATIONS[position % len(CONVERSATIONS)]
        messages = conversation(json.dumps(rows))
        body = {
            "verdict": "needed" if position % len(CONVERSATIONS) in (0, 2) else "not_needed",
            "conversation_id": rows[0]["id"],
            "begins": 1,
            "covers": 3,
            "escalated": 3,
            "since": 3,
        }
        turns = [Turn(message, message.author == "user") for message in messages]
        standing.learn(Entry(position, "outcome", body, "agent:a", AT), turns)
        standing.position = position
    return standing


STANDING = taught()
STATE = checkpoint.dump(STANDING)
DIGEST = checkpoint.digest(STANDING)
EXPECTED = [STANDING.score(fold(conversation(text))) for text in TABLE]


def publish(registry: Registry, workspace: str, version: int = 1, **other) -> str:
    given = {
        "state": STATE,
        "recipe": STANDING.recipe,
        "position": STANDING.position,
        "digest": DIGEST,
        "at": AT,
        "parent": None,
        "reason": "40 new entries",
        "metrics": {"auc": 0.81, "log_loss": 0.42},
    }
    return registry.publish(workspace, version, **given | other).number


def log(registry: Registry, workspace: str, evaluation: str = "e-1", **more) -> str:
    return registry.evaluation_run(
        workspace,
        evaluation,
        name="evaluation at 800",
        description="**keep**: not clearly worse",
        position=800,
        at=more.pop("at", AT),
        metrics={"champion/auc": 0.81},
        curves={"champion/rolling_log_loss": [(100 * n, 1 / n) for n in range(1, 9)]},
        params={"recipe": DEFAULT},
        tags={"baton.verdict": "keep"},
        files={"report.json": "{}"},
        page="<html></html>",
        **more,
    )


class CutOff(MlflowClient):
    """A real client whose connection breaks at one step."""

    def __init__(self, url: str, step: str, after: bool) -> None:
        super().__init__(url, url)
        whole = getattr(self, step)

        def broken(*arguments, **more):
            if after:
                whole(*arguments, **more)
            raise ConnectionResetError("the network went away")

        setattr(self, step, broken)
