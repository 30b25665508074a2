"""Reopened conversations: does the customer's message say that the bot had not settled their case?

Coming back alone says nothing: they may be grateful, or have another question. That they ask for a
person, or are no further than before, says that a person had been needed.
"""

from __future__ import annotations

from typing import Literal

from learning.conversation.state import State

FRUSTRATION = 0.4
"""From here on a message is upset: "still not working", "this is ridiculous"."""

ReopeningReason = Literal["asked for a person", "asked the same again", "was upset"]


def reopening_reason(ended: State, now: State, *, resolved: bool) -> ReopeningReason | None:
    """Why the customer's newest message (`now`) says that their case was not settled when the
    conversation `ended`; None if it does not.

    A request for a person always does. Where the bot had called it `resolved`, so do nearly the
    same question as before, and anger; where it had not, going on is only going on.
    """
    if now.signals.request is not None:
        return "asked for a person"
    if not resolved:
        return None
    if not set(now.repeat_ids).isdisjoint(ended.user.ids):
        return "asked the same again"
    return "was upset" if now.signals.frustration >= FRUSTRATION else None
