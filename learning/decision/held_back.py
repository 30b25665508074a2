"""Why an offer is not made: a cool-down, or a customer who just said that all is well."""

from __future__ import annotations

from learning.conversation.state import State
from learning.text.settled import says_settled

SETTLED = ("settled", "the customer says that all is well")
"""The cause as a code and in words."""


def is_settled(state: State) -> bool:
    """Whether the newest message is the customer's, and says only that all is well."""
    newest = state.author == "user" and state.signals_id == state.message_id
    return newest and says_settled(state.user.words)


def cooldown_cause(state: State) -> tuple[str, str]:
    """What began the cool-down, as a code and in words; of two things the later."""
    if state.user_since_decline is not None and (
        state.user_since_return is None or state.declined_at >= state.returned_at
    ):
        return "declined", "the customer has just not taken the offer of a person"
    return "returned", "a person has just given the conversation back"
