"""The standings that a process serves, each kept at the tail of its workspace's ledger.

Owned by the event loop's thread: only a new switch is stood beside it, in another, and swapped in.
What was learned is proved now and then: at agreed positions each process notes its digest, and
compares it with the checkpoint that `jobs` saved there. One that differs says so loudly, and
stands anew from the checkpoint.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from learning.ledger.checkpoint import digest
from learning.ledger.model_state import Entry, LearnedEffect, ModelState, replay_entries
from learning.text.signals import read
from service.runtime.errors import NotFound, Unavailable, away
from service.runtime.lru import lru_put
from service.runtime.metrics import Metrics
from service.runtime.settings import Settings
from service.store.database.transactions import DatabaseError, Store, UnavailableError
from service.store.ledger import entries as ledger
from service.store.ledger import version_rows
from service.versions.restore import restore, transcript_reader

ENTRIES_PER_BATCH = 64
"""Most ledger entries learned before a batch is decided, so that learning never starves scoring."""

MARKS_MAX = 16
"""Most positions of one line whose digests wait for a checkpoint to be compared with."""

EFFECTS_MAX = 1024
"""Most outcomes of a workspace of which is remembered what they changed, the newest ones."""

PROVE_SECONDS = 1.0
_log = structlog.get_logger("baton.serving")


@dataclass(slots=True)
class LiveModel:
    """A workspace as this process serves it. `marks` are digests by position, still unproved;
    `effects` say by position what outcomes changed when they were learned here.
    """

    standing: ModelState
    live: bool
    head: int
    marks: dict[int, str] = field(default_factory=dict)
    effects: dict[int, LearnedEffect] = field(default_factory=dict)
    restanding: asyncio.Task[None] | None = None
    _digest: tuple[int, int, str] | None = None

    @property
    def digest(self) -> str:
        """Computed anew when something was learned since."""
        place = self.standing.switch, self.standing.position
        if self._digest is None or self._digest[:2] != place:
            self._digest = (*place, digest(self.standing))
        return self._digest[2]

    def swap(self, standing: ModelState) -> None:
        """Serve another standing from here on."""
        self.standing, self.marks, self._digest = standing, {}, None

    def taught(self, entry: Entry, effect: LearnedEffect) -> None:
        """Remember what an outcome changed; the oldest is forgotten."""
        self.effects[entry.position] = effect
        while len(self.effects) > EFFECTS_MAX:
            del self.effects[min(self.effects)]

    def mark(self) -> None:
        """Note the digest at this position; the oldest unproved one is forgotten."""
        self.marks[self.standing.position] = self.digest
        while len(self.marks) > MARKS_MAX:
            del self.marks[min(self.marks)]


class LiveModels:
    """By workspace what this process serves: those that were asked for last, so many as it may."""

    def __init__(self, store: Store, settings: Settings, measures: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._measures = measures
        self._served: dict[str, LiveModel] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._idle: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Stand in every workspace, then follow the ledgers while idle."""
        read("This loads the lexicon before anyone waits for it.")
        with self._store.read() as connection:
            names = ledger.workspaces(connection)
        for name in names[: self._settings.models_max]:
            await self.at(name)
        self._idle = asyncio.create_task(self._follow_idle())

    async def stop(self) -> None:
        tasks = [task for task in (self._idle, *self._loading.values()) if task is not None]
        tasks += [one.restanding for one in self._served.values() if one.restanding is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._served.clear()  # FastAPI remembers applications for ever; models need not stay, too

    def here(self, workspace: str) -> LiveModel:
        """A workspace that is served already. Raises Busy when others took its place meanwhile."""
        if workspace not in self._served:
            raise Unavailable("restanding", "the model is being stood anew", hint="send it again")
        return self._served[workspace]

    async def at(self, workspace: str) -> LiveModel:
        """A workspace as served, stood at its version when it was not yet."""
        while workspace not in self._served:
            await self._stand(workspace)
        return self._kept(workspace, self._served[workspace])

    def _kept(self, workspace: str, served: LiveModel) -> LiveModel:
        return lru_put(self._served, workspace, served, self._settings.models_max)

    async def _stand(self, workspace: str) -> None:
        if workspace not in self._loading:
            self._loading[workspace] = asyncio.create_task(self._load(workspace))
        try:
            await asyncio.shield(self._loading[workspace])
        finally:
            self._loading.pop(workspace, None)

    async def _load(self, workspace: str) -> None:
        try:
            standing = await asyncio.to_thread(restore, self._store, workspace)
        except LookupError as error:
            raise NotFound("no_workspace", str(error)) from error
        except UnavailableError as error:
            raise away() from error
        if workspace not in self._served:
            self._kept(workspace, LiveModel(standing, live=False, head=standing.position))

    def learn(self, connection: Connection, workspaces: set[str]) -> None:
        """Learn the ledger's tail for these workspaces, a bounded piece of it."""
        for name, (head, mode) in ledger.heads(connection, sorted(workspaces)).items():
            served = self._served.get(name)
            if served is None:
                continue
            served.live, served.head = mode == "live", head
            if head <= served.standing.position or served.restanding is not None:
                continue
            if not self._followed(connection, name, served):
                served.restanding = asyncio.create_task(self._restand(name))

    def _followed(self, connection: Connection, name: str, served: LiveModel) -> bool:
        """Learn a piece of the tail; False when it takes a standing anew to go on.

        Pieces end at the positions where `jobs` saves checkpoints.
        """
        standing, every = served.standing, self._settings.checkpoint_entries
        position = standing.position
        most = min(ENTRIES_PER_BATCH, every - position % every)
        entries = ledger.tail(connection, name, position, most)
        try:
            switch = replay_entries(
                standing, entries, transcript_reader(connection, name), tell=served.taught
            )
        except DatabaseError:
            raise
        except Exception:
            _log.exception("not_learned", workspace=name, after=standing.position)
            return False
        finally:
            self._measures.learned(name, standing.position - position)
        if standing.position > position and standing.position % every == 0:
            served.mark()
        return switch is None

    def catch_up(self, workspaces: set[str]) -> None:
        """Learn what was just committed, here or elsewhere, in a reading transaction."""
        with self._store.read() as connection:
            self.learn(connection, workspaces)

    async def _follow_idle(self) -> None:
        """With nothing to do, still follow the ledgers: other processes append to them."""
        proved = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                self.catch_up(set(self._served))
                self._measures.lags(self.lag())
                if time.monotonic() - proved >= PROVE_SECONDS:
                    self._prove()
                    proved = time.monotonic()
            except DatabaseError as error:
                _log.warning("ledger_unreachable", why=str(error.orig))
            except Exception:
                _log.exception("not_followed")

    def _prove(self) -> None:
        """Compare what was noted with the checkpoints that have been saved since."""
        for name, served in self._served.items():
            if not served.marks or served.restanding is not None:
                continue
            with self._store.read() as connection:
                line = version_rows.digests(connection, name, served.standing.switch, served.marks)
            wrong = [position for position in line if line[position] != served.marks[position]]
            if wrong:
                self._diverged(name, served, min(wrong), line[min(wrong)])
            elif line:
                served.marks = {p: d for p, d in served.marks.items() if p > max(line)}

    def _diverged(self, name: str, served: LiveModel, position: int, wanted: str) -> None:
        self._measures.diverged(name)
        _log.error(
            "diverged",
            workspace=name,
            position=position,
            line=served.standing.switch,
            digest=served.marks[position],
            checkpoint=wanted,
            mend="standing anew from the checkpoint; compare `made_of` in GET /v1/standing",
        )
        served.marks = {}
        served.restanding = asyncio.create_task(self._restand(name))

    async def _restand(self, workspace: str) -> None:
        """Build the standing of a new switch beside the one that serves, then swap it in."""
        served = self._served.get(workspace)
        if served is None:
            return
        try:
            served.swap(await asyncio.to_thread(restore, self._store, workspace))
            _log.info(
                "switched",
                workspace=workspace,
                version=served.standing.version,
                position=served.standing.position,
            )
        except Exception:
            _log.exception("switch_not_stood", workspace=workspace)
            await asyncio.sleep(1)
        finally:
            served.restanding = None

    async def settled(self, workspace: str, position: int, seconds: float = 30) -> bool:
        """Wait until this process serves a ledger position, switch included."""
        for _ in range(int(seconds / 0.02)):
            if (await self.at(workspace)).standing.position >= position:
                return True
            await asyncio.sleep(0.02)
        return False

    def lag(self) -> dict[str, int]:
        """Entries that each served workspace has yet to learn."""
        return {name: one.head - one.standing.position for name, one in self._served.items()}
