"""The service in one process and without HTTP, for closed-loop benchmarks.

Decisions, handoffs, outcomes, audits and the tasks of `jobs` are the service's own code on its own
store; only the clock is the bench's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from experiments.benchmarks.inputs.closed_loop import Decision
from learning.conversation.state import Message, State
from learning.decision.policy import Policy
from learning.ledger.model_state import Entry, ModelState, OnLearned, Score, Turn, replay_entries
from learning.models.hashed_features import sigmoid
from learning.models.recipes import DEFAULT
from service.handoffs import claims, lifecycle
from service.jobs.policy_moves import PolicyMoves
from service.outcomes import audit_tasks, record_outcome, reopened
from service.outcomes.verdict import Verdict
from service.runtime import logs
from service.scoring import decide
from service.store.conversations.batch import Batch, StateCache
from service.store.database.transactions import Store
from service.store.labels import audit_rows
from service.store.ledger import entries
from service.versions.restore import transcript_reader
from service.versions.start_from import Donation, begin_from
from service.versions.switches import begin_workspace

WORKSPACE = "bench"
REVIEWER = "reviewer"
RANDOM = 100.0
"""An adviser with so much noise knows nothing."""

T = TypeVar("T")


@dataclass(slots=True)
class OracleState(ModelState):
    """A model state that is told the true probability, and learns nothing but the policy."""

    belief: float = 0.0

    def score(self, _: State) -> Score:
        return Score(self.belief, 0.0, self.belief)

    def learn(
        self, entry: Entry, turns: Sequence[Turn], on_learned: OnLearned | None = None
    ) -> None:
        pass


class LocalService:
    """A live workspace on SQLite in a folder. One thread uses it."""

    def __init__(
        self,
        folder: Path,
        oracle: bool = False,
        adviser: float | None = None,
        start_from: LocalService | None = None,
        name: str = "baton",
    ) -> None:
        logs.configure("error", process="bench")
        self._store = Store(f"sqlite:///{folder / name}.sqlite3")
        self._store.migrate()
        self._model_state = (OracleState if oracle else ModelState)(recipe=DEFAULT)
        with self._store.write() as connection:
            if start_from is None:
                begin_workspace(connection, WORKSPACE, "live", "bench")
            else:
                donation = start_from.donate()
                self._model_state = donation.first_state()
                begin_from(connection, WORKSPACE, "live", "bench", donation)
        self._states = StateCache()
        self._batch: Batch | None = None
        self._draws = 0
        self._noise = adviser
        self._catch_up()

    def donate(self) -> Donation:
        """Its model, for another to start from; then it is closed."""
        state = self._model_state
        state.policy = state.policy.model_copy(update={"shareable": True})
        self.close()
        return Donation.of(WORKSPACE, state)

    @property
    def policy(self) -> Policy:
        return self._model_state.policy

    @contextmanager
    def turn(self, now: float) -> Iterator[None]:
        with self._store.write() as connection:
            self._batch = Batch(connection, self._states)
            self._batch.now = now
            yield
            self._batch.flush()
        self._batch.cache_states()
        self._batch = None
        self._catch_up()

    def _write(self, now: float, do: Callable[[Batch], T]) -> T:
        """What others say meanwhile: a transaction of its own, learned afterwards."""
        with self.turn(now):
            return do(self._current)

    @property
    def _current(self) -> Batch:
        if self._batch is None:
            raise RuntimeError("no turn is open")
        return self._batch

    def _catch_up(self) -> None:
        """Learn the ledger's new entries, as every serving process does."""
        with self._store.read() as connection:
            while new := entries.tail(connection, WORKSPACE, self._model_state.position):
                read = transcript_reader(connection, WORKSPACE)
                replay_entries(self._model_state, new, read, through_switches=True)

    def decide(self, name: str, turns: Sequence[Message], belief: float) -> Decision:
        batch, state = self._current, self._model_state
        if isinstance(state, OracleState):
            state.belief = belief
        message = self._advised(name, turns[-1], belief)
        command = decide.ScoreCommand(WORKSPACE, name, message, tuple(turns[:-1]))
        batch.open(WORKSPACE, command.lock_targets)
        answer = decide.score(batch, state, True, "bench", command)
        handoff = answer["handoff"]
        return Decision(answer["decision_id"], name, answer["action"], handoff and handoff["id"])

    def _advised(self, name: str, message: Message, belief: float) -> Message:
        """The message with an adviser's word: the truth, and noise on its log odds."""
        if self._noise is None:
            return message
        p = min(max(belief, 0.001), 0.999)
        noise = Random(f"adviser/{name}/{message.id}").gauss(0.0, self._noise)
        margin = math.log(p / (1.0 - p)) + noise if self._noise < RANDOM else noise / RANDOM
        return replace(message, advice=(("judge", sigmoid(margin)),))

    def answer(self, decision: Decision, accepted: bool) -> str | None:
        batch = self._current
        conversation = batch.conversation(WORKSPACE, decision.conversation)
        stored = next(row for row in conversation.decisions.values() if row["id"] == decision.id)
        batch.flush()
        handoff = lifecycle.answer_offer(
            batch, WORKSPACE, stored, accepted, live=True, policy=self.policy
        )["handoff"]
        return handoff and str(handoff["id"])

    def end_handoff(
        self, name: str, handoff: str, agent: str, turns: Sequence[Message], *, returned: bool
    ) -> None:
        batch = self._current
        claims.claim(batch, WORKSPACE, handoff, agent, self.policy.claim_seconds)
        conversation = batch.conversation(WORKSPACE, name)
        for turn in turns:
            batch.append(conversation, turn)
        lifecycle.end(batch, WORKSPACE, handoff, agent, "returned" if returned else "resolved")

    def end(self, name: str, turns: Sequence[Message], resolution: str) -> None:
        batch = self._current
        conversation = batch.conversation(WORKSPACE, name)
        for turn in turns:
            batch.append(conversation, turn)
        conversation.status, conversation.resolution = "closed", resolution
        conversation.closed_at = batch.now
        batch.change(conversation)

    def judge(self, handoff: str, body: Mapping[str, str], agent: str, now: float) -> None:
        verdict = _verdict(body, "handoff", agent)
        self._write(
            now, lambda b: record_outcome.record_for_handoff(b, WORKSPACE, handoff, verdict)
        )

    def record(self, name: str, body: Mapping[str, str], agent: str, now: float) -> None:
        verdict = _verdict(body, "agent", agent)

        def do(batch: Batch) -> None:
            batch.open(WORKSPACE, {name: ()})
            record_outcome.record_for_conversation(batch, WORKSPACE, name, verdict)

        self._write(now, do)

    def run_jobs(self, now: float) -> None:
        reopened.detect_missed(self._store, WORKSPACE, now)
        with self._store.read() as connection:
            due = audit_tasks.due_for_sampling(connection, WORKSPACE, now)
        if due:
            with self._store.write() as connection:
                audit_tasks.draw_audits(
                    connection, WORKSPACE, self.policy.audits, now, {}, due, self._new_seed
                )
                batch = Batch(connection, self._states)
                batch.now = now
                audit_tasks.learn_from_endings(batch, WORKSPACE, self.policy.resolved, due)
                batch.flush()
        PolicyMoves(self._store).move(WORKSPACE)
        self._catch_up()

    def _new_seed(self) -> str:
        """The same audits are drawn in every run."""
        self._draws += 1
        return f"bench-{self._draws}"

    def audits(self, now: float) -> Sequence[tuple[str, str]]:
        waiting = []
        with self._store.write() as connection:
            batch = Batch(connection, self._states)
            batch.now = now
            policy = self.policy.audits
            while row := audit_tasks.offer(batch, WORKSPACE, REVIEWER, policy)["audit"]:
                if (row["id"], row["conversation_id"]) in waiting:
                    break
                waiting.append((row["id"], row["conversation_id"]))
                audit_rows.change(
                    connection, WORKSPACE, row["id"], offered_to="another", offered_until=now + 60
                )
        return waiting

    def answer_audit(self, audit: str, body: Mapping[str, str], now: float) -> None:
        verdict = _verdict(body, "audit", REVIEWER)
        self._write(now, lambda b: audit_tasks.answer(b, WORKSPACE, audit, verdict))

    def close(self) -> None:
        self._store.close()


def _verdict(body: Mapping[str, str], source: str, agent: str) -> Verdict:
    fields: dict[str, Any] = {
        name: body[name] for name in ("first_needed_message_id", "note") if name in body
    }
    return Verdict(body["verdict"], body.get("source", source), agent, **fields)
