"""A backup taken under load is an installation of its own, and a damaged one is refused."""

from __future__ import annotations

import io
import json
import random
import resource
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.replay.client import path_of
from learning.ledger import checkpoint
from service.jobs.maintenance import Maintenance
from service.operations.backup import (
    UNPACKED_FREE,
    ArchiveError,
    back_up,
    export_conversations,
    restore_backup,
)
from service.operations.bootstrap import prepare
from service.runtime.sealing import Sealer
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.versions.model_lines import ModelLines
from service.versions.restore import restore as stand
from tests.running import TEXTS, Home, Place, Process, installation, teach, until

FILES = ("baton.sqlite3", "keys.json", "secret.key")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with installation(tmp_path_factory.mktemp("archive")) as home:
        yield home


@pytest.fixture(scope="module")
def service(home: Home) -> Process:
    return home.serve()


@pytest.fixture(scope="module")
def place(home: Home, service: Process) -> Place:
    """A workspace with a past: lessons, a checkpoint, a handoff, a rollback."""
    place = home.workspace("past", service, mode="live")
    store = Store(f"sqlite:///{home.folder / 'baton.sqlite3'}")
    with place.caller("engineer", service) as client:
        for number in range(8):
            teach(client, f"c{number}", number)
        saved = Maintenance(store, Settings()).save(
            place.name, ModelLines(store).champion(place.name)
        )
        for number in range(4):
            teach(client, f"wrong {number}", number, verdict="missed")
        client.post("/v1/rollback", {"to": saved, "reason": "wrong labels"})
        client.score("open", "m1", "let me talk to a human")
    home.change("UPDATE version SET registry_version = '7' WHERE workspace = ?", place.name)
    store.close()
    return place


@pytest.fixture(scope="module")
def archive(home: Home, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archives") / "baton.tar.gz"
    Sealer.of(Settings(home=home.folder))  # which makes the installation's sealing key
    assert back_up(Settings(home=home.folder), path) == path.stat().st_size
    return path


def test_secrets_that_were_sealed_are_unsealed_where_a_backup_is_restored(
    home: Home, place: Place, tmp_path: Path
) -> None:
    sealed = Sealer.of(Settings(home=home.folder)).seal("whsec_x")
    back_up(Settings(home=home.folder), tmp_path / "with-seal.tar.gz")
    elsewhere = Settings(home=tmp_path / "elsewhere")
    restore_backup(tmp_path / "with-seal.tar.gz", elsewhere)
    assert Sealer.of(elsewhere).unseal(sealed) == "whsec_x"
    assert (elsewhere.home / "secret.key").stat().st_mode & 0o077 == 0


def test_a_backup_under_load_restores_elsewhere_to_the_same_model_and_the_same_decisions(
    home: Home, service: Process, place: Place, tmp_path: Path
) -> None:
    done = threading.Event()
    told: list[tuple[str, str, dict[str, Any]]] = []

    def talk() -> None:
        with place.caller("bot", service) as bot:
            number = 0
            while not done.is_set():
                name, text = f"load {number}", TEXTS[number % 6]
                told.append((name, text, bot.score(name, "m1", text)))
                teach(bot, f"taught {number}", number)
                number += 1

    talker = threading.Thread(target=talk)
    talker.start()
    path = tmp_path / "under-load.tar.gz"
    try:
        until(lambda: len(told) > 10, "load")
        before = len(told)
        back_up(Settings(home=home.folder), path)
        until(lambda: len(told) > before + 10, "load goes on")
    finally:
        done.set()
        talker.join()

    elsewhere = tmp_path / "elsewhere"
    restore_backup(path, Settings(home=elsewhere))
    with installation(elsewhere) as copy:
        there = copy.serve()
        again = Place(copy, place.name, place.keys)
        head = len(again.entries())
        assert again.entries() == place.entries()[:head]
        assert len(place.entries()) > head
        store = Store(f"sqlite:///{home.folder / 'baton.sqlite3'}")
        with again.caller("engineer", there) as client:
            assert client.standing["position"] == head
            at_that_time = checkpoint.digest(stand(store, place.name, until=head))
            assert client.standing["digest"] == at_that_time
            for name, text, answer in told[:before]:
                assert client.score(name, "m1", text) == answer
                replay = client.get(path_of("decisions", answer["decision_id"], "replay"))
                assert replay["identical"] is True
            assert client.score("open", "m2", "hello?")["action"] == "human_active"
            assert teach(client, "goes on", 1)["position"] == head + 1
        store.close()
        for sql in ("SELECT registry_version v FROM version", "SELECT run_id v FROM evaluation"):
            assert {row["v"] for row in copy.rows(sql)} <= {None}


def test_a_backup_and_what_it_restores_are_for_their_owner_s_eyes_only(
    archive: Path, tmp_path: Path
) -> None:
    restore_backup(archive, Settings(home=tmp_path / "new"))
    paths = [archive, *(tmp_path / "new" / name for name in FILES)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(FILES)


def test_a_restore_never_writes_over_an_installation(archive: Path, tmp_path: Path) -> None:
    for name in FILES:
        home = tmp_path / name.replace(".", "-")
        home.mkdir()
        (home / name).write_text("mine")
        with pytest.raises(ArchiveError, match="--home"):
            restore_backup(archive, Settings(home=home))
        assert [(path.name, path.read_text()) for path in home.iterdir()] == [(name, "mine")]


def refused(data: bytes, folder: Path) -> None:
    """Refused by name, and nothing is left in the new home."""
    path = folder / "damaged"
    path.write_bytes(data)
    with pytest.raises(ArchiveError):
        restore_backup(path, Settings(home=folder / "home"))
    assert not (folder / "home").exists()


def test_a_damaged_archive_is_refused_wherever_the_damage_is(
    archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Or the damage is in what nobody reads: then what is restored is what was backed up."""
    whole = archive.read_bytes()
    undamaged = tmp_path_factory.mktemp("whole") / "home"
    restore_backup(archive, Settings(home=undamaged))
    expected = content(undamaged)

    draw = random.Random(len(whole))
    folder = tmp_path_factory.mktemp("damaged")
    for number in range(500):
        at, change = draw.randrange(len(whole)), draw.randrange(1, 256)
        data = bytearray(whole)
        data[at] ^= change
        (folder / "archive").write_bytes(whole[:at] if number % 4 == 0 else data)
        home = folder / str(number)
        try:
            restore_backup(folder / "archive", Settings(home=home))
        except ArchiveError:
            assert not home.exists()
        else:
            assert content(home) == expected


def content(home: Path) -> list[str]:
    """Every row and every key of an installation, as text."""
    with closing(sqlite3.connect(home / FILES[0])) as connection:
        return [*connection.iterdump(), (home / FILES[1]).read_text()]


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"manifest.json": b"{"},
        {"manifest.json": b"[]"},
        {"manifest.json": b"\xff"},
        {"manifest.json": json.dumps({"format": 1, "sha256": None}).encode()},
        {"manifest.json": json.dumps({"format": 1, "sha256": {}}).encode()},
        {"manifest.json": json.dumps({"sha256": dict.fromkeys(FILES, "0")}).encode()},
        {"../outside": b"climbs out"},
        {"/outside": b"climbs out"},
    ],
    ids=lambda files: ", ".join(files) or "nothing",
)
def test_an_archive_of_something_else_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    refused(packed(files), tmp_path)
    assert not (tmp_path / "outside").exists()


def test_an_archive_that_would_fill_the_disk_is_refused_before_it_is_unpacked(
    tmp_path: Path,
) -> None:
    huge = packed({"manifest.json": b"{}", "baton.sqlite3": bytes(UNPACKED_FREE + 1)})
    (tmp_path / "bomb").write_bytes(huge)
    with pytest.raises(ArchiveError, match="a bomb"):
        restore_backup(tmp_path / "bomb", Settings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_copy_that_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: SQLite says so with an error of its own."""
    settings = Settings(home=tmp_path)
    store = Store(settings.database_url)
    prepare(settings, store)
    store.close()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limit[1]))
    try:
        with pytest.raises(ArchiveError, match="is there room"):
            back_up(settings, tmp_path / "backup" / "archive")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_what_is_no_archive_at_all_is_refused(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"hello", b"\x1f\x8b\x08" + bytes(40))):
        (tmp_path / str(number)).mkdir()
        refused(data, tmp_path / str(number))
    with pytest.raises(ArchiveError, match="there is no file"):
        restore_backup(tmp_path / "missing", Settings(home=tmp_path / "home"))


def test_what_was_changed_inside_an_archive_is_told_from_what_was_written(
    archive: Path, tmp_path: Path
) -> None:
    with tarfile.open(archive) as tar:
        members = [(m.name, tar.extractfile(m)) for m in tar.getmembers()]
        files = {name: file.read() for name, file in members if file is not None}
    assert set(files) == {"manifest.json", *FILES}
    restore_from = tmp_path / "same"
    restore_from.write_bytes(packed(files))
    restore_backup(restore_from, Settings(home=tmp_path / "whole"))
    files["keys.json"] = files["keys.json"].replace(b"bk_", b"bk-", 1)
    changed = tmp_path / "changed"
    changed.write_bytes(packed(files))
    with pytest.raises(ArchiveError, match=r"keys\.json .* is damaged"):
        restore_backup(changed, Settings(home=tmp_path / "changed-home"))


def test_an_export_has_every_conversation_and_the_outcomes_that_hold(
    home: Home, place: Place
) -> None:
    store = Store(f"sqlite:///{home.folder / 'baton.sqlite3'}")
    lines = [json.loads(line) for line in export_conversations(store, place.name)]
    store.close()
    rows = home.rows("SELECT id, length FROM conversation WHERE workspace = ?", place.name)
    assert {one["conversation_id"]: len(one["messages"]) for one in lines} == {
        row["id"]: row["length"] for row in rows
    }
    held = home.rows(
        "SELECT conversation_id FROM outcome WHERE workspace = ? AND retracted_at IS NULL",
        place.name,
    )
    assert {one["conversation_id"] for one in lines if "outcome" in one} == {
        row["conversation_id"] for row in held
    }


def test_a_file_that_is_there_is_replaced_only_where_that_is_asked_for(
    home: Home, archive: Path, tmp_path: Path
) -> None:
    path = tmp_path / "there.tar.gz"
    path.write_bytes(b"yesterday's")
    with pytest.raises(ArchiveError, match="--overwrite"):
        back_up(Settings(home=home.folder), path)
    assert path.read_bytes() == b"yesterday's"
    back_up(Settings(home=home.folder), path, overwrite=True)
    assert tarfile.is_tarfile(path)


def test_a_disk_that_takes_no_more_is_one_clear_line_of_a_backup_and_leaves_nothing(
    home: Home, place: Place, tmp_path: Path
) -> None:
    """The kernel refuses to write beyond a limit, as it does where a disk is full."""

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, 2**15))

    done = subprocess.run(
        [sys.executable, "-m", "service", "backup", tmp_path / "b.tar.gz", "--home", home.folder],
        preexec_fn=little_room,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "room" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
