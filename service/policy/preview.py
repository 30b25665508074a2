"""Policy preview by off-policy evaluation: recent decisions replayed under another policy, and the
value of both.

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

from learning.conversation.state import EMPTY, State, step
from learning.decision.policy import Policy, decide
from learning.decision.teams.routing import suggestion_of
from learning.decision.unread_turns import with_unread
from learning.decision.words.own_phrases import Phrase, PhraseHit, phrase_hits, with_own_phrases
from learning.estimation.off_policy import Action, outlook
from service.outcomes.ground_truth import UNKNOWN, GroundTruth, ground_truth
from service.store.conversations import conversation_rows
from service.store.reports import decision_history

DAY_SECONDS = 86_400
DECISIONS_MAX = 3000
"""Most decisions replayed, the newest. They take a second or two beside the scoring."""

EXAMPLES_MAX = 5
"""Most messages shown for a phrase, the newest."""

_STRENGTH = {"continue": 0, "offer": 1, "escalate": 2}
_ACTIONS: tuple[Action, ...] = ("kept", "offered", "escalated")
_OFFER_OUTCOME = {"accepted": "escalate", "declined": "continue"}


@dataclass(slots=True)
class _Conversation:
    """A conversation's logged decisions and its actions under the other policy."""

    decisions: list[Any]
    new_actions: list[str] = field(default_factory=list)
    triggers: list[tuple[str, ...]] = field(default_factory=list)
    phrase_hits: list[tuple[str, PhraseHit]] = field(default_factory=list)

    @property
    def new_action(self) -> Action:
        """Action under the other policy; an offer that was also made is answered as that was."""
        pairs = zip(self.decisions, self.new_actions, strict=True)
        return _logged_action(
            (row.answer if row.action == action else None, action) for row, action in pairs
        )

    @property
    def logged_action(self) -> Action:
        """Logged action; an offer counts as what its customer answered, if they did."""
        return _logged_action((row.answer, row.action) for row in self.decisions)

    def is_offered(self, *, as_logged: bool) -> bool:
        """Whether its customer is offered a person, as logged or under the other policy."""
        return "offer" in (
            (row.action for row in self.decisions) if as_logged else self.new_actions
        )


def _logged_action(answered: Iterable[tuple[str | None, str]]) -> Action:
    """The strongest action of a conversation, offers counted by their answers."""
    return _ACTIONS[
        max(_STRENGTH[_OFFER_OUTCOME.get(answer or "", action)] for answer, action in answered)
    ]


def preview(
    connection: Connection,
    workspace: str,
    policy: Policy,
    days: float,
    most: int = DECISIONS_MAX,
) -> dict[str, Any]:
    """Evaluate `policy` on the last `days`, beside what was decided; read-only. Gives JSON."""
    now = time.time()
    since = now - days * DAY_SECONDS
    rows = decision_history.decisions(connection, workspace, since, most + 1)
    cut = len(rows) > most
    rows = rows[:most]
    conversations: dict[str, _Conversation] = {}
    for row in reversed(rows):
        conversations.setdefault(row.conversation_id, _Conversation([])).decisions.append(row)
    for name, conversation in conversations.items():
        _replay_decision(connection, workspace, name, conversation, policy)
    complete = {
        name: conversation
        for name, conversation in conversations.items()
        if len(conversation.new_actions) == len(conversation.decisions)
    }
    truths = ground_truth(connection, workspace, sorted(complete))
    evaluable = {
        name: conversation
        for name, conversation in complete.items()
        if _is_evaluable(conversation, truths[name])
    }
    return {
        "since": since,
        "until": now,
        "cut": f"only the newest {most} decisions were made again" if cut else None,
        "decisions": _decisions_json(complete.values()),
        "by_trigger": _triggers_json(complete.values()),
        "phrases": _phrases_json(policy, conversations),
        "conversations": {
            "looked_at": len(conversations),
            "not_over_yet": len(complete) - len(evaluable),
            "without_text": len(conversations) - len(complete),
            "no_longer_escalated": _count_moved(evaluable, "escalated", True),
            "newly_escalated": _count_moved(evaluable, "escalated", False),
        },
        "as_made": _policy_value(evaluable, truths, policy, as_made=True),
        "under_this_policy": _policy_value(evaluable, truths, policy, as_made=False),
        "cannot_know": _cannot_know(evaluable, truths),
    }


def _replay_decision(
    connection: Connection, workspace: str, name: str, conversation: _Conversation, policy: Policy
) -> None:
    """Replay a conversation's decisions; it ends early where text was removed."""
    rows_by_seq = {row.seq: row for row in conversation.decisions}
    state, unread = EMPTY, list[State]()
    messages = conversation_rows.messages(connection, workspace, name, until=max(rows_by_seq))
    for number, row in enumerate(messages, 1):
        if row.seq != number or row.removed is not None:
            return
        message = conversation_rows.message_of(row)
        state = step(state, message)
        if row.seq in rows_by_seq:
            decision = rows_by_seq[row.seq]
            suggest = partial(suggestion_of, decision.route)
            read = with_own_phrases(policy.phrases, state, message)
            choice = decide(
                policy,
                with_unread(read, unread),
                decision.probability,
                suggest,
                held_out=decision.held_out,
            )
            conversation.phrase_hits += [
                (message.id, hit) for hit in phrase_hits(policy.phrases, message, state.language)
            ]
            conversation.new_actions.append(choice.action)
            conversation.triggers.append(tuple(trigger.name for trigger in choice.triggers))
        if row.author == "user" and not row.scored:
            unread.append(with_own_phrases(policy.phrases, state, message))
        elif row.event != "ignored":
            unread.clear()


def _is_evaluable(conversation: _Conversation, truth: GroundTruth | None) -> bool:
    """Whether its ground truth can be known by now, and is about the time previewed."""
    if truth is None:
        return False
    return truth.source == "audit" or conversation.logged_action == "escalated"


def _policy_value(
    evaluable: Mapping[str, _Conversation],
    truths: Mapping[str, GroundTruth | None],
    policy: Policy,
    *,
    as_made: bool,
) -> dict[str, Any]:
    cases = [
        replace(
            truth.of(conversation.logged_action if as_made else conversation.new_action),
            offered=conversation.is_offered(as_logged=as_made),
        )
        for name, conversation in evaluable.items()
        if (truth := truths[name]) is not None
    ]
    return asdict(outlook(cases, policy.costs, policy.accepting))


def _decisions_json(conversations: Any) -> dict[str, Any]:
    old_counts: Counter[str] = Counter()
    new_counts: Counter[str] = Counter()
    changed = 0
    for conversation in conversations:
        old_counts.update(row.action for row in conversation.decisions)
        new_counts.update(conversation.new_actions)
        pairs = zip(conversation.decisions, conversation.new_actions, strict=True)
        changed += sum(row.action != action for row, action in pairs)
    by_policy = {
        name: {action: counts[action] for action in _STRENGTH}
        for name, counts in (("as_made", old_counts), ("under_this_policy", new_counts))
    }
    return by_policy | {"all": old_counts.total(), "changed": changed}


def _triggers_json(conversations: Any) -> dict[str, dict[str, int]]:
    old_counts: Counter[str] = Counter()
    new_counts: Counter[str] = Counter()
    for conversation in conversations:
        old_counts.update(
            trigger["name"] for row in conversation.decisions for trigger in row.triggers
        )
        new_counts.update(name for names in conversation.triggers for name in names)
    return {
        name: {"as_made": old_counts[name], "under_this_policy": new_counts[name]}
        for name in sorted({*old_counts, *new_counts})
    }


def _phrases_json(
    policy: Policy, conversations: Mapping[str, _Conversation]
) -> list[dict[str, Any]]:
    """What each of the policy's own phrases would have caught, with some of it as examples."""
    caught: dict[Phrase, list[dict[str, str]]] = {phrase: [] for phrase in policy.phrases}
    for name, conversation in conversations.items():
        for message, hit in conversation.phrase_hits:
            example = {"conversation_id": name, "message_id": message, "quote": hit.quote}
            caught[hit.phrase].append(example)
    return [
        phrase.model_dump() | {"messages": len(found), "examples": found[-EXAMPLES_MAX:][::-1]}
        for phrase, found in caught.items()
    ]


def _count_moved(evaluable: Mapping[str, _Conversation], action: str, away: bool) -> int:
    """Conversations whose action changes from `action`, or to it (`away` False)."""
    return sum(
        (conversation.logged_action == action) == away
        and (conversation.new_action == action) != away
        for conversation in evaluable.values()
    )


def _cannot_know(
    evaluable: Mapping[str, _Conversation], truths: Mapping[str, GroundTruth | None]
) -> list[str]:
    def sentences() -> Iterator[str]:
        kept = _count_moved(evaluable, "escalated", True)
        if kept:
            yield (
                f"what customers would have said later in the {kept} conversations that would not "
                "have been escalated; they count as needing a person if one was needed when they "
                "were escalated"
            )
        fresh = _count_moved(evaluable, "escalated", False)
        if fresh:
            yield (
                f"what a person would have found in the {fresh} conversations that would have been "
                "escalated and were not; they count as reviews and complaints found them at their "
                "end, though a person may have come before one was needed"
            )
        unsaid = sum((truths[name] or UNKNOWN).needed is None for name in evaluable)
        if unsaid:
            yield (
                f"what was true of the {unsaid} conversations that nobody has judged: each kind is "
                "taken to be like those of its kind that were"
            )
        if any(conversation.new_action == "offered" for conversation in evaluable.values()):
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
