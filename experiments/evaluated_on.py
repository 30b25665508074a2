"""The newest lessons as a table: what each line said of them before it learned them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.measured import Line
from experiments.report_page import RECENT
from learning.evaluation import Scores


def evaluated_on(lines: Sequence[Line], most: int = RECENT) -> dict[str, Any]:
    """Columns and rows: ledger position, the lesson's place in its outcome, label, weight, and the
    probability of every line, None where it did not score it. The first line is the yardstick.
    """
    champion, *others = lines
    known = [dict(_places(line.scores, len(line.scores))) for line in others]
    scores = champion.scores
    rows = []
    for key, (p, label, weight) in _places(scores, most):
        others_said = (line.get(key, [None])[0] for line in known)
        rows.append([*key, label, weight, p, *others_said])
    columns = ["position", "lesson", "label", "weight", *(line.role for line in lines)]
    return {"columns": columns, "rows": rows}


def _places(scores: Scores, most: int) -> Iterator[tuple[tuple[int, int], list[Any]]]:
    """By position and place in its outcome: probability, label and weight of the newest lessons."""
    last, place = -1, 0
    first = len(scores) - most
    for row, at in enumerate(scores.position.tolist()):
        last, place = at, place + 1 if at == last else 1
        if row >= first:
            found = (scores.probability[row], scores.label[row], scores.weight[row])
            yield (at, place), [round(float(value), 6) for value in found]
