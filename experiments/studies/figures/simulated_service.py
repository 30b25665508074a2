"""Simulated customer service in the bare loop, with partial feedback.

Without HTTP and without delays: the default policy decides each message, the people it hands over
to tell the truth, both draws of `learning.estimation.audit_sampling` draw from what it keeps, and a
share of the missed ones is complained of. The model learns what it is told, conversation after
conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from experiments.benchmarks.inputs.feature_rows import ModelLine, lesson_weights
from experiments.simulation.world import Conversation, World
from learning.conversation.features import parts
from learning.conversation.state import EMPTY, step
from learning.decision.policy import Policy, decide
from learning.estimation.audit_sampling import AuditCandidate, Draw, draw
from learning.models.hashed_features import BUCKETS, Row


@dataclass(frozen=True, slots=True)
class EndedConversation:
    """A conversation that is over: whether a person had it, whether one was needed, and what came
    to light of it. `scored` are its messages in order: what each got, and what was true.
    """

    id: str
    scored: tuple[tuple[float, float], ...]
    handed_over: bool
    needed: bool
    caught: bool
    audit: Draw | None


@dataclass(slots=True)
class SimulatedService:
    """The service; `play` it, and its `line` has learned what a real one would have."""

    world: World
    policy: Policy = Policy()
    line: ModelLine = field(default_factory=ModelLine)
    ended: list[EndedConversation] = field(default_factory=list)

    def play(self, conversations: int) -> Sequence[EndedConversation]:
        for number in range(conversations):
            self.ended.append(self._converse(self.world.conversation(number)))
        return self.ended

    @property
    def kept(self) -> list[EndedConversation]:
        return [one for one in self.ended if not one.handed_over]

    def _converse(self, conversation: Conversation) -> EndedConversation:
        rows = dict(self._score_messages(conversation))
        probabilities = {name: self.line.score(row) for name, row in rows.items()}
        scored = tuple((probabilities[name], float(conversation.labels[name])) for name in rows)
        handed_over, needed = conversation.handed_over, conversation.truth.needed
        caught = self.world.complaint(conversation) is not None
        audit = (
            None if handed_over else self._draw_audit(conversation.id, max(probabilities.values()))
        )
        if handed_over or caught:
            self._learn(conversation, rows)
        elif audit is not None and audit.drawn:
            self._learn(conversation, rows, audit.propensity)
        return EndedConversation(conversation.id, scored, handed_over, needed, caught, audit)

    def _score_messages(self, conversation: Conversation) -> Iterator[tuple[str, Row]]:
        """The rows of the customer's messages by message, as the policy heard them."""
        state, fresh = EMPTY, conversation.next()
        while not conversation.ended:
            for message in fresh:
                state = step(state, message)
            row = Row.of_parts(parts(state), BUCKETS)
            yield state.message_id, row
            choice = decide(self.policy, state, self.line.score(row))
            offered = choice.action == "offer" and conversation.accepts()
            if choice.action == "escalate" or offered:
                conversation.next("escalate")
                return
            fresh = conversation.next("continue")

    def _draw_audit(self, name: str, probability: float) -> Draw:
        audits = self.policy.audits
        return draw(
            [AuditCandidate(name, probability)],
            seed=str(self.world.seed),
            uniform_share=audits.uniform_share,
            targeted_share=audits.targeted_share,
        )[0]

    def _learn(
        self, conversation: Conversation, rows: dict[str, Row], propensity: float = 1.0
    ) -> None:
        labels = [float(conversation.labels[name]) for name in rows]
        weights, learned_rows = lesson_weights(labels), list(rows.values())
        for row, label, weight in zip(learned_rows, labels, weights, strict=True):
            self.line.calibrator.learn(self.line.raw(row), label, weight / propensity)
        self.line.model.learn(learned_rows, labels, weights)
