"""Who does something to a handoff: the key's holder, a lead who takes over, or the agent of another
system, for whom its connector acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.service_in_process import OTHERS, Caller, InProcess, Place, refusal, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("acting")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


def holder(place: Place, role: str) -> Caller:
    made = place.admin.posted("/v1/keys", {"role": role, "name": f"a-{role}"})
    return place.service.caller(made["key"])


def test_a_lead_takes_a_handoff_from_who_has_it_and_an_agent_does_not(place: Place) -> None:
    handoff = place.escalated()
    path, takes = f"/v1/handoffs/{handoff}/claim", {"take_over": True}
    place.agent.posted(path, {})
    other, lead = place.named_agent("bo"), holder(place, "lead")
    refusal(lead.post(path), 409, "already_claimed")
    refusal(other.post(path, json=takes), 403, "role_too_low")
    assert lead.posted(path, takes)["claimed_by"] == "a-lead"
    refusal(place.agent.post(path), 409, "already_claimed")


def test_a_connector_acts_for_the_agents_of_its_system(place: Place) -> None:
    connector, handoff = holder(place, "connector"), place.escalated()
    zoe = {"agent": "zoe"}
    path = f"/v1/handoffs/{handoff}"
    assert connector.posted(f"{path}/claim", zoe)["claimed_by"] == "zoe"
    refusal(connector.post(f"{path}/claim", json={"agent": "max"}), 409, "already_claimed")
    assert connector.posted(f"{path}/reply", {"text": "hello", **zoe})["agent"] == "zoe"
    assert connector.posted(f"{path}/note", {"text": "asked", **zoe})["agent"] == "zoe"
    verdict = connector.posted(f"{path}/outcome", {"verdict": "needed", **zoe})
    assert (verdict["agent"], verdict["source"]) == ("zoe", "agent")
    corrected = {"verdict": "not_needed", "agent": "max"}
    answer = connector.put(f"/v1/outcomes/{verdict['id']}", json=corrected)
    assert answer.json()["agent"] == "max"
    assert connector.posted(f"{path}/return", zoe)["claimed_by"] == "zoe"
    place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})


def test_nobody_else_acts_for_another_and_nobody_for_baton(place: Place) -> None:
    handoff = place.escalated()
    path = f"/v1/handoffs/{handoff}/claim"
    own = {"agent": f"{place.name}-agent"}
    refusal(place.agent.post(path, json={"agent": "zoe"}), 403, "not_a_connector")
    assert place.agent.posted(path, own)["claimed_by"] == own["agent"]
    refused = holder(place, "connector").post(path, json={"agent": "jobs"})
    assert refusal(refused, 422, "reserved_name")["field"] == "agent"
    refused = place.bot.post("/v1/handoffs", json=asked("c", taken_by="jobs"))
    assert refusal(refused, 422, "reserved_name")["field"] == "taken_by"


def asked(conversation: str, **more: Any) -> dict[str, Any]:
    return {"conversation_id": conversation, "reason": "stuck", **more}


def test_a_handoff_asked_for_again_by_one_key_is_the_same_even_when_it_is_over(
    place: Place,
) -> None:
    place.bot.decided("c", "m1", OTHERS[0])
    key = {"Idempotency-Key": "first"}
    first = place.bot.post("/v1/handoffs", json=asked("c"), headers=key).json()
    place.agent.posted(f"/v1/handoffs/{first['id']}/claim")
    place.agent.posted(f"/v1/handoffs/{first['id']}/return")
    again = place.bot.post("/v1/handoffs", json=asked("c"), headers=key).json()
    assert again == first
    other = place.bot.post("/v1/handoffs", json=asked("c", summary="x"), headers=key)
    refusal(other, 409, "idempotency_key_reused")
    assert place.bot.posted("/v1/handoffs", asked("c"))["id"] != first["id"]


def test_a_close_that_comes_again_by_its_key_does_not_close_what_was_opened_since(
    place: Place,
) -> None:
    place.bot.decided("c", "m1", OTHERS[0])
    path, body, key = (
        "/v1/conversations/c/close",
        {"resolution": "resolved"},
        {"Idempotency-Key": "c"},
    )
    first = place.bot.post(path, json=body, headers=key).json()
    place.bot.decided("c", "m2", OTHERS[1])
    assert place.bot.post(path, json=body, headers=key).json() == first
    assert place.agent.got("/v1/conversations/c")["status"] == "open"
