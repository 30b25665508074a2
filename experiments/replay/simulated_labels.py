"""Simulated annotators and customers who know the labels, for a replay in a live workspace.

Recorded labels say of each message whether a person is needed just then, and need comes and goes.
So the customer accepts an offered person, and the agent finds an escalation needed, when that very
message has a positive label; it was needed since the first message of that unbroken need. Whoever
looks at a conversation that was never handed over tells the labels themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.datasets.episode import Episode
from experiments.replay.client import BatonClient, RefusedError, path_of


@dataclass(slots=True)
class AnnotatorCounts:
    """Counts of handoffs, those not needed, and conversations kept, missed or escalated."""

    handoffs: int = 0
    not_needed: int = 0
    kept: int = 0
    missed: int = 0
    escalated: int = 0

    def rates(self) -> dict[str, float | None]:
        """Rates by their names in `GET /v1/quality`; a rate of nothing is None."""
        return {
            "handoffs": self.handoffs,
            "false_escalation_rate": _share(self.not_needed, self.handoffs),
            "missed_rate": _share(self.missed, self.kept),
            "automation_rate": _share(self.kept, self.kept + self.escalated),
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


class SimulatedAnnotators:
    """The customer and the agents of one conversation."""

    def __init__(self, client: BatonClient, episode: Episode, counts: AnnotatorCounts) -> None:
        self._client = client
        self._episode = episode
        self._counts = counts
        self._truth = {place: label > 0.5 for place, label in episode.labels}
        self._since = 0
        self._handed_over = False

    def hear(self, place: int, decision: dict[str, Any]) -> int:
        """Answer an offer, judge a handoff; returns the outcome's ledger position, or 0."""
        handoff = decision["handoff"]
        called = decision["action"] == "escalate" and handoff is not None
        if decision["action"] == "offer":
            path = path_of("decisions", decision["decision_id"], "answer")
            called = self._truth.get(place, False)
            handoff = self._client.post(path, {"accepted": called})["handoff"]
        if not called:
            return 0
        need = self._need_since(place)
        self._since, self._handed_over = place + 1, True
        self._counts.handoffs += 1
        self._counts.not_needed += need is None
        # A repeated answer to an offer names no handoff once that is over: it was judged before.
        return 0 if handoff is None else self._judge(handoff["id"], need)

    def _judge(self, handoff: str, need: dict[str, str] | None) -> int:
        try:
            self._client.post(path_of("handoffs", handoff, "claim"), {})
        except RefusedError as error:
            if error.code != "handoff_over":  # it was judged before this replay was broken off
                raise
        body = {"verdict": "not_needed"} if need is None else {"verdict": "needed"} | need
        position = int(self._client.post(path_of("handoffs", handoff, "outcome"), body)["position"])
        self._client.post(path_of("handoffs", handoff, "return"), {})
        return position

    def end(self) -> int:
        """Say what was true of a kept conversation; gives the ledger position of it, or 0."""
        if self._handed_over:
            self._counts.escalated += 1
            return 0
        self._counts.kept += 1
        if not self._truth:
            return 0
        self._counts.missed += any(self._truth.values())
        labels = [
            {"message_id": self._episode.messages[place].id, "label": label}
            for place, label in self._episode.labels
        ]
        path = path_of("conversations", self._episode.id, "outcome")
        return int(self._client.post(path, {"labels": labels, "source": "review"})["position"])

    def _need_since(self, place: int) -> dict[str, str] | None:
        """Since which message the need at `place` goes on unbroken; None if there is none."""
        first = None
        for labelled in reversed([p for p in self._truth if self._since <= p <= place]):
            if not self._truth[labelled]:
                break
            first = labelled
        return (
            first
            if first is None
            else {"first_needed_message_id": self._episode.messages[first].id}
        )
