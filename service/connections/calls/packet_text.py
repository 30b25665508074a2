"""Text of a handoff's packet, as an agent reads it in a note of their helpdesk.

Lines of the customer's are quoted in one line each and numbered, so that a verdict can name one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TURNS_MAX, LINE_CHARS_MAX, FACTS_MAX = 12, 160, 8


def packet_text(
    handoff: Mapping[str, Any], packet: Mapping[str, Any], url: str, asks: str = ""
) -> str:
    """The packet in lines: why, what is known, what was tried, what was said; `asks` is how a
    verdict is given where it is read.
    """
    lines = [f"Baton handed this over to {handoff['team']} (priority {handoff['priority']})."]
    if handoff.get("opening_note"):
        lines.append(f"It was said: {_line(handoff['opening_note'])}")
    lines += [f"Why: {_line(reason['text'])}" for reason in packet["reasons"][:3]]
    facts = [f"{fact['kind']} {_line(fact['value'])}" for fact in packet["facts"][:FACTS_MAX]]
    if facts:
        lines.append(f"Known: {'; '.join(facts)}")
    failed = [one for one in packet["attempts"] if one["failed"]]
    for one in failed[-3:]:
        lines.append(f"Tried: {_line(one['tried'] or 'an answer')} - {_line(one['failure'])}")
    said = [turn for turn in packet["transcript"] if turn["author"] == "user" and turn["text"]]
    lines += ["The customer said:"] if said else []
    lines += [f"{turn['seq']}: {_line(turn['text'])}" for turn in said[-TURNS_MAX:]]
    lines += [one for one in (asks, url) if one]
    return "\n".join(lines)


def _line(text: Any) -> str:
    """A text in one line, cut; nothing in it begins a line of its own."""
    line = " ".join(str(text).split())
    return line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - 1] + "…"
