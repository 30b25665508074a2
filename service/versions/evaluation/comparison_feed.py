"""Feed of the comparisons: ended conversations in the order of the world, with the verdicts in
force.

A kept conversation counts by what each line would have done when it was drawn for, which is
recorded with the draw; a handoff by what the challenger would have done before it learned the
verdict. Only stretches count in which the disagreement draw had its full chance: importance weights
are never clipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from experiments.evaluation.decision_costs import JudgedOutcome, line_levels, openings
from learning.estimation.audit_sampling import DISAGREEMENT
from learning.estimation.decision_loss import CONTINUE, LEVELS, DecisionLoss
from learning.ledger.model_state import ModelState
from service.store.labels import comparison_rows
from service.versions.challengers.challenger_lines import CHAMPION, OpenChallenger, actions_in
from service.versions.evaluation.challenger_comparison import DAY, ChallengerComparison

LATE_SECONDS = 2.0
"""A conversation's end is looked for this long after it, when it is surely stored."""

EVENTS_MAX = 2000
"""Most ended conversations of each kind that one pass compares."""

_AT_ONCE = 400
_NEEDED = {"needed": True, "missed": True, "not_needed": False, "fine": False}


@dataclass(frozen=True, slots=True)
class ComparedLines:
    """A champion and a challenger, with what each would have done by outcome (its position)."""

    champion: ModelState
    challenger: OpenChallenger
    loss: DecisionLoss
    outcomes: Mapping[int, JudgedOutcome]
    own: Mapping[int, int]
    other: Mapping[int, int]

    @classmethod
    def of(
        cls,
        champion: ModelState,
        challenger: OpenChallenger,
        outcomes: Mapping[int, JudgedOutcome],
    ) -> ComparedLines:
        loss, first = DecisionLoss.of(champion.policy), openings(outcomes.values())
        own, other = (
            line_levels(state.window.scores(), first, loss)
            for state in (champion, challenger.model_state)
        )
        return cls(champion, challenger, loss, outcomes, own, other)

    def levels(self, position: int) -> tuple[int, int] | None:
        """What both would have done in an outcome that both scored before they learned it."""
        if position not in self.own or position not in self.other:
            return None
        outcome = self.outcomes.get(position)
        rules = CONTINUE if outcome is None else outcome.rule_level
        return max(self.own[position], rules), max(self.other[position], rules)


def advance(
    connection: Connection, workspace: str, lines: ComparedLines, comparison: ChallengerComparison
) -> None:
    """Bring a comparison up to date with what ended, was labelled and was answered since."""
    now = time.time()
    for row in _ended(connection, workspace, comparison, now - LATE_SECONDS):
        if "status" in row._mapping:
            _add_sampled(row, lines, comparison)
        else:
            _add_handoff(connection, workspace, row, lines, comparison)
    add_labelled(lines, comparison)
    _answer(connection, workspace, lines, comparison)
    comparison.fold(now, lines.champion.policy.switching.unanswered_days * DAY)


def _ended(
    connection: Connection, workspace: str, comparison: ChallengerComparison, latest: float
) -> Sequence[Any]:
    """Sampled conversations and handoffs since the last pass, in the order of their end."""
    until = comparison_rows.sampled_until(connection, workspace, latest)
    span = (comparison.until, until, EVENTS_MAX)
    found = [
        ask(connection, workspace, *span)
        for ask in (comparison_rows.sampled, comparison_rows.handed_over)
    ]
    until = min([until, *(rows[-1].ended for rows in found if len(rows) == EVENTS_MAX)])
    comparison.until = max(comparison.until, until)
    rows = [row for kind in found for row in kind if row.ended <= until]
    return sorted(rows, key=lambda row: (row.ended, row.id))


def _add_sampled(row: Any, lines: ComparedLines, comparison: ChallengerComparison) -> None:
    comparison.coin = row.disagreement >= DISAGREEMENT
    actions = row.actions or {}
    if lines.challenger.row.id not in actions:
        return
    pair = (actions[CHAMPION], actions[lines.challenger.row.id])
    if not comparison.coin:
        comparison.ordered.out_of_budget += 1
    elif row.status == "passed" or pair[0] == pair[1]:
        comparison.ordered.agree()
    else:
        _differ(row, row.propensity, pair, lines, comparison)


def _add_handoff(
    connection: Connection,
    workspace: str,
    row: Any,
    lines: ComparedLines,
    comparison: ChallengerComparison,
) -> None:
    if not comparison.coin:
        comparison.ordered.out_of_budget += 1
        return
    if row.by_rule:
        comparison.ordered.agree()
        return
    state = lines.challenger.model_state
    if row.position is not None and row.position <= state.position:
        pair = lines.levels(row.position)
    else:
        actions = actions_in(
            connection,
            workspace,
            row.conversation_id,
            (row.begins, row.seq),
            lines.champion.policy,
            [lines.challenger],
        )
        pair = actions[CHAMPION], actions[lines.challenger.row.id]
    if pair is None:
        return
    if row.action is not None:
        pair = LEVELS[row.action], pair[1]
    if pair[0] == pair[1]:
        comparison.ordered.agree()
    else:
        _differ(row, 1.0, pair, lines, comparison)


def _differ(
    row: Any,
    propensity: float,
    pair: tuple[int, int],
    lines: ComparedLines,
    comparison: ChallengerComparison,
) -> None:
    comparison.differ(row.id, row.conversation_id, row.ended, propensity, lines.loss.gains(*pair))


def add_labelled(lines: ComparedLines, comparison: ChallengerComparison) -> None:
    """Conversations labelled message by message: all of them are known, as they came."""
    for outcome in _new_outcomes(lines, comparison):
        pair = lines.levels(outcome.position)
        if pair is None:
            continue
        comparison.judged += 1
        if not outcome.labelled:
            continue
        if pair[0] == pair[1]:
            comparison.ordered.agree()
            continue
        comparison.differ(
            "", outcome.conversation, outcome.at, 1.0, lines.loss.gains(*pair), outcome.segments
        )
        item = comparison.ordered.items[-1]
        item.answered, item.needed = True, outcome.needed
    comparison.position = lines.champion.position


def _new_outcomes(
    lines: ComparedLines, comparison: ChallengerComparison
) -> Iterator[JudgedOutcome]:
    return (
        outcome
        for outcome in lines.outcomes.values()
        if outcome.counts and outcome.position > comparison.position
    )


def _answer(
    connection: Connection, workspace: str, lines: ComparedLines, comparison: ChallengerComparison
) -> None:
    """Set each conversation's truth by the verdict that is now in force."""
    items = [item for item in comparison.ordered.items if item.name]
    segments = {fact.conversation: fact.segments for fact in lines.outcomes.values()}
    for start in range(0, len(items), _AT_ONCE):
        piece = items[start : start + _AT_ONCE]
        verdicts = comparison_rows.verdicts(connection, workspace, [item.name for item in piece])
        for item in piece:
            verdict = verdicts.get(item.name)
            item.answered, item.needed = verdict is not None, _NEEDED.get(verdict or "")
            item.segments = item.segments or segments.get(item.conversation, ())
