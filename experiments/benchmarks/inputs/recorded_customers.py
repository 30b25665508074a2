"""Recorded conversations played in a closed loop: customers who answer offers, and verdicts.

Nobody was offered a person when these were recorded. So the customer's part is assumed: who needs
a person accepts one with one probability, who does not with another, and a handoff ends the
conversation. A person is needed from the first message on whose label says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from experiments.datasets import streams
from experiments.datasets.episode import Episode
from experiments.simulation.world import Agent, Complaint, Truth, WorldSettings
from experiments.simulation.world.agents import complaint
from experiments.simulation.world.simulated_world import World
from learning.conversation.state import Message

TARGETS = {"uss": "strict"}
"""Targets other than a format's first: strict is what one would call a person for."""


@dataclass(slots=True)
class RecordedConversation:
    """An episode, message after message, as `simulation.world.Conversation` is played."""

    episode: Episode
    id: str
    number: int
    at: float
    rng: Random
    acceptance: tuple[float, float]
    messages: list[Message] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    beliefs: dict[str, float] = field(default_factory=dict)
    ended: bool = False
    handed_over: bool = False
    resolution: str = "unknown"
    begins: int = 0
    team: str = "support"
    _first: str | None = None

    @property
    def truth(self) -> Truth:
        return Truth(self._first is not None, self._first)

    def next(self, action: str = "continue") -> tuple[Message, ...]:
        """The turns up to the next one to score, or up to the end; none after an escalation."""
        if action == "escalate":
            self.handed_over = True
            return ()
        start = len(self.messages)
        following = [place for place in self.episode.scored if place >= start]
        end = following[0] + 1 if following else len(self.episode.messages)
        turns = self.episode.messages[start:end]
        self.messages += turns
        self.ended = not following
        if following:
            self._note(following[0])
        return tuple(turns)

    def _note(self, place: int) -> None:
        """Needed from the first such label on: a person who came would not leave again."""
        message = self.episode.messages[place].id
        if dict(self.episode.labels).get(place, 0.0) > 0.5 and self._first is None:
            self._first = message
        self.labels[message] = int(self._first is not None)
        self.beliefs[message] = float(self._first is not None)

    def answer(self) -> bool:
        """The customer's answer to an offer."""
        return self.rng.random() < self.acceptance[not self.truth.needed]

    def serve(self, agent: str, returned: bool = False) -> tuple[Message, ...]:  # noqa: ARG002 - as the protocol has it
        """A person takes over: the recording says no more of it."""
        self.ended, self.resolution = True, "resolved"
        return ()


@dataclass(frozen=True, slots=True)
class RecordedWorld:
    """The conversations of a file, in an order of the seed's, with the world's agents."""

    seed: int
    episodes: Sequence[Episode]
    settings: WorldSettings

    @classmethod
    def read(cls, path: str, seed: int, settings: WorldSettings) -> RecordedWorld:
        episodes = list(streams.read(Path(path), target=TARGETS.get(streams.recognise(path))))
        Random(f"{seed}/order").shuffle(episodes)
        return cls(seed, [episode for episode in episodes if episode.scored], settings)

    def __len__(self) -> int:
        return len(self.episodes)

    def conversation(self, number: int) -> RecordedConversation:
        name, rng = f"rec-{self.seed}-{number}", Random(f"{self.seed}/recorded/{number}")
        return RecordedConversation(
            self.episodes[number],
            name,
            number,
            self.began(number),
            rng,
            self.settings.acceptance,
        )

    def began(self, number: int) -> float:
        return World(self.seed, self.settings).began(number)

    def agent(self, number: int) -> Agent:
        return World(self.seed, self.settings).agent(number)

    def complaint(self, conversation: RecordedConversation) -> Complaint | None:
        settings = self.settings
        return complaint(conversation, self.seed, settings.caught, settings.complaint_delay_seconds)

    def comes_back_after(self, conversation: RecordedConversation) -> None:
        """Nobody comes back to a recorded conversation."""
