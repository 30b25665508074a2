"""Export and import of a model version as a folder in MLflow's model format.

`mlflow models serve -m FOLDER` runs it. An import reads only its state, plain arrays whose digest
is verified; no code from the folder is run.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from experiments.registry import model_package
from learning.decision.teams.team_classifier import RoutingScores
from learning.ledger import checkpoint
from learning.ledger.model_state import ModelState
from learning.measures.prequential import Window
from service.store.conversations import removal
from service.store.database.transactions import Store
from service.store.ledger import entries, version_rows
from service.versions import switches

BYTES_MAX = checkpoint.BYTES_MAX


class NotAVersionError(ValueError):
    """A file or folder holds no version that this build can load."""


def export_version(store: Store, workspace: str, number: int, folder: Path) -> dict[str, Any]:
    """Write a version into a new folder as an MLflow model; gives its lineage tags.

    FileExistsError where the folder is not empty; NotFound.
    """
    with store.read() as connection:
        row = switches.require_version(connection, workspace, number)
        state = version_rows.state(connection, workspace, number) or b""
    digest = checkpoint.digest(checkpoint.load(state))
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    about = lineage_tags(workspace, row)
    model_package.write(folder, f"m-{digest[:32]}", state, time.time(), about)
    return about


def lineage_tags(workspace: str, row: dict[str, Any]) -> dict[str, str]:
    """Lineage of a version as tags for MLflow and for its `MLmodel`."""
    tags = {
        "baton.workspace": workspace,
        "baton.version": row["number"],
        "baton.digest": row["digest"],
        "baton.recipe": row["recipe"],
        "baton.position": row["position"],
        "baton.parent": row["parent"],
        "baton.line": row["line"] or None,
        "baton.without": json.dumps(row["without"]) if row["without"] else None,
        "baton.build": row["build"],
        "baton.commit": row["commit"],
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def import_version(store: Store, workspace: str, path: Path, actor: str) -> dict[str, Any]:
    """Store a version of another installation as one of this workspace; gives its number and
    digest.

    `path` is the folder of an exported or published version, or its `state.npz`. It has learned
    nothing of this ledger: where it is promoted, it learns the ledger's outcomes on top, all that
    are still there. Its measures elsewhere say nothing of it here, and are dropped. Idempotent by
    digest. NotAVersionError, FileNotFoundError.
    """
    model_state, about = _read(path)
    digest = checkpoint.digest(model_state)
    model_state.window, model_state.routed = Window(), RoutingScores()
    with store.write() as connection:
        entries.lock_head(connection, workspace)
        model_state.position = removal.removed_up_to(connection, workspace)
        origin = f"imported: {_origin(about)}, digest {digest[:12]}"
        row = version_rows.newest_with_reason(connection, workspace, origin, 0)
        if row is not None and row.digest == digest:
            number = int(row.number)
        else:
            reason = f"{origin} ({actor})"
            serialized = switches.SerializedState.of(model_state)
            number = switches.save_version(connection, workspace, serialized, line=0, reason=reason)
    return {"version": number, "recipe": model_state.recipe, "digest": digest, "origin": origin}


def _read(path: Path) -> tuple[ModelState, dict[str, str]]:
    file = path / model_package.STATE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no {file}; name a folder that `baton export --version` wrote, one that "
            f"`mlflow artifacts download` fetched, or a {model_package.STATE}"
        )
    if file.stat().st_size > BYTES_MAX:
        raise NotAVersionError(f"{file} has more than {BYTES_MAX} bytes")
    try:
        model_state = checkpoint.load(file.read_bytes())
    except checkpoint.CheckpointError as error:
        raise NotAVersionError(f"{file}: {error}") from error
    about = _metadata(file.with_name("MLmodel"))
    expected_digest = about.get("baton.digest", "")
    if expected_digest and expected_digest != checkpoint.digest(model_state):
        raise NotAVersionError(
            f"{file} has another digest than the MLmodel beside it tells "
            f"({expected_digest[:12]}...): one of them was exchanged; export the version again"
        )
    return model_state, about


def _metadata(mlmodel: Path) -> dict[str, str]:
    """The metadata in an `MLmodel`; empty where it is missing or not Baton's."""
    try:
        metadata = json.loads(mlmodel.read_text(encoding="utf-8")).get("metadata") or {}
    except (OSError, ValueError, AttributeError):
        return {}
    return {str(name): str(value) for name, value in dict(metadata).items()}


def _origin(about: dict[str, str]) -> str:
    if "baton.version" not in about:
        return "of unknown origin"
    return (
        f"version {about['baton.version']} of workspace {about.get('baton.workspace', '?')!r} "
        f"at its position {about.get('baton.position', '?')}"
    )
