"""What `jobs` does to the database by itself: checkpoints, evaluations, rebuilds, expiry.

Each task is one pass over the workspaces, safe to repeat and to be killed in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import structlog

from experiments.evaluation.evaluation_report import Report
from learning.decision.policy import Policy
from learning.ledger.model_state import ModelState
from learning.measures.scores import measures
from service.handoffs import lifecycle
from service.outcomes import audit_tasks, reopened
from service.privacy.retention import Retention
from service.runtime.errors import Contradiction
from service.runtime.settings import Settings
from service.store import access
from service.store.conversations.batch import Batch, StateCache
from service.store.database.transactions import DatabaseError, Store
from service.store.labels import outcome_context
from service.store.ledger import entries, mlflow_rows, version_rows
from service.versions import switches
from service.versions.challengers import challenger_requests
from service.versions.challengers.challenger_lines import ChallengerLines
from service.versions.evaluation.evaluate import Evaluator
from service.versions.model_lines import ModelLines, rebuild
from service.versions.restore import TextRemovedError

REMEMBERED_SECONDS = 86_400
STALE_SECONDS = 600
"""New outcomes are in a checkpoint after this time at the latest, however few they are."""

PROGRESS_SECONDS = 10.0
"""How often a rebuild says in the log how far it is."""

SILENCE_BATCH = 50
"""So many conversations whose silence speaks are learned from in one transaction."""

_log = structlog.get_logger("baton.upkeep")


class RebuildProgress:
    """Says in the log how far a rebuild is, every few seconds."""

    def __init__(self, workspace: str, corrected: int) -> None:
        self._workspace = workspace
        self._began = self._last = time.monotonic()
        _log.info("rebuilding", workspace=workspace, corrected=corrected)

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if done < of and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        taken = round(now - self._began, 1)
        _log.info("rebuilding", workspace=self._workspace, done=done, of=of, seconds=taken)


class Maintenance:
    """The tasks, and the lines they follow; one thread runs them all."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lines = ModelLines(
            store, settings.checkpoint_entries, self._at_mark, settings.models_max
        )
        self._judging = Evaluator(store, self._lines, settings.models_max)
        self._audited_beside = ChallengerLines(store, settings.models_max)
        self._replaced: dict[str, tuple[int, frozenset[int]]] = {}

    def _workspaces(self) -> list[str]:
        with self._store.read() as connection:
            return list(entries.workspaces(connection))

    @contextmanager
    def _by_itself(self, workspace: str) -> Iterator[None]:
        """What breaks in one workspace holds up no other."""
        try:
            yield
        except DatabaseError:
            raise
        except Exception:
            _log.exception("workspace_broke", workspace=workspace)

    def checkpoint(self) -> None:
        """Save the serving line of each workspace where enough has been learned since."""
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                standing = self._lines.champion(workspace)
                if self._is_due(workspace, standing):
                    self.save(workspace, standing)

    def _at_mark(self, workspace: str, standing: ModelState) -> None:
        """Save the serving line where processes can compare themselves with it, once."""
        with self._store.read() as connection:
            line, position = standing.switch, standing.position
            saved = version_rows.digests(connection, workspace, line, [position])
        if not saved:
            self.save(workspace, standing)

    def _is_due(self, workspace: str, standing: ModelState) -> bool:
        with self._store.read() as connection:
            saved = version_rows.of_line(connection, workspace, standing.switch, standing.position)
            named = version_rows.version(connection, workspace, standing.version)
        newest = saved[0] if saved else named
        if newest is None:
            return True
        since = standing.position - max(newest.position, standing.switch)
        stale = time.time() - newest.created_at > STALE_SECONDS
        return bool(since >= self._settings.checkpoint_entries or (since > 0 and stale))

    def save(self, workspace: str, standing: ModelState, reason: str = "checkpoint") -> int:
        """Store a standing of the serving line as a version."""
        scores, packed = standing.window.scores(), switches.SerializedState.of(standing)
        with self._store.write() as connection:
            number = switches.save_version(
                connection,
                workspace,
                packed,
                line=standing.switch,
                reason=reason,
                metrics=measures(scores.probability, scores.label, scores.weight),
            )
        _log.info("version_saved", workspace=workspace, version=number, position=standing.position)
        return number

    def evaluate(self) -> None:
        """Evaluate each workspace that has learned since its last evaluation: when its time has
        come, or when so many outcomes have.
        """
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                if self._is_to_be_judged(workspace):
                    self.evaluate_one(workspace)

    def _is_to_be_judged(self, workspace: str) -> bool:
        most = self._settings.evaluate_outcomes
        with self._store.read() as connection:
            last = mlflow_rows.last_evaluation(connection, workspace)
            position = 0 if last is None else last.position
            fresh = outcome_context.outcomes_since(connection, workspace, position, most)
        due = last is None or time.time() - last.at >= self._settings.evaluate_seconds
        return fresh > 0 and (due or fresh >= most)

    def evaluate_one(self, workspace: str) -> Report:
        """One evaluation: its report stored, and acted upon where the policy lets it."""
        return self._judging.evaluate(workspace)

    def challenge(self) -> None:
        """Build the challengers that were asked for."""
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                challenger_requests.build_pending(self._store, workspace)

    def mend(self) -> None:
        """Where enough corrected outcomes wait, rebuild exactly without them and serve that."""
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                champion = self._lines.champion(workspace)
                gone, left_out = self._gone(workspace, champion.position), champion.without
                waiting = [p for p in gone - left_out.positions if not left_out.withholds(p)]
                if len(waiting) >= self._settings.corrections:
                    self._mend(workspace, champion, len(waiting))

    def _gone(self, workspace: str, until: int) -> frozenset[int]:
        """Which outcomes were replaced by now; each entry of the ledger is read once for it."""
        seen, known = self._replaced.get(workspace, (0, frozenset()))
        with self._store.read() as connection:
            known |= entries.replaced(connection, workspace, until, seen)
        self._replaced[workspace] = until, known
        return known

    def _mend(self, workspace: str, champion: ModelState, waiting: int) -> None:
        without = replace(champion.without, positions=frozenset())
        told = RebuildProgress(workspace, waiting)
        try:
            rebuilt = rebuild(self._store, workspace, champion.recipe, without, told)
        except TextRemovedError as error:
            _log.error("not_mended", workspace=workspace, why=str(error))
            return
        reason = f"rebuilt without {waiting} corrected outcomes"
        packed = switches.SerializedState.of(rebuilt)
        with self._store.write() as connection:
            number = switches.save_version(connection, workspace, packed, line=0, reason=reason)
            change = switches.Switch(
                number, rebuilt.position, reason, "jobs", rebuilt.without, {"corrected": waiting}
            )
            try:
                switches.append_switch(connection, workspace, change, after=champion.switch)
            except Contradiction as error:
                _log.info("switch_left_alone", workspace=workspace, why=str(error))

    def retain(self) -> None:
        """Remove the text whose time is over; the predecessor's line is saved past it first."""
        if not self._settings.keep_days:
            return
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                previous = self._lines.previous(workspace)
                if previous is not None and self._is_due(workspace, previous):
                    self.save(workspace, previous)
        Retention(self._store, self._settings).text()

    def audit(self) -> None:
        """Toss the coins of what closed."""
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                otherwise = self._disagreeing(workspace)
                now = time.time()
                with self._store.read() as connection:
                    policy = Policy.model_validate(entries.newest_policy(connection, workspace))
                    ended = audit_tasks.due_for_sampling(connection, workspace, now)
                if not ended:
                    continue
                with self._store.write() as connection:
                    drawn = audit_tasks.draw_audits(
                        connection, workspace, policy.audits, now, otherwise, ended
                    )
                if drawn:
                    _log.info("audits_drawn", workspace=workspace, audits=drawn)

    def silence(self) -> None:
        """Let silence speak where the policy lets it, for a few conversations at a time."""
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                with self._store.read() as connection:
                    policy = Policy.model_validate(entries.newest_policy(connection, workspace))
                    silent = audit_tasks.due_for_silence(
                        connection, workspace, policy.silence, time.time()
                    )
                for done in range(0, len(silent), SILENCE_BATCH):
                    piece = silent[done : done + SILENCE_BATCH]
                    with self._store.write() as connection:
                        batch = Batch(connection, StateCache())
                        audit_tasks.learn_from_silence(batch, workspace, policy.silence, piece)
                        batch.flush()

    def returns(self) -> None:
        """See whether customers who came back had been missed."""
        for workspace in self._workspaces():
            with self._by_itself(workspace):
                reopened.detect_missed(self._store, workspace, time.time())

    def _disagreeing(self, workspace: str) -> frozenset[str]:
        """Ended conversations that a challenger would have decided otherwise; of this thread."""
        with self._store.read() as connection:
            policy = Policy.model_validate(entries.newest_policy(connection, workspace))
            found = entries.workspace(connection, workspace)
        followers = self._audited_beside.open(workspace, found.head if found is not None else 0)
        bar = policy.costing.escalate
        return frozenset(self._audited_beside.disagreeing(workspace, followers, bar))

    def expire(self) -> None:
        """Claims of quiet agents wait again; handoffs nobody took in time are abandoned."""
        with self._store.write() as connection:
            access.forget_keys(connection, time.time() - REMEMBERED_SECONDS)
            access.forget_session(connection, time.time())
        for name in self._workspaces():
            with self._by_itself(name), self._store.write() as connection:
                policy = Policy.model_validate(entries.newest_policy(connection, name))
                lifecycle.expire(Batch(connection, StateCache()), name, policy.waiting_seconds)
