"""Keys: random, once per installation, with a name of their own, an end and a maker; and the
security log of what was done with them.
"""

from __future__ import annotations

import hashlib
import hmac
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store import access, security_log
from service.store.database.transactions import Store
from tests.postgres import on_both
from tests.service_in_process import QUIET, InProcess, Place, refusal, serving
from tests.waiting import until

store_url = on_both("function")


@pytest.fixture
def service(tmp_path: Path, store_url: str) -> Iterator[InProcess]:
    with serving(tmp_path, database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


def log(service: InProcess) -> list[dict[str, Any]]:
    with service.baton.store.read() as connection:
        return [row._asdict() for row in security_log.newest(connection, 1000)]


def logged(service: InProcess, kind: str, **values: Any) -> None:
    def is_there() -> bool:
        return any(
            event["kind"] == kind and values.items() <= event.items() for event in log(service)
        )

    until(is_there, f"the security log tells of {kind}")


def test_no_key_yields_another_key(service: InProcess) -> None:
    """Neither by the names of what was asked, nor from what the database holds after minutes."""
    maker = service.keys["admin"]
    admin = service.caller(maker)
    made = admin.posted("/v1/workspaces", {"id": "delta", "mode": "live"})["keys"]
    key = admin.post(
        "/v1/keys", json={"role": "bot", "name": "b"}, headers={"Idempotency-Key": "one"}
    ).json()["key"]
    purposes = [f"workspace delta {role}" for role in made] + ["key one"]
    derived = {
        "bk_" + hmac.new(maker.encode(), purpose.encode(), hashlib.sha256).hexdigest()
        for purpose in purposes
    }
    assert derived.isdisjoint({*made.values(), key})
    with service.baton.store.write() as connection:
        access.clear_seals(connection, time.time() + 1)
        stored = connection.execute(text('SELECT * FROM "key"')).all()
    assert all(secret not in str(stored) for secret in (*made.values(), key))
    assert all(row.sealed is None for row in stored)


def test_a_repeated_request_gets_its_key_again_for_some_minutes(
    service: InProcess, place: Place
) -> None:
    def ask() -> Any:
        return place.admin.post(
            "/v1/keys", json={"role": "agent", "name": "dana"}, headers={"Idempotency-Key": "k"}
        )

    first = ask().json()
    assert ask().json() == first
    assert service.caller(first["key"]).get("/v1/handoffs").status_code == 200
    with service.baton.store.write() as connection:
        access.clear_seals(connection, time.time() + 1)
    refusal(ask(), 409, "key_was_shown")


def test_a_repeated_request_for_a_revoked_key_is_told_so(place: Place) -> None:
    def ask() -> Any:
        return place.admin.post(
            "/v1/keys", json={"role": "agent", "name": "dana"}, headers={"Idempotency-Key": "k"}
        )

    place.admin.delete(f"/v1/keys/{ask().json()['id']}")
    refusal(ask(), 409, "key_was_shown")


def test_a_workspace_made_again_by_another_admin_shows_no_keys(service: InProcess) -> None:
    admin = service.caller(service.keys["admin"])
    body = {"id": "twice", "mode": "live"}
    first = admin.posted("/v1/workspaces", body)
    assert admin.posted("/v1/workspaces", body) == first
    other = service.caller(admin.posted("/v1/keys", {"role": "admin", "name": "ada"})["key"])
    refusal(other.post("/v1/workspaces", json=body), 409, "key_was_shown")


def test_names_are_told_apart_and_baton_s_own_are_nobody_s(place: Place) -> None:
    made = place.admin.posted("/v1/keys", {"role": "agent", "name": "dana"})
    again = place.admin.post("/v1/keys", json={"role": "engineer", "name": "dana"})
    refusal(again, 409, "name_in_use")
    place.admin.delete(f"/v1/keys/{made['id']}")
    place.admin.posted("/v1/keys", {"role": "agent", "name": "dana"})
    for name in ("jobs", "baton", "mlflow"):
        own = place.admin.post("/v1/keys", json={"role": "engineer", "name": name})
        refusal(own, 422, "reserved_name")
    users = place.admin.got("/v1/users")["users"]
    assert [user["id"] for user in users].count("dana") == 1


def test_a_key_ends_when_it_expires_and_shows_its_maker_and_last_use(
    service: InProcess, place: Place
) -> None:
    soon = time.time() + 3600
    made = place.admin.posted("/v1/keys", {"role": "agent", "name": "dana", "expires_at": soon})
    holder = service.caller(made["key"])
    assert holder.get("/v1/handoffs").status_code == 200

    def shown() -> dict[str, Any]:
        keys = place.admin.got("/v1/keys")["keys"]
        return next(key for key in keys if key["id"] == made["id"])

    until(lambda: shown()["last_used_at"] is not None, "its last use is recorded")
    assert shown()["made_by"] == f"{place.name}-admin"
    with service.baton.store.write() as connection:
        connection.execute(
            text('UPDATE "key" SET expires_at = 1 WHERE id = :id'), {"id": made["id"]}
        )
    until(lambda: holder.get("/v1/handoffs").status_code == 401, "it has expired")


@pytest.mark.parametrize(
    "role, may, may_not",
    [
        ("lead", ["/v1/quality", "/v1/handoffs"], ["/v1/policy", "/v1/keys"]),
        ("connector", ["/v1/handoffs"], ["/v1/quality", "/v1/policy", "/v1/keys"]),
        ("agent", ["/v1/handoffs"], ["/v1/quality", "/v1/policy", "/v1/keys"]),
    ],
)
def test_each_role_reaches_its_own(
    service: InProcess, place: Place, role: str, may: list[str], may_not: list[str]
) -> None:
    caller = service.caller(
        place.admin.posted("/v1/keys", {"role": role, "name": f"the-{role}"})["key"]
    )
    assert [caller.get(path).status_code for path in may] == [200] * len(may)
    assert [caller.get(path).status_code for path in may_not] == [403] * len(may_not)


def test_a_second_host_with_an_empty_home_makes_no_keys(tmp_path: Path, store_url: str) -> None:
    store = Store(store_url)
    try:
        first = prepare(Settings(home=tmp_path / "one", database=store_url), store)
        assert prepare(Settings(home=tmp_path / "one", database=store_url), store) == first
        assert prepare(Settings(home=tmp_path / "two", database=store_url), store) == {}
        assert not (tmp_path / "two" / "keys.json").exists()
        with store.read() as connection:
            assert len(access.keys(connection, "default")) == len(first)
    finally:
        store.close()


def test_the_security_log_tells_what_was_done_and_by_whom(service: InProcess, place: Place) -> None:
    made = place.admin.posted("/v1/keys", {"role": "agent", "name": "dana"})
    logged(service, "workspace_made", subject=place.name)
    admin = f"{place.name}-admin"
    subject = f"{made['id']} agent dana"
    logged(service, "key_issued", actor=admin, subject=subject, workspace=place.name)
    place.bot.decided("c", "m", QUIET)
    service.caller(made["key"]).got("/v1/conversations/c")
    logged(service, "transcript_read", actor="dana", subject="c", workspace=place.name)
    place.admin.delete(f"/v1/keys/{made['id']}")
    logged(service, "key_revoked", actor=admin, subject=subject)
    service.caller("bk_wrong").get("/v1/handoffs")
    logged(service, "refused", actor="unknown_key", address="127.0.0.1")


@pytest.mark.parametrize("change", ["UPDATE security_event SET actor = 'x'", "DELETE FROM"])
def test_nothing_changes_a_line_of_the_security_log(
    service: InProcess, place: Place, change: str
) -> None:
    before = log(service)
    assert before
    statement = change if "SET" in change else f"{change} security_event"
    with (
        pytest.raises(DatabaseError, match="append-only"),
        service.baton.store.write() as connection,
    ):
        connection.execute(text(statement))
    assert log(service)[: len(before)] == before


def test_whatever_a_command_writes_is_its_owner_s_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = (
        "import service.__main__; from pathlib import Path;"
        "from service.operations.bootstrap import prepare_database;"
        "from service.runtime.settings import Settings;"
        f"home = Path({str(home)!r}); (home / 'mlflow').mkdir(parents=True);"
        "prepare_database(Settings(home=home))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    paths = [home, *home.rglob("*")]
    assert len(paths) > 3
    for path in paths:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
