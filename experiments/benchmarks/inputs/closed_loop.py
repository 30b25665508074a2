"""Closed loop of decisions: what a bench asks of the service, and a decider that learns nothing.

`ClosedLoop` is the service as one process sees it; `service.cli.bench.local_service` implements it
by the service's own code. `Stateless` folds and decides by the same two pure functions.
"""

# ruff: noqa: ARG002 - methods have the arguments of the protocol
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from learning.conversation.state import EMPTY, Message, State, step
from learning.decision.policy import Policy, Thresholds, decide


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a message, and the handoff that was opened, if one was."""

    id: str
    conversation: str
    action: str
    handoff: str | None = None


class ClosedLoop(Protocol):
    """The service, as bots, agents and customers meet it."""

    def turn(self, now: float) -> AbstractContextManager[None]:
        """Everything in one conversation from one moment on."""

    def decide(self, name: str, turns: Sequence[Message], belief: float) -> Decision:
        """Decide about the last of these turns; `belief` is the true probability."""

    def answer(self, decision: Decision, accepted: bool) -> str | None:
        """The customer answered an offer; the handoff that is opened."""

    def end_handoff(
        self, name: str, handoff: str, agent: str, turns: Sequence[Message], *, returned: bool
    ) -> None:
        """An agent dealt with it, or gave it back to the bot."""

    def end(self, name: str, turns: Sequence[Message], resolution: str) -> None:
        """The conversation is closed."""

    def judge(self, handoff: str, body: Mapping[str, str], agent: str, now: float) -> None:
        """An agent's verdict on a handoff."""

    def record(self, name: str, body: Mapping[str, str], agent: str, now: float) -> None:
        """An outcome of a kept conversation."""

    def run_jobs(self, now: float) -> None:
        """One pass of the tasks of `jobs` that learn or move the policy."""

    def audits(self, now: float) -> Sequence[tuple[str, str]]:
        """Audits that wait: their ids and conversations."""

    def answer_audit(self, audit: str, body: Mapping[str, str], now: float) -> None:
        """A reviewer's verdict."""

    def close(self) -> None:
        """Free what it holds."""


class FixedBars(Policy):
    """The default policy with bars of one's own, to find the best in hindsight."""

    offer: float = Field(default=1.0, description="The bar of an offer.")
    escalate: float = Field(default=1.0, description="The bar of handing over.")

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(self.offer, self.escalate)


class Stateless:
    """A decider that learns nothing: the rules alone, the true probability with `FixedBars`, or
    `always` one action.
    """

    def __init__(self, policy: Policy | None = None, always: str | None = None) -> None:
        self._policy = policy or Policy()
        self._knows = policy is not None
        self._always = always
        self._states: dict[str, State] = {}
        self._unanswered: set[str] = set()

    @contextmanager
    def turn(self, now: float) -> Iterator[None]:
        yield

    def decide(self, name: str, turns: Sequence[Message], belief: float) -> Decision:
        action = self._always or self._choose(name, turns, belief)
        message = turns[-1].id
        return Decision(message, name, action, message if action == "escalate" else None)

    def _choose(self, name: str, turns: Sequence[Message], belief: float) -> str:
        *before, message = turns
        self._fold(name, before)
        if name in self._unanswered and not self._asks(name, message):
            self._event(name, "ignored")
        self._unanswered.discard(name)
        self._fold(name, [message])
        action = decide(self._policy, self._states[name], belief if self._knows else 0.0).action
        if action == "offer":
            self._unanswered.add(name)
        return action

    def _asks(self, name: str, message: Message) -> bool:
        """Whether a message after an offer asks for the person: it does not ignore it."""
        return step(self._states.get(name, EMPTY), message).signals.request is not None

    def _fold(self, name: str, turns: Sequence[Message]) -> None:
        state = self._states.get(name, EMPTY)
        for turn in turns:
            state = step(state, turn)
        self._states[name] = state

    def _event(self, name: str, event: str) -> None:
        at = self._states[name].at
        self._fold(name, [Message(f"baton:{event}", "system", "", at, event=event)])

    def answer(self, decision: Decision, accepted: bool) -> str | None:
        self._unanswered.discard(decision.conversation)
        if accepted:
            return decision.id
        self._event(decision.conversation, "declined")
        return None

    def end_handoff(
        self,
        name: str,
        handoff: str,
        agent: str,
        turns: Sequence[Message],
        *,
        returned: bool,
    ) -> None:
        if self._always is None and returned:
            self._event(name, "handed_over")
            self._fold(name, turns)
            self._event(name, "returned")

    def end(self, name: str, turns: Sequence[Message], resolution: str) -> None:
        if self._always is None:
            self._fold(name, turns)

    def judge(self, handoff: str, body: Mapping[str, str], agent: str, now: float) -> None:
        pass

    def record(self, name: str, body: Mapping[str, str], agent: str, now: float) -> None:
        pass

    def run_jobs(self, now: float) -> None:
        pass

    def audits(self, now: float) -> Sequence[tuple[str, str]]:
        return ()

    def answer_audit(self, audit: str, body: Mapping[str, str], now: float) -> None:
        pass

    def close(self) -> None:
        self._states.clear()
