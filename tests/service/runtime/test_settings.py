"""A setting that cannot be is refused by its name, with what it takes."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from service.operations.bootstrap import prepare
from service.runtime.settings import SettingError, Settings
from service.store.database.transactions import Store
from tests.fork_server import command


@pytest.mark.parametrize(
    "variable, value, says",
    [
        ("BATON_PORT", "70000", "between 0 and 65535"),
        ("BATON_PORT", "http", "it takes port"),
        ("BATON_BATCH_MAX", "0", "more than 0 requests"),
        ("BATON_POLL_SECONDS", "-1", "more than 0 seconds"),
        ("BATON_POLL_SECONDS", "nan", "more than 0 seconds"),
        ("BATON_KEEP_DAYS", "-0.5", "0 or more days"),
        ("BATON_LOG_LEVEL", "loud", "debug, info, warning, error"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(
    variable: str, value: str, says: str
) -> None:
    with pytest.raises(SettingError, match=says) as refused:
        Settings.from_environ({variable: value})
    assert variable in str(refused.value)


def test_every_default_may_be_set_as_it_is() -> None:
    given = {one.metadata["variable"]: str(one.default) for one in fields(Settings)}
    assert Settings.from_environ(given) == Settings.from_environ({}) == Settings()


def test_by_default_an_idle_process_looks_for_news_within_200_milliseconds() -> None:
    assert Settings().poll_seconds <= 0.2


def baton(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return command(*words, environ={**os.environ, **environ})


def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = baton("serve", "--home", str(tmp_path / "home"), "--port", str(port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_says_that_the_first_keys_are_gone(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    Path(home).mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:  # only so that it is made, and ends
        baton("serve", "--home", home, "--port", str(taken.getsockname()[1]))
    assert "ok    the first keys are in" in baton("doctor", "--home", home).stdout
    (Path(home) / "keys.json").unlink()
    done = baton("doctor", "--home", home)
    assert "wrong the first keys are in" in done.stdout
    assert "baton key create --role admin" in done.stdout


@pytest.mark.parametrize("database", ["nonsense", "mysql://host/name", "/a/path.sqlite3"])
def test_a_database_that_baton_does_not_know_is_told_without_what_was_set(database: str) -> None:
    with pytest.raises(SettingError, match="postgresql://") as refused:
        Settings.from_environ({"BATON_DATABASE": database})
    assert database not in str(refused.value), "it may hold a password"


def test_a_home_that_is_a_file_and_damaged_keys_are_told_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"BATON_HOME=.*file: it takes a folder"):
        Settings.from_environ({"BATON_HOME": str(tmp_path / "file")})
    (tmp_path / "keys.json").write_text("{")
    store = Store(f"sqlite:///{tmp_path / 'baton.sqlite3'}")
    with pytest.raises(ValueError, match=r"keys\.json is damaged"):
        prepare(Settings(home=tmp_path), store)
    store.close()


def test_a_misspelt_setting_is_told_with_the_one_that_is_meant() -> None:
    environ = {"BATON_DATABSE": "x", "BATON_PORT": "1", "BATON_TEST_SEED": "1", "BATON_DATA": "x"}
    assert Settings.unknown(environ) == {"BATON_DATABSE": "BATON_DATABASE"}
