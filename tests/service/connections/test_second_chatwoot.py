"""Against a Chatwoot of another hand: from signed events to a handover and a verdict learned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.connections import dispatcher
from service.connections.calls import call_sender
from tests.connected import Connected, dispatching
from tests.far_sides.second_chatwoot import (
    ACCOUNT_ID,
    BOT_TOKEN,
    HOOK_SECRET,
    SecondChatwoot,
    second_chatwoot,
)
from tests.service_in_process import ASKS, QUIET, InProcess, Place, serving
from tests.waiting import until

NUMBER = 41_207


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("second")) as running:
        yield running


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_sender, "RETRY_SECONDS", (0.05,) * 20)
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 0.02)


def connected(place: Place, far: SecondChatwoot) -> Connected:
    """As the page says: connect first, give the webhook's secret after."""
    config = {"base_url": far.base_url, "account_id": ACCOUNT_ID, "teams": {"support": 17}}
    config |= {"api_access_token": BOT_TOKEN, "inbox_ids": [12]}
    asked = {"kind": "chatwoot", "name": "Second", "config": config}
    made = place.admin.posted("/v1/connections", asked)
    far.hook = f"{place.service.url}/connect/{made['id']}"
    secret = {"config": {"webhook_secret": HOOK_SECRET}}
    assert place.admin.patch(f"/v1/connections/{made['id']}", json=secret).status_code == 200
    return Connected(place, made)


def test_from_signed_events_to_a_first_handover_and_a_verdict_that_is_learned(
    service: InProcess, place: Place
) -> None:
    with second_chatwoot() as far, dispatching(service):
        desk = connected(place, far)

        def step() -> None:
            far.flush()
            desk.delivered()
            far.flush()
            desk.settled()

        name = f"chatwoot:{desk.id}:{ACCOUNT_ID}:{NUMBER}"
        far.begin(NUMBER)
        far.writes(NUMBER, QUIET)
        step()
        far.bot_writes(NUMBER, "From ten to five.")
        step()
        far.writes(NUMBER, ASKS)
        step()
        row = far.rows[NUMBER]
        assert (row["status"], row["team"]) == ("open", 17)
        done = [verb for verb, _, status in far.calls if status == 200]
        assert done == ["toggle_status", "assignments", "toggle_priority", "messages"]
        (note,) = [m for m in row["messages"] if m["private"]]
        assert QUIET in note["content"]
        assert ASKS in note["content"]

        far.agent_takes(NUMBER, "Ana")
        step()
        far.agent_writes(NUMBER, "Ana", "Hello Ida, this is Ana.")
        step()
        found = place.agent.got(f"/v1/conversations/{name}")
        (handoff,) = found["handoffs"]
        assert (handoff["status"], handoff["claimed_by"]) == ("claimed", "Ana")
        said = [(m["author"], m["text"]) for m in found["messages"] if m["author"] != "system"]
        assert said == [
            ("user", QUIET),
            ("bot", "From ten to five."),
            ("user", ASKS),
            ("agent", "Hello Ida, this is Ana."),
        ]
        assert [d["action"] for d in found["decisions"]] == ["continue", "escalate"]

        before = place.engineer.got("/v1/standing")
        far.macro_labels(NUMBER, "baton-needed")
        step()
        far.agent_writes(NUMBER, "Ana", "/baton needed since 1", private=True)
        step()
        far.agent_resolves(NUMBER)
        step()
        assert [body["verdict"] for body in place.ledger()] == ["needed", "needed"]
        (outcome,) = place.agent.got(f"/v1/conversations/{name}")["outcomes"]
        assert (outcome["verdict"], outcome["agent"]) == ("needed", "Ana")

        def is_learned() -> bool:
            now = place.engineer.got("/v1/standing")
            return now["position"] > before["position"] and now["digest"] != before["digest"]

        until(is_learned, "the verdict is learned", every=0.05)
        found = place.agent.got(f"/v1/conversations/{name}")
        assert found["status"] == "closed"
        assert [one["status"] for one in found["handoffs"]] == ["resolved"]
        assert desk.refused() == []
        assert far.problems == []
