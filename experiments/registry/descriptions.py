"""Names, descriptions and tags in MLflow, and a prepared view of the runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from experiments.registry.markdown import plain

SOURCE = {"mlflow.user": "baton", "mlflow.source.name": "baton jobs", "mlflow.source.type": "JOB"}
"""Who made a run or a model, as MLflow's pages show it."""

DROPPED_PAGE = """<!doctype html><meta charset="utf-8"><title>Figures dropped</title>
<p>The figures of older evaluations are dropped, because each page takes 2 MB.
<b>report.json</b> beside this file has every number they showed.</p>
"""

WRITTEN = "baton.written"
VIEW = "baton"
COLUMNS = (
    "tags.`baton.verdict`",
    "metrics.`champion/auc`",
    "metrics.`champion/log_loss`",
    "metrics.`previous/log_loss`",
    "params.`champion`",
    "params.`previous`",
)


def model_name(workspace: str) -> str:
    """The registered model of a workspace."""
    return f"baton-{workspace}"


def experiment_name(workspace: str) -> str:
    """The experiment of a workspace."""
    return f"baton/{workspace}"


def experiment_tags(workspace: str) -> dict[str, str]:
    """Description, kind and prepared view of a workspace's experiment."""
    state = json.dumps({"selectedColumns": list(COLUMNS)})
    view = {"name": "Baton", "createdAt": 0, "updatedAt": 0, "state": state}
    return note(about_experiment(workspace)) | {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view),
        "baton.workspace": workspace,
    }


def about_experiment(workspace: str, story: str = "") -> str:
    """The description of an experiment: what is the case now, and how to read all of it."""
    text = Path(__file__).with_name("engineer.md").read_text(encoding="utf-8")
    head = f"{story}\n\n" if story else ""
    return head + text.replace("WORKSPACE", workspace)


def about_model(workspace: str, story: str = "") -> str:
    """The description of a registered model."""
    text = (
        f"The versions of Baton's workspace `{workspace}`: the probability that a conversation's "
        f"newest message needs a person. Evaluations: experiment `{experiment_name(workspace)}`."
    )
    return f"{story}\n\n{text}" if story else text


def note(text: str) -> dict[str, str]:
    """A description as tags: the text, and by what it is known again as Baton's own."""
    return {"mlflow.note.content": text, WRITTEN: _digest(text)}


def is_own(text: str | None, tags: Mapping[str, str]) -> bool:
    """Whether a description is as Baton wrote it; what an engineer wrote is left alone."""
    return not text or WRITTEN not in tags or tags[WRITTEN] == _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def about_version(
    version: int,
    recipe: str,
    position: int,
    parent: int | None,
    reason: str,
    metrics: Mapping[str, float],
) -> str:
    """The description of a version, its figures first: lists show only the beginning."""
    names = {"auc": "AUC", "log_loss": "log loss", "ece": "ECE"}
    figures = ", ".join(f"{label} {metrics[k]:.3f}" for k, label in names.items() if k in metrics)
    text = f"{recipe} at ledger position {position}; Baton's version {version}"
    text += "" if parent is None else f", after version {parent}"
    text += f" ({plain(reason)})." if reason else "."
    return f"{figures}: {text}" if figures else text


ABOUT_VERSIONS = "The measures of each version, at the ledger position where it was saved."
