"""Who may do what, where: roles, workspaces that never see each other, keys, repeated requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from learning.models.recipes import DEFAULT
from service.runtime.settings import Settings
from service.versions import switches
from service.versions.restore import restore
from service.web.app import create_app
from tests.service_in_process import (
    ASKS,
    QUIET,
    Caller,
    InProcess,
    Place,
    at_once,
    refusal,
    same,
    serving,
)

ROLES = ("bot", "agent", "lead", "engineer", "admin")
NEEDS = {
    "POST /v1/score": "bot",
    "POST /v1/score/batch": "bot",
    "POST /v1/decisions/{decision_id}/answer": "bot",
    "POST /v1/conversations/{conversation_id}/messages": "bot",
    "POST /v1/conversations/{conversation_id}/close": "bot",
    "POST /v1/conversations/{conversation_id}/outcome": "bot",
    "GET /v1/conversations": "agent",
    "GET /v1/conversations/{conversation_id}": "bot",
    "GET /v1/decisions/{decision_id}": "agent",
    "GET /v1/decisions/{decision_id}/replay": "agent",
    "GET /v1/events": "bot",
    "DELETE /v1/conversations/{conversation_id}/messages/{message_id}": "bot",
    "DELETE /v1/people/{customer_id}": "admin",
    "DELETE /v1/webhooks/{webhook_id}": "admin",
    "GET /v1/people/{customer_id}": "admin",
    "GET /v1/webhooks": "admin",
    "GET /v1/webhooks/{webhook_id}/deliveries": "admin",
    "PATCH /v1/policy": "engineer",
    "POST /v1/decisions/{decision_id}/advice": "bot",
    "POST /v1/deliveries/{delivery_id}/resend": "admin",
    "POST /v1/handoffs/{handoff_id}/assign": "agent",
    "POST /v1/handoffs/{handoff_id}/reply": "agent",
    "GET /v1/connections": "admin",
    "POST /v1/connections": "admin",
    "PATCH /v1/connections/{connection_id}": "admin",
    "DELETE /v1/connections/{connection_id}": "admin",
    "GET /v1/connections/{connection_id}/deliveries": "admin",
    "POST /v1/connections/{connection_id}/deliveries/{delivery_id}/resend": "admin",
    "GET /v1/conversations/{conversation_id}/messages/{message_id}/original": "agent",
    "POST /v1/webhooks": "admin",
    "POST /v1/webhooks/{webhook_id}/rotate": "admin",
    "PUT /v1/conversations/{conversation_id}/messages/{message_id}": "bot",
    "POST /v1/handoffs": "bot",
    "GET /v1/handoffs": "agent",
    "GET /v1/handoffs/{handoff_id}": "agent",
    "POST /v1/handoffs/{handoff_id}/claim": "agent",
    "POST /v1/handoffs/{handoff_id}/note": "agent",
    "POST /v1/handoffs/{handoff_id}/transfer": "agent",
    "POST /v1/handoffs/{handoff_id}/return": "agent",
    "POST /v1/handoffs/{handoff_id}/resolve": "agent",
    "POST /v1/handoffs/{handoff_id}/outcome": "agent",
    "GET /v1/audits/next": "agent",
    "POST /v1/audits/{audit_id}/outcome": "agent",
    "POST /v1/audits/{audit_id}/skip": "agent",
    "PUT /v1/outcomes/{outcome_id}": "agent",
    "DELETE /v1/outcomes/{outcome_id}": "agent",
    "GET /v1/outcomes/{outcome_id}/effect": "agent",
    "GET /v1/questions": "agent",
    "GET /v1/standing": "engineer",
    "GET /v1/versions": "engineer",
    "GET /v1/versions/{number}": "engineer",
    "POST /v1/versions/{number}/promote": "engineer",
    "POST /v1/versions/{number}/block": "engineer",
    "DELETE /v1/versions/{number}/block": "engineer",
    "POST /v1/rollback": "engineer",
    "POST /v1/challengers": "engineer",
    "DELETE /v1/challengers/{challenger_id}": "engineer",
    "GET /v1/policy": "engineer",
    "PUT /v1/policy": "engineer",
    "POST /v1/policy/preview": "engineer",
    "GET /v1/quality": "lead",
    "GET /v1/quality/agents": "lead",
    "POST /v1/workspaces": "admin",
    "PUT /v1/workspaces/{workspace}/mode": "admin",
    "POST /v1/keys": "admin",
    "GET /v1/keys": "admin",
    "GET /v1/users": "admin",
    "DELETE /v1/keys/{key_id}": "admin",
}
HEALTH = {"GET /healthz", "GET /readyz", "GET /metrics"}
OPEN = HEALTH | {"POST /connect/{connection_id}"}
"""Without a key; the last by a signature."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("workspaces")) as running:
        yield running


def ask(caller: Caller, route: str) -> Any:
    method, _, path = route.partition(" ")
    with caller.stream(method, re.sub(r"\{\w+\}", "999999", path)) as answer:
        if not answer.headers["content-type"].startswith("text/event-stream"):
            answer.read()
    return answer


# Roles


def test_every_route_is_in_the_table_of_roles(tmp_path: Any) -> None:
    paths = create_app(Settings(home=tmp_path)).openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    for route, role in NEEDS.items():
        method, path = route.split()
        assert f"Role: `{role}`" in paths[path][method.lower()]["description"], route
    assert {re.sub(r":path\}", "}", route) for route in routes} == set(NEEDS) | OPEN


@pytest.mark.parametrize("route", NEEDS)
def test_a_route_takes_its_role_and_none_below(place: Place, route: str) -> None:
    lead = place.admin.posted("/v1/keys", {"role": "lead"})["key"]
    callers = (place.bot, place.agent, place.service.caller(lead), place.engineer, place.admin)
    enough = ROLES.index(NEEDS[route])
    before = place.content()
    for number, caller in enumerate(callers[:enough]):
        error = refusal(ask(caller, route), 403, "role_too_low")
        assert ROLES[enough] in error["message"]
        assert ROLES[number] in error["message"]
    assert ask(callers[enough], route).status_code not in (401, 403) or route in (
        "POST /v1/workspaces",
        "PUT /v1/workspaces/{workspace}/mode",
        "GET /v1/conversations/{conversation_id}/messages/{message_id}/original",
    )
    refusal(ask(place.service.caller(), route), 401, "no_key")
    refusal(ask(place.service.caller("bk_guessed"), route), 401, "unknown_key")
    assert place.content() == before


def test_health_takes_no_key(service: InProcess) -> None:
    for route in HEALTH:
        assert ask(service.caller(), route).status_code == 200


def test_events_for_a_connection_that_is_not_there_are_not_taken(service: InProcess) -> None:
    assert ask(service.caller(), "POST /connect/{connection_id}").status_code == 404


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic abc", "Bearer,bk_x", "bk_x", "Bearer \xe9"]
)
def test_a_broken_authorization_header_is_401_and_says_what_to_send(
    service: InProcess, header: str
) -> None:
    given = {"Authorization": header.encode("latin-1")}
    answer = service.caller().get("/v1/policy", headers=given)  # type: ignore[arg-type]
    assert refusal(answer, 401)["field"] == "Authorization"
    assert answer.headers["www-authenticate"] == "Bearer"


# Workspaces never see each other


@pytest.fixture
def theirs(service: InProcess) -> dict[str, Any]:
    """A workspace with one of everything, and the ids of it."""
    place = service.workspace()
    decided = place.bot.decided("c", "m1", ASKS)
    handoff = decided["handoff"]["id"]
    outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "not_needed"})
    standing = restore(service.baton.store, place.name)
    with service.baton.store.write() as connection:
        switches.save_version(
            connection,
            place.name,
            switches.SerializedState.of(standing),
            line=standing.switch,
            reason="test",
        )
    key = place.admin.posted("/v1/keys", {"role": "bot"})["id"]
    ids = {
        "decision_id": decided["decision_id"],
        "handoff_id": handoff,
        "outcome_id": outcome["id"],
    }
    return {"place": place, "conversation_id": "c", "number": "2", "key_id": key} | ids


@pytest.mark.parametrize("route", [route for route in NEEDS if "{" in route])
def test_what_another_workspace_has_is_not_found(
    service: InProcess, theirs: dict[str, Any], route: str
) -> None:
    mine, other = service.workspace(), theirs["place"]
    method, _, path = route.partition(" ")
    before = other.content()
    body = {
        "/answer": {"accepted": True},
        "/messages": {"messages": [{"id": "x", "author": "bot", "text": "x"}]},
        "/close": {"resolution": "resolved"},
        "/outcome": {"verdict": "needed"},
        "/note": {"text": "x"},
        "/transfer": {"team": "support"},
        "/reply": {"text": "x"},
        "/assign": {"user": "admin"},
        "/advice": {"advice": {"judge": 0.5}},
        "/{message_id}": {"text": "x"} if route.startswith("PUT") else None,
        "/mode": {"mode": "shadow"},
        "/{connection_id}": {"enabled": False} if method == "PATCH" else None,
    }.get("/" + path.rpartition("/")[2])
    if route in ("PUT /v1/outcomes/{outcome_id}", "POST /v1/audits/{audit_id}/outcome"):
        body = {"verdict": "missed"}
    path = re.sub(r"\{(\w+)\}", lambda m: theirs.get(m[1], other.name), path)
    answer = mine.admin.request(method, path, json=body)
    if route.endswith("/messages"):
        assert answer.json()["length"] == 1
    elif route.endswith("/mode"):
        refusal(answer, 403, "other_workspace")
    elif route.endswith("/original"):
        refusal(answer, 403, "originals_not_shown")
    else:
        refusal(answer, 404)
    assert other.content() == before
    assert other.bot.get("/v1/policy").status_code == 403


def test_lists_and_figures_are_of_ones_own_workspace(
    service: InProcess, theirs: dict[str, Any]
) -> None:
    for mine in (service.workspace(), service.default()):
        assert mine.agent.got("/v1/handoffs") == {"handoffs": []}
        quality = mine.engineer.got("/v1/quality")
        assert quality["conversations"]["all"] == 0
        assert quality["model"]["lessons"] == 0
        assert [one["number"] for one in mine.engineer.got("/v1/versions")["versions"]] == [1]
        keys = {key["id"] for key in mine.admin.got("/v1/keys")["keys"]}
        assert len(keys) == 5
        assert theirs["key_id"] not in keys


def test_the_same_ids_in_two_workspaces_are_two_conversations(service: InProcess) -> None:
    one, other = service.workspace(), service.workspace()
    one.bot.decided("c", "m1", ASKS)
    decided = other.bot.decided("c", "m1", QUIET)
    assert decided["action"] != "human_active"
    assert other.agent.got("/v1/conversations/c")["messages"][0]["text"] == QUIET
    assert one.agent.got("/v1/conversations/c")["messages"][0]["text"] == ASKS


def test_learning_in_one_workspace_changes_nothing_in_another(service: InProcess) -> None:
    one, other = service.workspace(), service.workspace()
    before = other.engineer.got("/v1/standing")
    one.bot.decided("c", "m1", QUIET)
    one.bot.posted("/v1/conversations/c/outcome", {"verdict": "fine"})
    one.policy(cooldown_messages=9)
    assert other.engineer.got("/v1/standing") == before
    assert one.engineer.got("/v1/standing")["digest"] != before["digest"]
    assert other.engineer.got("/v1/policy")["cooldown_messages"] == 3


# Creating workspaces


def test_a_workspace_is_made_once_and_its_keys_are_shown_again(service: InProcess) -> None:
    admin = service.caller(service.keys["admin"])
    asked = {"id": "made-once", "mode": "shadow"}
    made = same(at_once(5, lambda _: admin.post("/v1/workspaces", json=asked)))
    assert (made["id"], made["mode"], set(made["keys"])) == (
        "made-once",
        "shadow",
        {*ROLES},
    )
    place = Place(service, "made-once", made["keys"])
    assert len(place.admin.got("/v1/keys")["keys"]) == 5
    standing = place.engineer.got("/v1/standing")
    assert (standing["version"], standing["position"], standing["recipe"]) == (1, 2, DEFAULT)
    assert set(standing) == {
        "version", "recipe", "position", "digest", "switch", "build", "made_of",
    }  # fmt: skip


@pytest.mark.parametrize("field, value", [("mode", "live"), ("recipe", "adagrad-4")])
def test_a_workspace_that_exists_otherwise_is_a_contradiction(
    service: InProcess, field: str, value: str
) -> None:
    admin = service.caller(service.keys["admin"])
    asked = {"id": f"exists-{field}", "mode": "shadow", "recipe": "bayes-4"}
    admin.posted("/v1/workspaces", asked)
    error = refusal(admin.post("/v1/workspaces", json=asked | {field: value}), 409)
    assert (error["code"], error["field"]) == ("workspace_exists", field)


def test_a_workspace_of_an_unknown_recipe_is_not_half_made(service: InProcess) -> None:
    admin = service.caller(service.keys["admin"])
    error = refusal(admin.post("/v1/workspaces", json={"id": "half", "recipe": "nope"}), 422)
    assert (error["code"], error["field"]) == ("unknown_recipe", "recipe")
    assert DEFAULT in error["hint"]
    made = admin.posted("/v1/workspaces", {"id": "half"})
    place = Place(service, "half", made["keys"])
    assert place.bot.decided("c", "m1", QUIET)["version"] == 1


@pytest.mark.parametrize("name", ["", "Upper", "with space", "a/b", "..", "-a", "é", "x" * 65])
def test_a_workspace_has_a_plain_name(service: InProcess, name: str) -> None:
    admin = service.caller(service.keys["admin"])
    assert refusal(admin.post("/v1/workspaces", json={"id": name}), 422)["field"] == "id"


def test_only_the_installations_admins_make_workspaces_and_change_others(
    service: InProcess, place: Place
) -> None:
    error = refusal(place.admin.post("/v1/workspaces", json={"id": "mine"}), 403)
    assert (error["code"], "default" in error["hint"]) == ("other_workspace", True)
    other = service.workspace()
    path = f"/v1/workspaces/{other.name}/mode"
    refusal(place.admin.put(path, json={"mode": "shadow"}), 403, "other_workspace")
    installation = service.caller(service.keys["admin"])
    assert installation.put(path, json={"mode": "shadow"}).json()["mode"] == "shadow"
    unknown = installation.put("/v1/workspaces/nope/mode", json={"mode": "live"})
    refusal(unknown, 404, "no_workspace")


# Keys


def test_an_issued_key_works_and_a_revoked_one_is_refused_at_once(place: Place) -> None:
    made = place.admin.posted("/v1/keys", {"role": "agent", "name": "ann"})
    ann = place.service.caller(made["key"])
    assert ann.got("/v1/handoffs") == {"handoffs": []}
    gone = same([place.admin.delete(f"/v1/keys/{made['id']}") for _ in range(3)])
    assert gone["revoked_at"] is not None
    assert "hash" not in gone
    refusal(ann.get("/v1/handoffs"), 401, "unknown_key")


def test_keys_are_listed_without_their_secrets(place: Place) -> None:
    made = place.admin.posted("/v1/keys", {"role": "bot", "name": "shop"})
    listed = place.admin.got("/v1/keys")["keys"]
    (shop,) = [key for key in listed if key["id"] == made["id"]]
    assert shop == {name: value for name, value in made.items() if name != "key"}
    assert all(key["workspace"] == place.name for key in listed)


def test_no_secret_is_ever_in_the_database(service: InProcess, place: Place) -> None:
    header = {"Idempotency-Key": "kept"}
    made = place.admin.post("/v1/keys", json={"role": "bot"}, headers=header).json()
    home = service.baton.settings.home
    stored = b"".join(path.read_bytes() for path in home.glob("baton.sqlite3*"))
    assert made["id"].encode() in stored
    for secret in (made["key"], *place.keys.values(), *service.keys.values()):
        assert secret.encode() not in stored


def test_a_key_can_be_issued_elsewhere_by_the_installations_admin_only(
    service: InProcess, place: Place
) -> None:
    asked = {"role": "agent", "workspace": place.name}
    refusal(service.workspace().admin.post("/v1/keys", json=asked), 403, "other_workspace")
    installation = service.caller(service.keys["admin"])
    made = installation.posted("/v1/keys", asked)
    assert service.caller(made["key"]).got("/v1/handoffs") == {"handoffs": []}
    unknown = installation.post("/v1/keys", json=asked | {"workspace": "nope"})
    assert refusal(unknown, 404, "no_workspace")["field"] == "workspace"
    assert installation.delete(f"/v1/keys/{made['id']}").status_code == 200
    refusal(installation.delete("/v1/keys/k0"), 404, "no_key")


# Requests without a natural id


def test_a_repeated_idempotency_key_issues_one_key(place: Place) -> None:
    header = {"Idempotency-Key": "once"}
    asked = {"role": "bot", "name": "shop"}
    made = same(at_once(5, lambda _: place.admin.post("/v1/keys", json=asked, headers=header)))
    assert len(place.admin.got("/v1/keys")["keys"]) == 6
    assert place.service.caller(made["key"]).decided("c", "m", QUIET)["version"] == 1
    other = place.admin.post("/v1/keys", json={"role": "admin"}, headers=header)
    error = refusal(other, 409, "idempotency_key_reused")
    assert error["field"] == "Idempotency-Key"


def test_without_an_idempotency_key_every_request_issues_a_key_of_its_own(place: Place) -> None:
    made = [place.admin.posted("/v1/keys", {"role": "bot"}) for _ in range(2)]
    assert made[0]["key"] != made[1]["key"]
    assert made[0]["name"] != made[1]["name"]


def test_idempotency_keys_of_two_people_are_strangers(place: Place) -> None:
    header, asked = {"Idempotency-Key": "monday"}, {"role": "bot"}
    first = place.admin.post("/v1/keys", json=asked, headers=header).json()
    ada = place.admin.posted("/v1/keys", {"role": "admin", "name": "ada"})["key"]
    theirs = place.service.caller(ada).post("/v1/keys", json=asked, headers=header).json()
    assert theirs["id"] != first["id"]


def test_idempotency_keys_of_two_workspaces_are_strangers(service: InProcess) -> None:
    header = {"Idempotency-Key": "shared"}
    made = [
        service.workspace().admin.post("/v1/keys", json={"role": "bot"}, headers=header).json()
        for _ in range(2)
    ]
    assert made[0]["key"] != made[1]["key"]


def test_an_idempotency_key_has_a_greatest_length(place: Place) -> None:
    header = {"Idempotency-Key": "x" * 201}
    answer = place.admin.post("/v1/keys", json={"role": "bot"}, headers=header)
    error = refusal(answer, 422, "idempotency_key_too_long")
    assert "200" in error["message"]


@pytest.mark.parametrize("route", ["/v1/rollback", "/v1/versions/1/promote"])
def test_a_repeated_idempotency_key_switches_once(place: Place, route: str) -> None:
    asked: dict[str, Any] = {"reason": "try"} | ({"to": 1} if "rollback" in route else {})
    header = {"Idempotency-Key": "switch"}
    answers = at_once(4, lambda _: place.engineer.post(route, json=asked, headers=header))
    switched = same(answers)
    assert (switched["version"], switched["serving"]) == (1, True)
    assert place.engineer.got("/v1/standing")["switch"] == switched["switch"]
    assert len(place.engineer.got("/v1/versions")["switches"]) == 2
    other = place.engineer.post(route, json=asked | {"reason": "another"}, headers=header)
    refusal(other, 409, "idempotency_key_reused")
    again = place.engineer.posted(route, asked)
    assert again["switch"] == switched["switch"] + 1


def test_a_switch_names_who_decided_it_and_why(place: Place) -> None:
    place.engineer.posted("/v1/versions/1/promote")
    place.engineer.posted("/v1/rollback", {"to": 1, "reason": "a burst of wrong outcomes"})
    found = place.engineer.got("/v1/versions/1")
    assert [switch["kind"] for switch in found["switches"]] == [
        "promotion",
        "promotion",
        "rollback",
    ]
    assert found["switches"][-1]["reason"] == "a burst of wrong outcomes"
    assert found["switches"][-1]["actor"] == f"{place.name}-engineer"


def test_a_version_that_is_not_there_cannot_serve(place: Place) -> None:
    before = place.content()
    refusal(place.engineer.get("/v1/versions/9"), 404, "no_version")
    refusal(place.engineer.post("/v1/versions/9/promote"), 404, "no_version")
    asked = {"to": 9, "reason": "try"}
    refusal(place.engineer.post("/v1/rollback", json=asked), 404, "no_version")
    nothing = place.engineer.post("/v1/rollback", json={"reason": "try"})
    error = refusal(nothing, 409, "nothing_before")
    assert (error["field"], "GET /v1/versions" in error["hint"]) == ("to", True)
    assert place.content() == before
