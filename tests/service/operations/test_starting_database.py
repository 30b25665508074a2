"""A database that is just starting is waited for; one that says no otherwise is not."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from service.operations import bootstrap
from service.operations.bootstrap import prepare_database
from service.runtime.settings import Settings
from service.store.database.transactions import UnavailableError
from tests import postgres

STARTING, FULL = "the database system is starting up", "sorry, too many clients already"


def refusal(message: str) -> bytes:
    """What PostgreSQL sends to who connects too early."""
    fields = f"SFATAL\0VFATAL\0C57P03\0M{message}\0\0".encode()
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields


def refuse(connection: socket.socket, message: str) -> None:
    with connection, suppress(OSError):
        size, code = struct.unpack("!ii", connection.recv(8))
        if code == 80877103:  # it asks for TLS first
            connection.sendall(b"N")
            size, _ = struct.unpack("!ii", connection.recv(8))
        connection.recv(size - 8)
        connection.sendall(refusal(message))


def pipe(source: socket.socket, target: socket.socket) -> None:
    with source, suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def door(url: str, message: str, refusals: int) -> Iterator[tuple[str, list[str]]]:
    """An address that refuses so many connections as PostgreSQL does, and then lets through."""
    real = make_url(url)
    host, port = str(real.query.get("host") or real.host), real.port or 5432
    said: list[str] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                if len(said) < refusals:
                    said.append(message)
                    refuse(connection, message)
                    continue
                if host.startswith("/"):
                    inner = socket.socket(socket.AF_UNIX)
                    inner.connect(f"{host}/.s.PGSQL.{port}")
                else:
                    inner = socket.create_connection((host, port))
                for pair in ((connection, inner), (inner, connection)):
                    threading.Thread(target=pipe, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        place = real.difference_update_query(["host"]).set(
            host="127.0.0.1", port=listening.getsockname()[1]
        )
        yield place.render_as_string(hide_password=False), said
        listening.shutdown(socket.SHUT_RDWR)


def test_a_database_that_is_starting_is_waited_for(tmp_path: Path) -> None:
    with postgres.database() as url, door(url, STARTING, 3) as (through, said):
        prepare_database(Settings(home=tmp_path, database=through))
        assert said == 3 * [STARTING]
        assert (tmp_path / "keys.json").exists()


def test_one_that_goes_on_starting_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "STARTING_SECONDS", 0.0)
    with (
        postgres.database() as url,
        door(url, STARTING, 10**6) as (through, _),
        pytest.raises(UnavailableError, match=STARTING),
    ):
        prepare_database(Settings(home=tmp_path, database=through))


def test_another_refusal_is_told_at_once(tmp_path: Path) -> None:
    with (
        postgres.database() as url,
        door(url, FULL, 10**6) as (through, said),
        pytest.raises(UnavailableError, match=FULL),
    ):
        prepare_database(Settings(home=tmp_path, database=through))
    assert said
