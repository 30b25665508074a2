"""Periodic maintenance of the database: checkpoints, evaluations, rebuilds, audit draws, expiry.

Each task is one pass over the workspaces, idempotent and safe to be killed in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from experiments.evaluation.evaluation_report import Report
from learning.decision.policy import Policy
from learning.ledger.model_state import ModelState, TextRemovedError
from learning.measures.scores import measures
from service.handoffs import lifecycle
from service.jobs.clock_step import ClockCheck
from service.outcomes import audit_tasks, reopened
from service.privacy.retention import Retention
from service.runtime.errors import Contradiction
from service.runtime.settings import Settings
from service.store import access
from service.store.conversations import original_rows
from service.store.conversations.batch import Batch, StateCache
from service.store.database.isolation import isolate_errors
from service.store.database.transactions import Store
from service.store.handoffs.handoff_rows import newest_time
from service.store.labels import audit_rows, outcome_context
from service.store.ledger import (
    call_rows,
    change_log,
    entries,
    inbox_rows,
    mlflow_rows,
    outbox_rows,
    version_rows,
    webhook_rows,
)
from service.store.reports import judgement_rows
from service.versions import switches
from service.versions.challengers import challenger_requests
from service.versions.challengers.challenger_lines import ChallengerLines
from service.versions.evaluation.evaluate import Evaluator
from service.versions.model_lines import ModelLines, rebuild
from service.versions.restore import advance_where_text_is
from service.versions.start_from import fresh_state

PRESENCE_SECONDS = 3600.0
"""How long it is remembered where somebody was seen."""

REMEMBERED_SECONDS = 86_400
STALE_SECONDS = 600
"""Age at which a checkpoint is replaced although few outcomes came since."""

PROGRESS_SECONDS = 10.0
"""Seconds between two log entries of a rebuild's progress."""

QUIET_SECONDS = 3600.0
"""A customer who has said no more for so long after an offer has declined or ignored it."""

SILENCE_BATCH = 50
"""Conversations whose silence is learned in one transaction."""

_log = structlog.get_logger("baton.upkeep")


class RebuildProgress:
    """Logs the progress of a rebuild, every PROGRESS_SECONDS."""

    def __init__(self, workspace: str, corrected: int) -> None:
        self._workspace = workspace
        self._began = self._last = time.monotonic()
        _log.info("rebuilding", workspace=workspace, corrected=corrected)

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if done < of and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        seconds = round(now - self._began, 1)
        _log.info("rebuilding", workspace=self._workspace, done=done, of=of, seconds=seconds)


class Maintenance:
    """The maintenance tasks and the model lines they use; one thread runs them all."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lines = ModelLines(
            store, settings.checkpoint_entries, self._save_at_mark, settings.models_max
        )
        self._evaluator = Evaluator(store, self._lines, settings.models_max)
        self._challengers = ChallengerLines(store, settings.models_max)
        self._clock = ClockCheck()
        self._is_ahead = False
        self._quiet_until: dict[str, float] = {}
        self._corrected: dict[str, tuple[int, frozenset[int]]] = {}

    def _workspaces(self) -> list[str]:
        with self._store.read() as connection:
            return list(entries.workspaces(connection))

    def checkpoint(self) -> None:
        """Checkpoint the serving line of each workspace where enough has been learned since the
        last.
        """
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                model_state = self._lines.champion(workspace)
                if self._is_due(workspace, model_state):
                    self.save(workspace, model_state)

    def _save_at_mark(self, workspace: str, model_state: ModelState) -> None:
        """Checkpoint the serving line, once, at a position where processes compare digests."""
        if model_state.provisional:
            return
        with self._store.read() as connection:
            line, position = model_state.switch, model_state.position
            saved = version_rows.digests(connection, workspace, line, [position])
        if not saved:
            self.save(workspace, model_state)

    def _is_due(self, workspace: str, model_state: ModelState) -> bool:
        if model_state.provisional:
            return False
        with self._store.read() as connection:
            line = version_rows.of_line(
                connection, workspace, model_state.switch, model_state.position
            )
            start = version_rows.version(connection, workspace, model_state.version)
        newest = line[0] if line else start
        if newest is None:
            return True
        since = model_state.position - max(newest.position, model_state.switch)
        stale = time.time() - newest.created_at > STALE_SECONDS
        return bool(since >= self._settings.checkpoint_entries or (since > 0 and stale))

    def save(self, workspace: str, model_state: ModelState, reason: str = "checkpoint") -> int:
        """Store a model state of the serving line as a version; gives its number."""
        scores, serialized = model_state.window.scores(), switches.SerializedState.of(model_state)
        with self._store.write() as connection:
            number = switches.save_version(
                connection,
                workspace,
                serialized,
                line=model_state.switch,
                reason=reason,
                metrics=measures(scores.probability, scores.label, scores.weight),
            )
        _log.info(
            "version_saved", workspace=workspace, version=number, position=model_state.position
        )
        return number

    def evaluate(self) -> None:
        """Evaluate each workspace that has learned since its last evaluation, after
        `evaluate_seconds` or `evaluate_outcomes`.
        """
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                if self._is_evaluation_due(workspace):
                    self.evaluate_one(workspace)

    def _is_evaluation_due(self, workspace: str) -> bool:
        if self._lines.champion(workspace).provisional:
            return False
        most = self._settings.evaluate_outcomes
        with self._store.read() as connection:
            last = mlflow_rows.last_evaluation(connection, workspace)
            position = 0 if last is None else last.position
            new_outcomes = outcome_context.count_outcomes_since(
                connection, workspace, position, most
            )
        due = last is None or time.time() - last.at >= self._settings.evaluate_seconds
        return new_outcomes > 0 and (due or new_outcomes >= most)

    def evaluate_one(self, workspace: str) -> Report:
        """Evaluate a workspace: its report is stored, and applied where the policy allows it."""
        return self._evaluator.evaluate(workspace)

    def build_challengers(self) -> None:
        """Build the challengers that were requested."""
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                challenger_requests.build_pending(self._store, workspace)

    def upgrade(self) -> None:
        """Where the serving version's recipe is another build's, retrain the line by this build's
        from all that is kept, and serve that. Challengers of unknown recipes are closed.
        """
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                champion = self._lines.champion(workspace)
                if champion.provisional:
                    challenger_requests.close_unknown_recipes(self._store, workspace, "upgrade")
                    self._upgrade_line(workspace, champion)

    def _upgrade_line(self, workspace: str, champion: ModelState) -> None:
        with self._store.read() as connection:
            corrected = entries.replaced_positions(connection, workspace, champion.position)
            positions = champion.without.positions | corrected
            without = replace(champion.without, positions=positions)
            rebuilt = fresh_state(connection, workspace, champion.recipe, without)
        advance_where_text_is(self._store, workspace, rebuilt, champion.position)
        reason = f"learned anew by {rebuilt.recipe}: the version's recipe is another build's"
        self._serve_rebuilt(workspace, champion, rebuilt, reason, "upgrade", {})

    def rebuild_corrected(self) -> None:
        """Where enough corrected outcomes wait, retrain exactly without them and serve that."""
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                champion = self._lines.champion(workspace)
                corrected = self._corrected_positions(workspace, champion.position)
                excluded = champion.without
                waiting = [p for p in corrected - excluded.positions if not excluded.withholds(p)]
                if len(waiting) < self._settings.corrections:
                    continue
                if not champion.policy.switching.automatic:
                    self._recommend_rebuild(workspace, champion.switch, len(waiting))
                else:
                    self._rebuild(workspace, champion, len(waiting))

    def _recommend_rebuild(self, workspace: str, switch: int, waiting: int) -> None:
        """Where only people switch: say once for each switch that a rebuild is due."""
        facts: dict[str, str | int] = {"verdict": "rebuild", "switch": switch}
        with self._store.write() as connection:
            newest = change_log.newest(connection, workspace, "recommendation", 20)
            if any(facts.items() <= row.facts.items() for row in newest):
                return
            sentence = (
                f"{waiting} corrected outcomes wait; `baton rebuild --promote` leaves them out"
            )
            change_log.add(connection, workspace, "recommendation", facts | {"sentence": sentence})

    def _corrected_positions(self, workspace: str, until: int) -> frozenset[int]:
        """Positions of the outcomes replaced by now, read incrementally."""
        after, positions = self._corrected.get(workspace, (0, frozenset()))
        with self._store.read() as connection:
            positions |= entries.replaced_positions(connection, workspace, until, after)
        self._corrected[workspace] = until, positions
        return positions

    def _rebuild(self, workspace: str, champion: ModelState, waiting: int) -> None:
        without = replace(champion.without, positions=frozenset())
        progress = RebuildProgress(workspace, waiting)
        try:
            rebuilt = rebuild(self._store, workspace, champion.recipe, without, progress)
        except TextRemovedError as error:
            _log.error("not_mended", workspace=workspace, why=str(error))
            return
        reason = f"rebuilt without {waiting} corrected outcomes"
        evidence = {"corrected": waiting}
        self._serve_rebuilt(workspace, champion, rebuilt, reason, "jobs", evidence)

    def _serve_rebuilt(
        self,
        workspace: str,
        champion: ModelState,
        rebuilt: ModelState,
        reason: str,
        actor: str,
        evidence: Mapping[str, Any],
    ) -> None:
        serialized = switches.SerializedState.of(rebuilt)
        with self._store.write() as connection:
            number = switches.save_version(connection, workspace, serialized, line=0, reason=reason)
            change = switches.Switch(
                number, rebuilt.position, reason, actor, rebuilt.without, evidence
            )
            try:
                switches.append_switch(connection, workspace, change, after=champion.switch)
            except Contradiction as error:
                _log.info("switch_left_alone", workspace=workspace, why=str(error))

    def remove_old_text(self) -> None:
        """Text retention; the predecessor's line is checkpointed past the text first."""
        if not self._settings.keep_days:
            return
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                previous = self._lines.previous(workspace)
                if previous is not None and self._is_due(workspace, previous):
                    self.save(workspace, previous)
        Retention(self._store, self._settings).remove_text()

    def draw_audits(self) -> None:
        """Draw audits among the conversations that closed; the others' endings teach a little."""
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                actions = self._actions(workspace)
                now = time.time()
                with self._store.read() as connection:
                    policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
                    due = audit_tasks.due_for_sampling(connection, workspace, now)
                if not due:
                    continue
                with self._store.write() as connection:
                    audits = audit_tasks.draw_audits(
                        connection, workspace, policy.audits, now, actions, due
                    )
                    batch = Batch(connection, StateCache())
                    audit_tasks.learn_from_endings(batch, workspace, policy.resolved, due)
                    batch.flush()
                if audits:
                    _log.info("audits_drawn", workspace=workspace, audits=audits)

    def learn_from_quiet_declines(self) -> None:
        """Learn from offers that were declined or ignored where the customer said no more for
        QUIET_SECONDS and nobody closed the conversation.
        """
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                until = time.time() - QUIET_SECONDS
                after = self._quiet_until.get(workspace, until - REMEMBERED_SECONDS)
                with self._store.read() as connection:
                    names = audit_rows.quiet_since(
                        connection, workspace, after, until, SILENCE_BATCH
                    )
                if names:
                    with self._store.write() as connection:
                        batch = Batch(connection, StateCache())
                        audit_tasks.learn_from_quiet_declines(batch, workspace, names)
                        until = audit_rows.last_heard(connection, workspace, names[-1])
                        batch.flush()
                self._quiet_until[workspace] = until

    def learn_from_silence(self) -> None:
        """Learn from customers' silence where the policy allows it, SILENCE_BATCH at a time."""
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                with self._store.read() as connection:
                    policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
                    due = audit_tasks.due_for_silence(
                        connection, workspace, policy.silence, time.time()
                    )
                for start in range(0, len(due), SILENCE_BATCH):
                    piece = due[start : start + SILENCE_BATCH]
                    with self._store.write() as connection:
                        batch = Batch(connection, StateCache())
                        audit_tasks.learn_from_silence(batch, workspace, policy.silence, piece)
                        batch.flush()

    def detect_missed(self) -> None:
        """Detect missed escalations among the customers who came back."""
        for workspace in self._workspaces():
            with isolate_errors(workspace):
                reopened.detect_missed(self._store, workspace, time.time())

    def _actions(self, workspace: str) -> Mapping[str, Mapping[str, int]]:
        """What each line would have done in the conversations that ended."""
        with self._store.read() as connection:
            policy = Policy.from_ledger(entries.newest_policy(connection, workspace))
            row = entries.workspace(connection, workspace)
        challengers = self._challengers.open(workspace, row.head if row is not None else 0)
        return self._challengers.actions(workspace, challengers, policy)

    def expire(self) -> None:
        """Expire claims of inactive agents and handoffs that nobody took in time; forget old
        idempotency keys and sessions. No handoff expires by a clock that has just jumped.
        """
        with self._store.write() as connection:
            access.delete_idempotency_records(connection, time.time() - REMEMBERED_SECONDS)
            access.delete_sessions(connection, time.time())
            access.forget_present(connection, time.time() - PRESENCE_SECONDS)
            access.clear_seals(connection, time.time() - access.SEAL_SECONDS)
            before = time.time() - outbox_rows.KEPT_SECONDS
            webhook_rows.remove_before(connection, before)
            call_rows.remove_before(connection, before)
            inbox_rows.remove_before(connection, before)
            judgement_rows.remove_before(connection, before)
        with self._store.read() as connection:
            newest = newest_time(connection)
        agrees = self._clock.agrees(newest)
        if not agrees and not self._is_ahead:
            _log.warning("clock_ahead", newest=newest, now=time.time())
        self._is_ahead = not agrees
        if not agrees:
            return
        for name in self._workspaces():
            with isolate_errors(name), self._store.write() as connection:
                policy = Policy.from_ledger(entries.newest_policy(connection, name))
                lifecycle.expire(Batch(connection, StateCache()), name, policy.waiting_seconds)
                outbox_rows.remove_before(connection, name, before)
                if policy.redaction.originals == "none":
                    original_rows.remove_replies(connection, name, before)
