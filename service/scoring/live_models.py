"""The live models of a process: loaded by workspace (LRU), kept at the tail of each ledger, swapped
at a switch, and verified against checkpoints.

Owned by the event loop's thread; only a new switch's model is restored in another, then swapped in.
At agreed positions each process notes its model's digest and compares it with the checkpoint that
`jobs` saved there (divergence detection). One that differs logs an error and reloads from the
checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from sqlalchemy import Connection

from learning.ledger.checkpoint import digest
from learning.ledger.model_state import (
    Entry,
    LearnedEffect,
    ModelState,
    Transcript,
    Turn,
    replay_entries,
)
from learning.text.signals import read
from service.runtime.errors import (
    DOCTOR_HINT,
    NotFound,
    Unavailable,
    WorkspaceBroken,
    database_unavailable,
    workspace_broken,
)
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.scoring.texts.text_reader import TextReader
from service.store.conversations import conversation_rows
from service.store.database.transactions import DatabaseError, Store, UnavailableError
from service.store.ledger import entries as ledger
from service.store.ledger import version_rows
from service.versions.restore import BrokenEntryError, NoWorkspaceError, restore, transcript_reader

ENTRIES_PER_BATCH = 64
"""Most ledger entries learned before a batch is decided, so that learning never starves scoring."""

UNVERIFIED_MAX = 16
"""Most digests of one line that wait for a checkpoint to be compared with."""

EFFECTS_MAX = 1024
"""Most outcomes of a workspace whose learned effect is remembered, the newest ones."""

VERIFY_SECONDS = 1.0

BROKEN_SECONDS = 5.0
RETRY_FACTOR = 10
"""A broken workspace is loaded again after BROKEN_SECONDS, or so many times as long as that took.
"""

NEWER_BUILD = "start the build of Baton that the others run"
_log = structlog.get_logger("baton.serving")


INLINE_TURNS, INLINE_CHARS = 2, 20_000
"""Longer transcripts, in turns and in characters, are read beside before they are learned."""


class LongTranscriptError(Exception):
    """The next outcome's transcript (conversation, length) is too long to be read meanwhile."""


@dataclass(slots=True)
class LiveModel:
    """A workspace's model in this process. `unverified` are digests by position that wait for their
    checkpoint; `effects` are what outcomes changed when learned here, by position.
    """

    state: ModelState
    live: bool
    head: int
    unverified: dict[int, str] = field(default_factory=dict)
    effects: dict[int, LearnedEffect] = field(default_factory=dict)
    reloading: asyncio.Task[None] | None = None
    reading: asyncio.Task[None] | None = None
    """While the next outcome's long transcript is read, this model learns nothing."""
    transcript: tuple[str, int, Sequence[Turn]] | None = None
    """A long transcript that was read for the next outcome: its conversation and length."""
    _digest: tuple[int, int, str] | None = None

    @property
    def digest(self) -> str:
        """The model state's digest, cached until it learns something."""
        key = self.state.switch, self.state.position
        if self._digest is None or self._digest[:2] != key:
            self._digest = (*key, digest(self.state))
        return self._digest[2]

    def swap(self, state: ModelState) -> None:
        """Serve another model state from here on."""
        self.state, self.unverified, self._digest = state, {}, None

    def remember_effect(self, entry: Entry, effect: LearnedEffect) -> None:
        """Remember what an outcome changed; the oldest is forgotten."""
        self.effects[entry.position] = effect
        while len(self.effects) > EFFECTS_MAX:
            del self.effects[min(self.effects)]

    def note_digest(self) -> None:
        """Note the digest at this position; the oldest unverified one is forgotten."""
        if self.state.provisional:
            return
        self.unverified[self.state.position] = self.digest
        while len(self.unverified) > UNVERIFIED_MAX:
            del self.unverified[min(self.unverified)]


class LiveModels:
    """The loaded models by workspace, least recently used evicted first beyond `models_max`."""

    def __init__(
        self, store: Store, settings: Settings, metrics: Metrics, reader: TextReader
    ) -> None:
        self._store = store
        self._reader = reader
        self._settings = settings
        self._metrics = metrics
        self._models: OrderedDict[str, LiveModel] = OrderedDict()
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._broken: dict[str, float] = {}
        self._outdated: dict[str, str] = {}
        self._idle: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the workspaces' models, up to `models_max`, then follow the ledgers while idle."""
        read("This loads the lexicon before anyone waits for it.")
        with self._store.read() as connection:
            names = ledger.workspaces(connection)
        for name in names[: self._settings.models_max]:
            with contextlib.suppress(WorkspaceBroken):  # it was told; the others are served
                await self.get(name)
        self._idle = asyncio.create_task(self._follow_idle())

    async def stop(self) -> None:
        tasks = [task for task in (self._idle, *self._loading.values()) if task is not None]
        tasks += [m.reloading for m in self._models.values() if m.reloading is not None]
        for task in tasks:
            task.cancel()
        reading = [m.reading for m in self._models.values() if m.reading is not None]
        await asyncio.gather(*tasks, *reading, return_exceptions=True)
        self._models.clear()  # FastAPI remembers applications for ever; models need not stay, too

    def get_loaded(self, workspace: str) -> LiveModel:
        """The model of a workspace that is loaded. Raises Unavailable when it was evicted
        meanwhile.
        """
        if workspace not in self._models:
            raise Unavailable("restanding", "the model is being reloaded", hint="send it again")
        return self._models[workspace]

    async def get(self, workspace: str) -> LiveModel:
        """The model of a workspace, loaded first if need be. Raises NotFound, Broken."""
        if time.monotonic() < self._broken.get(workspace, 0.0):
            raise workspace_broken(workspace)
        while workspace not in self._models:
            await self._ensure_loaded(workspace)
        return self._touch(workspace, self._models[workspace])

    def _touch(self, workspace: str, model: LiveModel) -> LiveModel:
        self._models[workspace] = model
        self._models.move_to_end(workspace)
        while len(self._models) > self._settings.models_max:
            self._models.popitem(last=False)
        return model

    async def _ensure_loaded(self, workspace: str) -> None:
        if workspace not in self._loading:
            self._loading[workspace] = asyncio.create_task(self._load(workspace))
        try:
            await asyncio.shield(self._loading[workspace])
        finally:
            self._loading.pop(workspace, None)

    async def _load(self, workspace: str) -> None:
        began = time.monotonic()
        try:
            state = await asyncio.to_thread(restore, self._store, workspace)
        except NoWorkspaceError as error:
            self._mark_mended(workspace)
            raise NotFound("no_workspace", str(error)) from error
        except UnavailableError as error:
            raise database_unavailable() from error
        except DatabaseError:
            raise
        except Exception as error:
            self._mark_broken(workspace, error, RETRY_FACTOR * (time.monotonic() - began))
            raise workspace_broken(workspace) from error
        self._mark_mended(workspace)
        if workspace not in self._models:
            self._touch(workspace, LiveModel(state, live=False, head=state.position))

    def _mark_broken(self, workspace: str, error: Exception, seconds: float = 0.0) -> None:
        """It is served no more, until it can be stood in; nothing else is held up by it."""
        self._models.pop(workspace, None)
        self._broken[workspace] = time.monotonic() + max(BROKEN_SECONDS, seconds)
        self._metrics.set_broken(workspace, 1)
        if isinstance(error, BrokenEntryError) and error.is_of_newer_build:
            self._outdated[workspace] = str(error)
        _log.error("workspace_broken", workspace=workspace, mend=DOCTOR_HINT, exc_info=error)

    def _mark_mended(self, workspace: str) -> None:
        self._outdated.pop(workspace, None)
        if self._broken.pop(workspace, None) is not None:
            self._metrics.set_broken(workspace, 0)
            _log.warning("workspace_mended", workspace=workspace)

    def broken(self) -> list[str]:
        """Workspaces that cannot be stood in, so that this process does not serve them."""
        return sorted(self._broken)

    def outdated(self) -> dict[str, str]:
        """Workspaces that only a newer build can follow, and why: this process is not ready."""
        return self._outdated

    def learn(self, connection: Connection, workspaces: set[str]) -> None:
        """Learn the ledger's tail for these workspaces, a bounded piece of it."""
        for name, (head, mode) in ledger.heads(connection, sorted(workspaces)).items():
            model = self._models.get(name)
            if model is None:
                continue
            model.live, model.head = mode == "live", head
            if head <= model.state.position or model.reloading or model.reading:
                continue
            if not self._learn_tail(connection, name, model):
                model.reloading = asyncio.create_task(self._reload(name))

    def _learn_tail(self, connection: Connection, name: str, model: LiveModel) -> bool:
        """Learn a piece of the tail; False when the model must be reloaded to go on.

        Pieces end at the positions where `jobs` saves checkpoints.
        """
        state, interval = model.state, self._settings.checkpoint_entries
        position = state.position
        limit = min(ENTRIES_PER_BATCH, interval - position % interval)
        entries = ledger.tail(connection, name, position, limit)
        try:
            switch = replay_entries(
                state,
                entries,
                self._transcript_reader(connection, name, model),
                on_learned=model.remember_effect,
            )
        except DatabaseError:
            raise
        except LongTranscriptError as error:
            model.reading = asyncio.create_task(self._read(name, model, *error.args))
            return True
        except Exception:
            _log.exception("not_learned", workspace=name, after=state.position)
            return False
        finally:
            self._metrics.count_learned(name, state.position - position)
            now = time.time()
            for entry in entries[: state.position - position]:
                if entry.kind == "outcome":
                    self._metrics.observe_learned(now - entry.at)
        if state.position > position and state.position % interval == 0:
            model.note_digest()
        return switch is None

    def _transcript_reader(
        self, connection: Connection, workspace: str, model: LiveModel
    ) -> Transcript:
        """Read short transcripts at once; a long one raises LongTranscriptError, unless it has
        been read meanwhile.
        """
        read_stored = transcript_reader(connection, workspace)

        def read(conversation: str, until: int) -> Sequence[Turn]:
            if model.transcript is not None and model.transcript[:2] == (conversation, until):
                turns, model.transcript = model.transcript[2], None
                return turns
            if until > INLINE_TURNS:
                chars = conversation_rows.text_chars(connection, workspace, conversation, 0, until)
                if chars > INLINE_CHARS:
                    raise LongTranscriptError(conversation, until)
            return read_stored(conversation, until)

        return read

    async def _read(self, workspace: str, model: LiveModel, conversation: str, until: int) -> None:
        """Read a long transcript beside; the model goes on learning with it."""

        def stored() -> Sequence[Turn]:
            with self._store.read() as connection:
                return transcript_reader(connection, workspace)(conversation, until)

        try:
            turns = await asyncio.to_thread(stored)
            texts = await self._reader.read_history(workspace, [turn.message for turn in turns])
            read = [Turn(text, turn.scored) for text, turn in zip(texts, turns, strict=True)]
            model.transcript = conversation, until, read
        except Unavailable as refusal:  # it is tried again with the next batch
            _log.warning("transcript_unread", workspace=workspace, why=str(refusal))
        except DatabaseError as error:
            _log.warning("transcript_unread", workspace=workspace, why=str(error.orig))
        except Exception as error:
            self._mark_broken(workspace, error)
        finally:
            model.reading = None

    def catch_up(self, workspaces: set[str]) -> None:
        """Learn what was just committed, here or elsewhere, in a reading transaction."""
        with self._store.read() as connection:
            self.learn(connection, workspaces)

    async def _follow_idle(self) -> None:
        """Follow the ledgers while idle: other processes append to them."""
        verified_at = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                self.catch_up(set(self._models))
                self._retry_broken()
                self._metrics.set_lags(self.lag())
                if time.monotonic() - verified_at >= VERIFY_SECONDS:
                    self._verify_digests()
                    verified_at = time.monotonic()
            except DatabaseError as error:
                _log.warning("ledger_unreachable", why=str(error.orig))
            except Exception:
                _log.exception("not_followed")

    def _retry_broken(self) -> None:
        """Load broken workspaces again: they may have been mended meanwhile."""
        for name, until in self._broken.items():
            if time.monotonic() >= until and name not in self._loading:
                task = self._loading[name] = asyncio.create_task(self._load(name))
                task.add_done_callback(partial(self._end_retry, name))

    def _end_retry(self, workspace: str, task: asyncio.Task[None]) -> None:
        self._loading.pop(workspace, None)
        if not task.cancelled():
            task.exception()  # it was logged

    def _verify_digests(self) -> None:
        """Compare the noted digests with the checkpoints that have been saved since."""
        for name, model in self._models.items():
            if not model.unverified or model.reloading is not None:
                continue
            with self._store.read() as connection:
                checkpoints = version_rows.digests(
                    connection, name, model.state.switch, model.unverified
                )
            mismatches = [
                position
                for position in checkpoints
                if checkpoints[position] != model.unverified[position]
            ]
            if mismatches:
                self._on_divergence(name, model, min(mismatches), checkpoints[min(mismatches)])
            elif checkpoints:
                model.unverified = {
                    p: d for p, d in model.unverified.items() if p > max(checkpoints)
                }

    def _on_divergence(self, name: str, model: LiveModel, position: int, expected: str) -> None:
        self._metrics.count_divergence(name)
        _log.error(
            "diverged",
            workspace=name,
            position=position,
            line=model.state.switch,
            digest=model.unverified[position],
            checkpoint=expected,
            mend="reloading from the checkpoint; compare `made_of` in GET /v1/standing",
        )
        model.unverified = {}
        model.reloading = asyncio.create_task(self._reload(name))

    async def _reload(self, workspace: str) -> None:
        """Restore the model state beside the one that serves, then swap it in."""
        model = self._models.get(workspace)
        if model is None:
            return
        try:
            state = await asyncio.to_thread(restore, self._store, workspace)
            self._note_outdated(workspace, model.state, state)
            model.swap(state)
            _log.info(
                "switched",
                workspace=workspace,
                version=model.state.version,
                position=model.state.position,
            )
        except DatabaseError:
            _log.exception("switch_not_stood", workspace=workspace)
            await asyncio.sleep(1)
        except Exception as error:
            self._mark_broken(workspace, error)
        finally:
            model.reloading = None

    def _note_outdated(self, workspace: str, before: ModelState, after: ModelState) -> None:
        """Whether a switch came, while this process ran, to a recipe that it does not know: then a
        newer build serves, and this one stands in with what it can.
        """
        if not after.provisional:
            self._outdated.pop(workspace, None)
        elif not before.provisional or workspace in self._outdated:
            self._outdated[workspace] = (
                f"version {after.version} is of a recipe that this build does not know"
            )
            _log.error("outdated", workspace=workspace, version=after.version, mend=NEWER_BUILD)

    async def wait_for_position(self, workspace: str, position: int, seconds: float = 30) -> bool:
        """Wait until this process serves a ledger position, switch included; False after
        `seconds`.
        """
        for _ in range(int(seconds / 0.02)):
            if (await self.get(workspace)).state.position >= position:
                return True
            await asyncio.sleep(0.02)
        return False

    def lag(self) -> dict[str, int]:
        """Entries that each served workspace has yet to learn."""
        return {name: model.head - model.state.position for name, model in self._models.items()}
