"""Model card in Markdown, the description of the registered model in MLflow: what serves, how it
came to, its measures and its challengers.

MLflow shows the beginning of a description; so what serves comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from experiments.registry.markdown import plain, sentence, table
from service.store.ledger import challenger_rows, mlflow_rows, version_rows
from service.versions import switch_history
from service.versions.mlflow.aliases import CHALLENGER
from service.versions.switch_history import UNDO

MOVES_SHOWN = 10
MEASURES = {"log_loss": "log loss", "auc": "AUC", "ece": "ECE", "n": "lessons"}


def description_key(connection: Connection, workspace: str) -> tuple[Any, ...]:
    """Cheap cache key that changes whenever the description does."""
    newest = switch_history.moves(connection, workspace)[0]
    challengers = tuple(
        (row.id, row.version) for row in challenger_rows.of_workspace(connection, workspace)
    )
    return (
        newest["at"],
        newest["what"],
        challengers,
        mlflow_rows.last_evaluation_id(connection, workspace),
    )


def render_description(connection: Connection, workspace: str) -> str:
    """The model card of a workspace as it is now, in Markdown."""
    moves = switch_history.moves(connection, workspace)
    newest_switch = next(move for move in moves if move["what"] not in ("refused", UNDO))
    version = version_rows.version(connection, workspace, newest_switch["version"])
    recipe = version.recipe if version is not None else "?"
    paragraphs = [
        f"# The line of version {newest_switch['version']} serves",
        f"It is `{recipe}` and goes on learning; the alias `champion` stands at its newest "
        f"checkpoint. {_switch_sentence(newest_switch)}",
    ]
    last = mlflow_rows.last_evaluation(connection, workspace)
    if last is not None:
        paragraphs += _evaluation_paragraphs(last.report)
    if challengers := _challenger_table(connection, workspace):
        paragraphs += ["**What challenges it**", challengers]
    paragraphs += ["**What moved**", _move_table(moves[:MOVES_SHOWN])]
    paragraphs.append(
        "**To change what serves**, open a version, click the pen at *Aliases*, add `champion`. "
        "Baton checks it and follows within ten seconds; a move that it refuses is put back, and "
        "the version's tag `baton.refused` says why. A tag `baton.blocked` on a "
        "version (why it may not serve) blocks it everywhere, and removing the tag lifts that."
    )
    return "\n\n".join(paragraphs)


def _switch_sentence(move: Mapping[str, Any]) -> str:
    who = {"mlflow": "an engineer in MLflow", "jobs": "Baton by itself"}
    how = "put back by a rollback" if move["what"] == "rollback" else "promoted"
    by = who.get(move["actor"], move["actor"])
    return f"It was {how} at {_format_time(move['at'])} by {plain(by)}: {plain(move['reason'])}."


def _challenger_table(connection: Connection, workspace: str) -> str:
    """Table of the challengers, open or waiting to be built, and why they were requested."""
    rows = [
        (
            f"{CHALLENGER}{challenger.slot}",
            challenger.version or challenger.status,
            challenger.recipe,
            challenger.opened_by,
            challenger.why,
        )
        for challenger in challenger_rows.of_workspace(connection, workspace)
    ]
    cells = [[plain(str(cell)) for cell in row] for row in rows]
    return table(("line", "version", "recipe", "asked for by", "why"), cells) if rows else ""


def _evaluation_paragraphs(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for line in report["lines"]:
        measures = line["measures"]["recent"]
        rows.append(
            [plain(line["name"]), *(_format_number(measures.get(name)) for name in MEASURES)]
        )
    return [
        f"**At ledger position {report['position']}: {report['verdict']}.** "
        + sentence(report["sentence"]),
        table(["line", *MEASURES.values()], rows),
        "Over the newest lessons, each scored before it was learned. The newest run has the "
        "figures.",
    ]


def _move_table(moves: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for move in moves:
        version = move["version"] or f"MLflow's {move['registry_version']}"
        cells = (_format_time(move["at"]), move["what"], version, move["actor"], move["reason"])
        rows.append([plain(str(cell)) for cell in cells])
    return table(("when (UTC)", "what", "version", "by", "why"), rows)


def _format_number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _format_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
