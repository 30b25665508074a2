"""Simulated agents (noisy annotators) and complaints: late verdicts, not always right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol

from experiments.simulation.world.conversations import Truth
from experiments.simulation.world.templates import pick, templates

MANNERS = ("careful", "careless", "hostile")


@dataclass(frozen=True, slots=True)
class AgentBehaviour:
    """Noise of an agent's verdicts.

    wrong: share of verdicts against the truth. vague: share of "needed" without the first message.
    misplaced: share of those that name a neighbouring message instead. unknowable: share that
    cannot tell. delay_seconds: mean time to the verdict. manner: "careful" as above; "careless"
    says "needed" to nearly everything, unread and at once; "hostile" inverts the truth.
    """

    wrong: float = 0.05
    vague: float = 0.25
    misplaced: float = 0.08
    unknowable: float = 0.03
    delay_seconds: float = 900.0
    manner: str = "careful"

    def __post_init__(self) -> None:
        if self.manner not in MANNERS:
            raise ValueError(f"manner {self.manner!r} is unknown; use one of {', '.join(MANNERS)}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict of an agent and its delay. `body` is what the API takes."""

    verdict: str
    first_needed_message_id: str | None
    team: str | None
    note: str | None
    delay_seconds: float

    def body(self) -> dict[str, str]:
        fields = ("verdict", "first_needed_message_id", "team", "note")
        return {name: getattr(self, name) for name in fields if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True)
class Complaint:
    """Complaint about a missed one: source, first needed message (if named), and delay."""

    conversation_id: str
    source: str
    first_needed_message_id: str | None
    delay_seconds: float

    def body(self) -> dict[str, str]:
        body = {"verdict": "missed", "source": self.source}
        if self.first_needed_message_id is not None:
            body["first_needed_message_id"] = self.first_needed_message_id
        return body


class Judged(Protocol):
    """A conversation that agents and customers can judge, simulated or recorded."""

    id: str
    labels: dict[str, int]
    begins: int
    ended: bool
    handed_over: bool

    @property
    def team(self) -> str: ...

    @property
    def truth(self) -> Truth: ...


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. Every verdict has its own random stream, so the order of questions is nothing."""

    name: str
    behaviour: AgentBehaviour
    seed: int

    def verdict(self, conversation: Judged) -> Verdict:
        """Verdict on a handoff, by the truth at its time: needed, not_needed or unknowable."""
        rng = Random(
            f"{self.seed}/verdict/{self.name}/{conversation.id}/{len(conversation.labels)}"
        )
        return self._judge(conversation, rng, ("needed", "not_needed"))

    def review(self, conversation: Judged) -> Verdict:
        """Verdict on a kept conversation drawn for an audit: missed, fine or unknowable."""
        rng = Random(f"{self.seed}/review/{self.name}/{conversation.id}/{len(conversation.labels)}")
        return self._judge(conversation, rng, ("missed", "fine"))

    def _judge(self, conversation: Judged, rng: Random, words: tuple[str, str]) -> Verdict:
        behaviour, truth = self.behaviour, conversation.truth
        needed, first = truth.needed, truth.first_needed_message_id
        delay = _delay(behaviour.delay_seconds, rng)
        if behaviour.manner == "careless":
            guess = words[0] if rng.random() < 0.9 else words[1]
            return Verdict(guess, None, None, None, min(delay, 20.0))
        if rng.random() < behaviour.unknowable:
            return Verdict("unknowable", None, None, None, delay)
        if rng.random() < behaviour.wrong or behaviour.manner == "hostile":
            needed, first = not needed, None
        if not needed:
            note = pick(templates("agent", "note_not_needed"), rng)
            return Verdict(words[1], None, None, str(note[0]), delay)
        note = pick(templates("agent", "note_needed"), rng)
        first_named = _named_message(conversation, first, behaviour, rng)
        return Verdict(words[0], first_named, conversation.team, str(note[0]), delay)


def complaint(
    conversation: Judged, seed: int, caught: float, delay_seconds: float
) -> Complaint | None:
    """Complaint about a conversation that ended without a person and needed one, or None.

    A share `caught` does, half of it with the first message that needed a person; else None.
    """
    truth = conversation.truth
    if conversation.handed_over or not conversation.ended or not truth.needed:
        return None
    rng = Random(f"{seed}/complaint/{conversation.id}")
    if rng.random() >= caught:
        return None
    source = pick(("complaint", "complaint", "customer_request", "reopened"), rng)
    first = truth.first_needed_message_id if rng.random() < 0.5 else None
    return Complaint(conversation.id, source, first, _delay(delay_seconds, rng))


def _named_message(
    conversation: Judged, first: str | None, behaviour: AgentBehaviour, rng: Random
) -> str | None:
    if rng.random() < behaviour.vague or first is None:
        return None
    if rng.random() >= behaviour.misplaced:
        return first
    message_ids = list(conversation.labels)[conversation.begins :]
    place = message_ids.index(first) + (1 if rng.random() < 0.5 else -1)
    return message_ids[min(max(place, 0), len(message_ids) - 1)]


def _delay(mean: float, rng: Random) -> float:
    """Exponential: most verdicts soon, some very late."""
    return -mean * math.log(1 - rng.random())
