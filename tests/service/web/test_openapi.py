"""The OpenAPI description is true: whatever it allows is answered as it says, and never with a 5xx.

Schemathesis makes requests from the description, well and badly shaped ones; half of the ids in
paths are replaced by ones that exist, so that more than 404 is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from service.runtime.settings import Settings
from service.web.app import create_app
from tests.service_in_process import ASKS, InProcess, Place, refusal, serving

EXAMPLES = 20
DESCRIBED = create_app(Settings(home=Path("nowhere"))).openapi()


def closed(described: dict[str, Any]) -> dict[str, Any]:
    """The description with no room for fields that it does not name: an answer must be whole."""
    exact = deepcopy(described)
    for shape in exact["components"]["schemas"].values():
        if "properties" in shape:
            shape["additionalProperties"] = False
    return exact


schema = schemathesis.openapi.from_dict(closed(DESCRIBED))
CHECKS: Any = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("openapi")) as running:
        yield running


@pytest.fixture(scope="module")
def there(service: InProcess) -> dict[str, Any]:
    """Ids that exist, by the name of their path parameter."""
    place = service.default()
    handoff = place.bot.decided("c", "m1", ASKS)["handoff"]["id"]
    outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    place.agent.posted(f"/v1/handoffs/{handoff}/return")
    again = place.bot.decided("c", "m2", ASKS)
    return {
        "conversation_id": "c",
        "decision_id": again["decision_id"],
        "handoff_id": again["handoff"]["id"],
        "outcome_id": outcome["id"],
        "number": 1,
        "workspace": "default",
        "webhook_id": place.admin.posted("/v1/webhooks", {"url": "http://127.0.0.1:9/"})["id"],
        "key_id": place.admin.posted("/v1/keys", {"role": "bot"})["id"],
    }


@schema.exclude(path="/v1/events").parametrize()  # it never ends: see test_events
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(
    case: schemathesis.Case, service: InProcess, there: dict[str, Any]
) -> None:
    for name, value in case.path_parameters.items():
        if name in there and len(str(value)) % 2:
            case.path_parameters[name] = there[name]
    answer = case.call(base_url=service.url, headers={"Authorization": f"Bearer {_key(service)}"})
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
        error = answer.json()["error"]
        assert error["code"]
        assert error["message"]


def _key(service: InProcess) -> str:
    return service.keys["admin"]


def test_the_description_names_every_error_and_its_shape() -> None:
    for path, methods in DESCRIBED["paths"].items():
        if not path.startswith("/v1"):
            continue
        for operation in methods.values():
            assert {"401", "403", "404", "409", "413", "422", "503"} <= set(operation["responses"])
            refused = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert refused == {"$ref": "#/components/schemas/ErrorAnswer"}


def test_every_route_has_a_sentence_and_asks_for_a_key() -> None:
    for path, methods in DESCRIBED["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path} does not say what it does"
            if path.startswith("/v1"):
                assert operation.get("security"), f"{method} {path} asks for no key"


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DESCRIBED["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_a_plain_id_of_its_own() -> None:
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
    assert [name for name in ids if "v1" in name or name.endswith(("_get", "_post"))] == []


def test_every_operation_has_a_summary_and_one_tag_and_tags_stand_in_the_order_of_use() -> None:
    tags = [tag["name"] for tag in DESCRIBED["tags"]]
    assert tags[:5] == ["score", "conversations", "handoffs", "outcomes", "audits"]
    assert tags[5:] == [
        "events",
        "webhooks",
        "connections",
        "quality",
        "policy",
        "versions",
        "workspaces",
        "people",
        "health",
    ]
    for name, operation in operations():
        assert operation["summary"], name
        assert len(operation["tags"]) == 1, name
        assert operation["tags"][0] in tags, name


def test_every_operation_has_a_typed_answer() -> None:
    for name, operation in operations():
        for media in operation["responses"]["200"]["content"].values():
            shape = media["schema"]
            assert "$ref" in shape or shape.get("type") == "string", name


def test_every_property_and_parameter_is_described_and_shown_by_an_example() -> None:
    for name, shape in DESCRIBED["components"]["schemas"].items():
        for field, told in shape.get("properties", {}).items():
            assert told.get("description"), f"{name}.{field}"
            shown = told.get("examples") or "default" in told or "$ref" in str(told)
            assert shown, f"{name}.{field} has no example"


def test_times_of_answers_are_described_as_such() -> None:
    for name, shape in DESCRIBED["components"]["schemas"].items():
        for field, told in shape.get("properties", {}).items():
            is_count = told.get("type") == "integer"
            if not is_count and (field == "at" or field.endswith(("_at", "since", "until"))):
                assert "date-time" in str(told) or "T08:00" in str(told), f"{name}.{field}"


def test_every_route_says_whose_key_it_takes_and_what_the_ids_in_its_path_are() -> None:
    for path, methods in DESCRIBED["paths"].items():
        for method, told in methods.items():
            is_keyed = path.startswith("/v1/")
            assert ("Role: `" in told["description"]) == is_keyed, f"{method} {path}"
            for parameter in told.get("parameters", ()):
                assert parameter["description"], f"{method} {path} {parameter['name']}"
    assert "Role: `lead`" in DESCRIBED["paths"]["/v1/quality"]["get"]["description"]


def test_the_list_of_conversations_is_no_redirect(service: InProcess) -> None:
    place = service.default()
    for name in ("listed-1", "listed-2", "listed-3"):
        customer = {"customer_id": 71 if name == "listed-2" else "73"}
        place.bot.decided(name, "m1", f"where is zeppelin {name}", attributes=customer)
    place.bot.posted("/v1/conversations/listed-2/close", {"resolution": "resolved"})
    first = place.agent.got("/v1/conversations?text=zeppelin&limit=2")
    assert [one["id"] for one in first["conversations"]] == ["listed-3", "listed-2"]
    rest = place.agent.got(f"/v1/conversations?text=zeppelin&limit=2&after={first['next']}")
    assert ([one["id"] for one in rest["conversations"]], rest["next"]) == (["listed-1"], None)
    closed_ones = place.agent.got("/v1/conversations?status=closed&text=zeppelin")["conversations"]
    assert [one["id"] for one in closed_ones] == ["listed-2"]
    theirs = place.agent.got("/v1/conversations?customer=71")["conversations"]
    assert [one["id"] for one in theirs] == ["listed-2"]
    both = place.agent.got("/v1/conversations?customer=73&text=listed-1&limit=1")
    assert ([one["id"] for one in both["conversations"]], both["next"]) == (["listed-1"], None)
    answer = place.agent.get("/v1/conversations", params={"after": "nonsense"})
    assert refusal(answer, 422)["field"] == "after"


def test_the_service_still_decides_after_all_of_it(service: InProcess) -> None:
    place: Place = service.default()
    assert place.bot.decided("afterwards", "m1", ASKS)["action"] == "escalate"
    refusal(place.bot.post("/v1/score", json={}), 422)
