"""Last week under another policy: its decisions made again, and what they would have come to.

Probabilities are the stored ones and states are folded again from the stored messages, so rules,
hours and thresholds decide as they would have. The work is bounded, and the answer says where it
was cut, and what nobody can know.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from learning.conversation.state import EMPTY, step
from learning.decision.policy import Policy, decide
from learning.decision.routing import suggestion_of
from learning.estimation.off_policy import Action, outlook
from service.outcomes.ground_truth import UNKNOWN, GroundTruth, ground_truth
from service.store.conversations import conversation_rows
from service.store.reports import decision_history

DAY_SECONDS = 86_400
DECISIONS_MAX = 3000
"""Most decisions made again: the newest. They take a second or two beside the scoring."""

_STRENGTH = {"continue": 0, "offer": 1, "escalate": 2}
_ACTIONS: tuple[Action, ...] = ("kept", "offered", "escalated")
_OFFER_OUTCOME = {"accepted": "escalate", "declined": "continue"}


@dataclass(slots=True)
class _Conversation:
    """A conversation's decisions of the time looked at, as made and as they would be made."""

    made: list[Any]
    again: list[str] = field(default_factory=list)
    triggers: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def way(self) -> Action:
        """An offer that would be made where one was made is answered as that was."""
        pairs = zip(self.made, self.again, strict=True)
        return _logged_action(
            (row.answer if row.action == action else None, action) for row, action in pairs
        )

    @property
    def way_made(self) -> Action:
        """As made, an offer came to what its customer answered, if they did."""
        return _logged_action((row.answer, row.action) for row in self.made)

    def is_asked(self, *, made: bool) -> bool:
        """Whether its customer is offered a person at all."""
        return "offer" in ((row.action for row in self.made) if made else self.again)


def _logged_action(answered: Iterable[tuple[str | None, str]]) -> Action:
    """What answers and actions come to: the strongest."""
    return _ACTIONS[max(_STRENGTH[_OFFER_OUTCOME.get(answer or "", action)] for answer, action in answered)]


def preview(
    connection: Connection,
    workspace: str,
    policy: Policy,
    days: float,
    most: int = DECISIONS_MAX,
) -> dict[str, Any]:
    """What the last `days` would have been under `policy`; nothing is changed by asking."""
    now = time.time()
    since = now - days * DAY_SECONDS
    rows = decision_history.decisions(connection, workspace, since, most + 1)
    cut = len(rows) > most
    rows = rows[:most]
    found: dict[str, _Conversation] = {}
    for row in reversed(rows):
        found.setdefault(row.conversation_id, _Conversation([])).made.append(row)
    for name, one in found.items():
        _replay_decision(connection, workspace, name, one, policy)
    complete = {name: one for name, one in found.items() if len(one.again) == len(one.made)}
    truths = ground_truth(connection, workspace, sorted(complete))
    over = {name: one for name, one in complete.items() if _is_evaluable(one, truths[name])}
    return {
        "since": since,
        "until": now,
        "cut": f"only the newest {most} decisions were made again" if cut else None,
        "decisions": _decisions_json(complete.values()),
        "by_trigger": _triggers_json(complete.values()),
        "conversations": {
            "looked_at": len(found),
            "not_over_yet": len(complete) - len(over),
            "without_text": len(found) - len(complete),
            "no_longer_escalated": _count_moved(over, "escalated", True),
            "newly_escalated": _count_moved(over, "escalated", False),
        },
        "as_made": _policy_value(over, truths, policy, made=True),
        "under_this_policy": _policy_value(over, truths, policy, made=False),
        "cannot_know": _cannot_know(over, truths),
    }


def _replay_decision(
    connection: Connection, workspace: str, name: str, one: _Conversation, policy: Policy
) -> None:
    """Make a conversation's decisions again; fewer than were made where text was removed."""
    wanted = {row.seq: row for row in one.made}
    state = EMPTY
    messages = conversation_rows.messages(connection, workspace, name, until=max(wanted))
    for number, row in enumerate(messages, 1):
        if row.seq != number:
            return
        state = step(state, conversation_rows.message_of(row))
        if row.seq in wanted:
            made = wanted[row.seq]
            choice = decide(policy, state, made.probability, partial(suggestion_of, made.route))
            one.again.append(choice.action)
            one.triggers.append(tuple(trigger.name for trigger in choice.triggers))


def _is_evaluable(one: _Conversation, truth: GroundTruth | None) -> bool:
    """Whether its truth can be known by now, and speaks of the time looked at."""
    if truth is None:
        return False
    return truth.source == "audit" or one.way_made == "escalated"


def _policy_value(
    over: Mapping[str, _Conversation],
    truths: Mapping[str, GroundTruth | None],
    policy: Policy,
    *,
    made: bool,
) -> dict[str, Any]:
    cases = [
        replace(truth.of(one.way_made if made else one.way), asked=one.is_asked(made=made))
        for name, one in over.items()
        if (truth := truths[name]) is not None
    ]
    return asdict(outlook(cases, policy.costs, policy.accepting))


def _decisions_json(found: Any) -> dict[str, Any]:
    made: Counter[str] = Counter()
    again: Counter[str] = Counter()
    changed = 0
    for one in found:
        made.update(row.action for row in one.made)
        again.update(one.again)
        pairs = zip(one.made, one.again, strict=True)
        changed += sum(row.action != action for row, action in pairs)
    shown = {
        name: {action: counts[action] for action in _STRENGTH}
        for name, counts in (("as_made", made), ("under_this_policy", again))
    }
    return shown | {"all": made.total(), "changed": changed}


def _triggers_json(found: Any) -> dict[str, dict[str, int]]:
    made: Counter[str] = Counter()
    again: Counter[str] = Counter()
    for one in found:
        made.update(trigger["name"] for row in one.made for trigger in row.triggers)
        again.update(name for names in one.triggers for name in names)
    return {
        name: {"as_made": made[name], "under_this_policy": again[name]}
        for name in sorted({*made, *again})
    }


def _count_moved(over: Mapping[str, _Conversation], way: str, away: bool) -> int:
    """Conversations that leave a way under the policy, or that come to it."""
    return sum((one.way_made == way) == away and (one.way == way) != away for one in over.values())


def _cannot_know(
    over: Mapping[str, _Conversation], truths: Mapping[str, GroundTruth | None]
) -> list[str]:
    def sentences() -> Iterator[str]:
        kept = _count_moved(over, "escalated", True)
        if kept:
            yield (
                f"what customers would have said later in the {kept} conversations that would not "
                "have been escalated; they count as needing a person if one was needed when they "
                "were escalated"
            )
        fresh = _count_moved(over, "escalated", False)
        if fresh:
            yield (
                f"what a person would have found in the {fresh} conversations that would have been "
                "escalated and were not; they count as reviews and complaints found them at their "
                "end, though a person may have come before one was needed"
            )
        unsaid = sum((truths[name] or UNKNOWN).needed is None for name in over)
        if unsaid:
            yield (
                f"what was true of the {unsaid} conversations that nobody has judged: each kind is "
                "taken to be like those of its kind that were"
            )
        if any(one.way == "offered" for one in over.values()):
            yield (
                "who would have accepted an offer that nobody answered, or that was not made: the "
                "policy's own shares are taken"
            )
        yield (
            "what the model would have learned from other conversations being handed over: its "
            "probabilities are those given at the time, and returns, refusals of offers and "
            "cool-downs happen where they happened"
        )
        yield "how a capacity's price would have moved: the price is the one in this policy"

    return list(sentences())
