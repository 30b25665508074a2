"""Backup, restore and export: an installation in one archive, a workspace as JSON Lines."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.runtime.first_secrets import KEYS_FILE
from service.runtime.ids import fingerprint
from service.runtime.sealing import KEY_FILE as SEAL_FILE
from service.runtime.settings import Settings
from service.store.conversations import conversation_rows
from service.store.database.transactions import Store
from service.store.handoffs import handoff_rows
from service.store.labels import outcome_rows
from service.store.ledger import entries, mlflow_rows

DATABASE_FILE = "baton.sqlite3"
_MANIFEST = "manifest.json"
UNPACKED_MAX, UNPACKED_FREE = 100, 64 * 2**20
"""A file of an archive may be so many times as large as the archive; up to so many bytes any may:
databases compress three to ten times, and bombs a thousand.
"""


class ArchiveError(ValueError):
    """An archive cannot be written here, or is not one of Baton's."""


def back_up(settings: Settings, archive: Path, *, overwrite: bool = False) -> int:
    """Write database, keys and the sealing key to one archive, consistent while Baton runs; gives
    its bytes.

    ArchiveError where that cannot be written, or is there.
    """
    store = Store(settings.database_url)
    if not store.is_sqlite:
        raise ArchiveError("this installation is on PostgreSQL: back it up with pg_dump")
    if not (settings.home / DATABASE_FILE).exists():
        raise ArchiveError(f"there is no installation in {settings.home}; name one with --home")
    if archive.exists() and not overwrite:
        raise ArchiveError(f"{archive} exists; name another file, or give --overwrite")
    try:
        _write_archive(settings, store, archive)
    except (OSError, sqlite3.Error) as error:
        raise ArchiveError(
            f"cannot write {archive}: {error}; is there room for the database beside it?"
        ) from error
    finally:
        store.close()
    return archive.stat().st_size


def _write_archive(settings: Settings, store: Store, archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        copy = Path(folder) / DATABASE_FILE
        store.copy_to(copy)
        files = {DATABASE_FILE: copy, KEYS_FILE: settings.home / KEYS_FILE}
        if (settings.home / SEAL_FILE).exists():
            files[SEAL_FILE] = settings.home / SEAL_FILE
        manifest = {name: _sha256(path) for name, path in files.items()}
        partial = Path(folder) / "archive"
        with tarfile.open(partial, "w:gz", compresslevel=3) as tar:
            document = json.dumps({"format": 1, "sha256": manifest}).encode()
            info = tarfile.TarInfo(_MANIFEST)
            info.size = len(document)
            tar.addfile(info, io.BytesIO(document))
            for name, path in files.items():
                tar.add(path, name)
        partial.chmod(0o600)
        partial.replace(archive)


def restore_backup(archive: Path, settings: Settings) -> None:
    """Create an installation from a backup; MLflow gets its versions and runs published anew.

    ArchiveError where there is an installation already, or the archive is damaged.
    """
    if settings.database:
        raise ArchiveError("a backup restores to SQLite: unset BATON_DATABASE")
    targets = [settings.home / name for name in (DATABASE_FILE, KEYS_FILE, SEAL_FILE)]
    for path in targets:
        if path.exists():
            raise ArchiveError(f"{path} exists; restore into another folder with --home")
    if not archive.is_file():
        raise ArchiveError(f"there is no file {archive}; name one that `baton backup` wrote")
    is_new = not settings.home.exists()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _restore(archive, settings, targets)
    except BaseException:
        if is_new:
            settings.home.rmdir()
        raise


def _restore(archive: Path, settings: Settings, targets: list[Path]) -> None:
    with tempfile.TemporaryDirectory(dir=settings.home) as name:
        folder = Path(name)
        _unpack(archive, folder)
        store = Store(f"sqlite:///{folder / DATABASE_FILE}")
        store.migrate()
        with store.write() as connection:
            mlflow_rows.mark_all_unpublished(connection)
        store.close()
        for path in reversed([path for path in targets if (folder / path.name).exists()]):
            (folder / path.name).chmod(0o600)
            (folder / path.name).replace(path)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            names = {DATABASE_FILE, KEYS_FILE} | ({SEAL_FILE} & set(tar.getnames()))
            for name in (_MANIFEST, *sorted(names)):
                member = tar.extractfile(name)
                if member is None:
                    raise KeyError(name)
                size, most = tar.getmember(name).size, UNPACKED_MAX * archive.stat().st_size
                if size > max(most, UNPACKED_FREE):
                    raise ArchiveError(f"{name} in {archive} would take {size} bytes: a bomb")
                with member, (folder / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
        manifest = json.loads((folder / _MANIFEST).read_text())["sha256"]
        if set(manifest) != names:
            raise KeyError("files")
        for name, sha256 in manifest.items():
            if _sha256(folder / name) != sha256:
                raise ArchiveError(f"{name} in {archive} is damaged; use another backup")
    except ArchiveError:
        raise
    except (
        tarfile.TarError,
        zlib.error,
        OSError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
    ) as e:
        raise ArchiveError(f"{archive} is not a whole backup of Baton: {e}") from e


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def export_conversations(store: Store, workspace: str) -> Iterator[str]:
    """Export a workspace's conversations with their outcomes, one JSON line each. LookupError."""
    with store.read() as connection:
        if entries.workspace(connection, workspace) is None:
            raise LookupError(f"there is no workspace {workspace!r}")
        names = conversation_rows.conversation_ids(connection, workspace)
    for name in names:
        with store.read() as connection:
            yield fingerprint(_conversation(connection, workspace, name))


MESSAGE_FIELDS = frozenset(
    ("id", "author", "text", "at", "language", "bot", "attributes", "event", "scored", "advice")
)


def _conversation(connection: Any, workspace: str, name: str) -> dict[str, Any]:
    rows = conversation_rows.messages(connection, workspace, name)
    message_ids = {row.seq: row.id for row in rows}
    conversation: dict[str, Any] = {
        "conversation_id": name,
        "messages": [
            {
                name: value
                for name, value in row._asdict().items()
                if name in MESSAGE_FIELDS and value is not None
            }
            for row in rows
        ],
    }
    outcomes = [
        row
        for row in outcome_rows.of_conversation(connection, workspace, name)
        if row.retracted_at is None
    ]
    if not outcomes:
        return conversation
    newest = outcomes[-1]
    entry = entries.entry(connection, workspace, newest.position)
    if newest.verdict == "labels" and entry is not None:
        conversation["labels"] = [
            {"message_id": message_ids[seq], "label": label}
            for seq, label, _ in entry.body["labels"]
        ]
        return conversation
    outcome = {
        "verdict": newest.verdict,
        "first_needed_message_id": newest.first_needed_message_id,
        "escalating_message_id": None,
    }
    if newest.handoff_id is not None:
        handoff = handoff_rows.handoff(connection, workspace, newest.handoff_id)
        outcome["escalating_message_id"] = handoff and message_ids[handoff.seq]
    conversation["outcome"] = {key: value for key, value in outcome.items() if value is not None}
    return conversation
