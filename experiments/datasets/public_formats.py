"""Readers of public data sets: satisfaction (USS), breakdown (DBDC), handoff (MHCH).

None has the label "the agent found the escalation needed"; the target says what stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.datasets.episode import (
    BEGAN,
    TURN_SECONDS,
    Episode,
    FieldError,
    Record,
    author_of,
    id_of,
    objects,
    require_field,
    text_of,
)
from learning.conversation.state import BotReport, Message


@dataclass(frozen=True, slots=True)
class _Turn:
    author: str
    text: str
    label: float | None
    bot: BotReport | None = None


def _episode(name: str, turns: Iterable[_Turn]) -> Episode:
    messages, labels = [], []
    for place, turn in enumerate(turns):
        at = BEGAN + TURN_SECONDS * place
        messages.append(Message(f"{name}.{place}", turn.author, turn.text, at, bot=turn.bot))
        if turn.label is not None:
            labels.append((place, turn.label))
    scored = tuple(place for place, _ in labels)
    return Episode(name, tuple(messages), tuple(labels), scored)


# -- uss: turns[] of role, text, action?, satisfaction? (ratings 1 to 5, one per rater) -----------

_ROLES: Mapping[object, str] = {
    "user": "user",
    "bot": "bot",
    "USER": "user",
    "SYSTEM": "bot",
    "system": "bot",
}
_FAILURES = ("failure", "nooffer", "nobook")


def uss(record: Record, target: str) -> Episode:
    """Ratings become a label; the bot's own dialogue act is what the bot reports it tried.

    The customer's acts are left out: people annotated them later, a bot would not know them.
    """
    turns = []
    for where, turn in objects(record, "turns"):
        author = author_of(turn, "role", _ROLES, where)
        ratings = _ratings(turn, where)
        label = None
        if ratings:
            low = sum(rating < 3 for rating in ratings) * 2 > len(ratings)
            label = float(low if target == "strict" else sum(ratings) < 3 * len(ratings))
        act = turn.get("action") if author == "bot" else None
        turns.append(_Turn(author, text_of(turn, where), label, _act(act) if act else None))
    return _episode(id_of(record, "conversation_id"), turns)


def _ratings(turn: Record, where: str) -> Sequence[float]:
    if turn.get("satisfaction") is None:
        return ()
    ratings: list[object] = require_field(turn, "satisfaction", list, where)
    for rating in ratings:
        if type(rating) not in (int, float) or not 1 <= rating <= 5:  # type: ignore[operator]
            problem = f"holds {rating!r}; use ratings from 1 to 5"
            raise FieldError(f"field {where}satisfaction {problem}")
    return [rating for rating in ratings if isinstance(rating, (int, float))]


def _act(act: object) -> BotReport:
    name = str(act)
    plain = name.lower().replace("_", "").replace("-", "")
    failed = any(sign in plain for sign in _FAILURES)
    return BotReport(attempt=name, tool_error=name if failed else None)


# -- dbdc: turns[] of role, text, breakdown_votes? {O, T, X} on the bot's turns -------------------


def dbdc(record: Record, target: str) -> Episode:
    """The share of raters who saw a breakdown (X) is a soft label; `majority` makes it hard."""
    turns = []
    for where, turn in objects(record, "turns"):
        author = author_of(turn, "role", _ROLES, where)
        share = _share(turn, where)
        if share is not None and target == "majority":
            share = float(share > 0.5)
        turns.append(_Turn(author, text_of(turn, where), share))
    return _episode(id_of(record, "conversation_id"), turns)


def _share(turn: Record, where: str) -> float | None:
    if turn.get("breakdown_votes") is None:
        return None
    votes = require_field(turn, "breakdown_votes", dict, where)
    for name, count in votes.items():
        if name not in ("O", "T", "X") or type(count) is not int or count < 0:
            problem = f"field {where}breakdown_votes.{name} is {count!r}"
            raise FieldError(f"{problem}; use counts of O, T and X, not negative")
    total = sum(votes.values())
    return votes.get("X", 0) / total if total else None


# -- mhch: turns[] of role (0 customer, 1 bot), token_ids, label (1: calls for a handoff) ---------


def mhch(record: Record, target: str) -> Episode:  # noqa: ARG001 - there is one target
    """Anonymous word ids become words w1, w2, ...; both sides' utterances have labels."""
    turns = []
    for where, turn in objects(record, "turns"):
        author = author_of(turn, "role", {0: "user", 1: "bot"}, where)
        tokens = require_field(turn, "token_ids", list, where)
        if any(type(token) is not int for token in tokens):
            raise FieldError(f"field {where}token_ids holds more than whole numbers; use word ids")
        label = turn.get("label")
        if label not in (None, 0, 1):
            raise FieldError(f"field {where}label is {label!r}; use 0 or 1, or leave it out")
        text = " ".join(f"w{token}" for token in tokens)
        turns.append(_Turn(author, text, None if label is None else float(label)))
    return _episode(id_of(record, "dialogue_id"), turns)
