"""Turns of the customer that came without a decision, directly before the newest message.

A bot that waits until its customer has finished sends several messages as one: the last to be
decided about, the others as history. What always escalates counts wherever in them it was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from learning.conversation.state import State
from learning.text.signals import EVIDENCE_MAX, TOPICS

PROTECTED_TOPICS = frozenset({"identity", "security", "safety"})


def with_unread(state: State, unread: Sequence[State]) -> State:
    """The state as a policy reads it after `unread` turns, given by the states after each."""
    if not unread or state.signals_id != state.message_id:
        return state
    signals = state.signals
    request, topics, evidence = signals.request, set(signals.topics), dict(signals.evidence)
    for earlier in unread:
        said = dict(earlier.signals.evidence)
        names = PROTECTED_TOPICS.intersection(earlier.signals.topics) - topics
        topics |= names
        if request is None and earlier.signals.request is not None:
            request = earlier.signals.request
            names |= {"request"}
        evidence = {name: said[name] for name in sorted(names) if name in said} | evidence
    return replace(
        state,
        signals=replace(
            signals,
            request=request,
            topics=tuple(topic for topic in TOPICS if topic in topics),
            evidence=tuple(sorted(list(evidence.items())[:EVIDENCE_MAX])),
        ),
    )
