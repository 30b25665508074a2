"""The bot of the try-it chat: a few answers by a word, and what it says to Baton's decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from learning.conversation.state import BotReport, Message

ANSWERS = {
    "hour": ("opening_hours", "We are open from 8 to 18, on Saturdays until 14."),
    "open": ("opening_hours", "We are open from 8 to 18, on Saturdays until 14."),
    "parcel": ("tracking", "Parcels take two to three days. Your mail has the tracking link."),
    "order": ("tracking", "Orders leave us within a day. Your mail has the tracking link."),
    "return": ("returns", "You can send it back within 30 days; the label is in the box."),
    "refund": ("returns", "A refund takes up to five days after we have the parcel."),
    "pay": ("payment", "You can pay by card, by invoice or on delivery."),
    "hello": ("greeting", "Hello! Ask me about orders, returns, payment or opening hours."),
    "thank": ("thanks", "You are welcome."),
}
LOST = "Sorry, I did not get that. I know about orders, returns, payment and opening hours."
SAYS = {
    "escalate": "A person takes over now.",
    "offer": "Would you like to talk to a person?",
    "accepted": "I get you a person now.",
    "declined": "All right, let us go on.",
    "returned": "I am back. What else can I do?",
}


def answer(text: str) -> tuple[str, BotReport]:
    """What the bot answers, and what it reports of its own work."""
    said = text.lower()
    for word, (intent, words) in ANSWERS.items():
        if word in said:
            return words, BotReport(intent=intent)
    return LOST, BotReport(fallback=True)


def turn_after(decision: Mapping[str, Any], text: str, message_id: str) -> Message | None:
    """The bot's turn after a decision about the customer's words; none where a person is there."""
    action = decision["action"]
    if action == "human_active":
        return None
    words, report = answer(text) if action == "continue" else (SAYS[action], BotReport())
    if decision.get("say"):
        words = decision["say"]["text"]
    return Message(message_id, "bot", words, 0.0, bot=report)
