"""Small ledgers over a few made-up conversations, for tests of what is learned from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from learning.conversation.state import BotReport, Message
from learning.decision.policy import Policy
from learning.decision.teams.team_classifier import WEIGHTS
from learning.ledger import checkpoint
from learning.ledger.model_state import Entry, Exclusions, ModelState, Turn, replay_entries

RECIPE = "bayes-4"
AGENTS = ("ann", "mallory")
SOURCES = ("agent", "complaint")
_SAID = (
    "where is my parcel, it should have come on monday",
    "that did not help at all, I asked for a refund",
    "ok thank you",
    "I cannot log in, the code never arrives",
    "你好，我的订单在哪里",
    "this is the THIRD time I ask!!!",
)
_ANSWERED = ("Your parcel is on its way.", "Sorry, I did not understand that.", "Anything else?")


def _conversation(number: int, length: int) -> list[Turn]:
    turns = []
    for place in range(1, length + 1):
        mine = place % 2 == 1
        text = (_SAID if mine else _ANSWERED)[(place * 5 + number) % (6 if mine else 3)]
        report = None if mine else BotReport(confidence=0.3 + 0.1 * (number % 6), fallback=mine)
        author, at = "user" if mine else "bot", 1000.0 * number + place
        message = Message(f"m{place}", author, f"{text} {number % 3}", at, "en", report)
        turns.append(Turn(message, scored=mine and (number + place) % 5 != 0))
    return turns


CONVERSATIONS = {f"c{n}": _conversation(n, 3 + n % 5) for n in range(8)}


def transcript(conversation: str, until: int) -> Sequence[Turn]:
    return CONVERSATIONS[conversation][:until]


def outcome(conversation: str = "c1", **more: Any) -> dict[str, Any]:
    """An outcome entry's body: not needed, by ann, unless said otherwise."""
    body = {
        "outcome_id": "o",
        "conversation_id": conversation,
        "verdict": "not_needed",
        "begins": 1,
        "covers": len(CONVERSATIONS[conversation]),
        "escalated": None,
        "since": None,
        "labels": [],
        "source": "agent",
        "agent": "ann",
        "propensity": 1.0,
        "by_rule": False,
    }
    return body | more


@st.composite
def outcomes(draw: st.DrawFn) -> dict[str, Any]:
    conversation = draw(st.sampled_from(sorted(CONVERSATIONS)))
    covers = draw(st.integers(1, len(CONVERSATIONS[conversation])))
    verdict = draw(st.sampled_from(["needed", "not_needed", "missed", "fine", "labels"]))
    given = {"verdict": verdict, "covers": covers, "by_rule": draw(st.booleans())}
    given["since"] = draw(st.none() | st.integers(1, covers))
    given["escalated"] = covers if verdict in ("needed", "not_needed") else None
    given["agent"] = draw(st.sampled_from(AGENTS))
    given["source"] = draw(st.sampled_from(SOURCES))
    if draw(st.booleans()):
        given["team"] = draw(st.sampled_from(["billing", "legal", "support"]))
        given["team_by"] = draw(st.sampled_from(sorted(WEIGHTS)))
    given["propensity"] = draw(st.sampled_from([1.0, 0.25]))
    if verdict == "labels":
        label = st.tuples(st.integers(1, covers), st.floats(0, 1), st.floats(0.1, 5))
        given["labels"] = draw(st.lists(label, max_size=3, unique_by=lambda one: one[0]))
    return outcome(conversation, **given)


def bodies() -> st.SearchStrategy[list[tuple[str, dict[str, Any]]]]:
    """Kinds and bodies of a ledger without switches."""
    policy = st.sampled_from([Policy(), Policy(waiting_seconds=60.0)])
    one = outcomes().map(lambda body: ("outcome", body)) | policy.map(
        lambda found: ("policy", found.model_dump(mode="json"))
    )
    return st.lists(one, min_size=1, max_size=10)


def numbered(found: Iterable[tuple[str, dict[str, Any]]], start: int = 1) -> list[Entry]:
    return [
        Entry(position, kind, body, "test", 0.0)  # type: ignore[arg-type]
        for position, (kind, body) in enumerate(found, start)
    ]


def learned(
    entries: Sequence[Entry],
    standing: ModelState | None = None,
    *,
    without: Exclusions = Exclusions(),
    recipe: str = RECIPE,
) -> ModelState:
    """A standing that has followed these entries, switches and all."""
    standing = standing or ModelState(recipe=recipe, without=without)
    replay_entries(standing, entries, transcript, through_switches=True)
    return standing


def digest_without(entries: Iterable[Entry], gone: Iterable[int]) -> str:
    """The digest of a ledger that never held these positions, numbered anew."""
    missing = set(gone)
    kept = [entry for entry in entries if entry.position not in missing]
    renumbered = [replace(entry, position=place) for place, entry in enumerate(kept, 1)]
    return checkpoint.digest(learned(renumbered))
