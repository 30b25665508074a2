"""Slack, Sunshine, Intercom by a mapping, Rasa and Dialogflow: from nothing to a handover."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from service.connections import dispatcher
from service.connections.calls import call_sender
from tests.connected import Connected, dispatching
from tests.far_sides.calls import FakeIntercom, FakeSlack, FakeSunshine
from tests.far_sides.examples import EXAMPLES, now, rasa_call, slack_button, sunshine_message
from tests.far_sides.http_side import serving_side
from tests.service_in_process import ASKS, QUIET, InProcess, Place, refusal, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("systems")) as running:
        yield running


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_sender, "RETRY_SECONDS", (0.05,) * 20)
    monkeypatch.setattr(dispatcher, "POLL_SECONDS", 0.02)


def connect(place: Place, name: str, url: str = "") -> Connected:
    """Connect an example; its inbound secret is its own."""
    example = EXAMPLES[name]
    kind_secret = {"chatwoot": "webhook_secret", "sunshine": "webhook_secret"}
    inbound = kind_secret.get(example.kind, "signing_secret" if name == "slack" else "secret")
    config = {**example.config, **dict(example.outbound), inbound: example.secret}
    if url:
        config["base_url"] = url
    asked = {"kind": example.kind, "name": name, "config": config}
    return Connected(place, place.admin.posted("/v1/connections", asked))


def tell(connected: Connected, name: str, body: Any) -> Any:
    raw, headers = EXAMPLES[name].sign(body, EXAMPLES[name].secret, now())
    answer = connected.post(raw, headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_handoff_is_told_in_slack_and_a_button_is_a_verdict(
    service: InProcess, place: Place
) -> None:
    with serving_side(FakeSlack()) as far:
        slack = connect(place, "slack", far.url + "/api")
        challenge = {"type": "url_verification", "challenge": "c0ffee"}
        assert tell(slack, "slack", challenge) == {"challenge": "c0ffee"}
        with dispatching(service):
            place.escalated("c", f"{ASKS} <!channel> & *now*")
            slack.delivered()
        (posted,) = far.posted
        section, actions = posted["blocks"]
        assert "&lt;!channel&gt; &amp;" in section["text"]["text"], "words call nobody"
        values = {element["value"] for element in actions["elements"]}
        assert values == {"c"}
        tell(slack, "slack", slack_button("1", "needed", "c"))
        tell(slack, "slack", slack_button("1", "needed", "c"))
        slack.settled()
        tell(slack, "slack", slack_button("2", "not needed", "c"))
        tell(slack, "slack", slack_button("3", "needed", "elsewhere"))
        slack.settled()
        assert far.wrong == []
    assert [body["verdict"] for body in place.ledger()] == ["needed", "not_needed"]
    (outcome,) = place.agent.got("/v1/conversations/c")["outcomes"]
    assert (outcome["verdict"], outcome["agent"]) == ("not_needed", "ana")
    refusal(place.agent.get("/v1/conversations/elsewhere"), 404)


def test_what_slack_refuses_in_a_body_is_a_failure(service: InProcess, place: Place) -> None:
    with serving_side(FakeSlack()) as far:
        slack = connect(place, "slack", far.url + "/api")
        config = {"channel": "C2"}
        place.admin.patch(f"/v1/connections/{slack.id}", json={"config": config})
        with dispatching(service):
            place.escalated("c")
            slack.delivered()
        (row,) = slack.deliveries()
    assert (row["status"], row["error"]) == ("failed", "it answered channel_not_found")


def test_sunshine_passes_control_and_hears_who_has_it(service: InProcess, place: Place) -> None:
    with serving_side(FakeSunshine()) as far:
        zendesk = connect(place, "sunshine", far.url)
        tell(zendesk, "sunshine", sunshine_message("1", QUIET))
        with dispatching(service):
            tell(zendesk, "sunshine", sunshine_message("2", ASKS))
            zendesk.delivered()
            assert far.active == {"42": "next"}
            assert far.passed[0]["metadata"]["baton_team"] == "support"
            name = f"sunshine:{zendesk.id}:42"
            event = {"type": "switchboard:passControl"}
            active = {"active": "agentWorkspace"}
            tell(zendesk, "sunshine", sunshine_message("3", "", **event, **active))
            agents = {"author": {"type": "business", "displayName": "Ana"}}
            tell(zendesk, "sunshine", sunshine_message("4", "Hi", message=agents, **active))
            zendesk.settled()
            (handoff,) = place.agent.got(f"/v1/conversations/{name}")["handoffs"]
            assert (handoff["status"], handoff["claimed_by"]) == ("claimed", "Ana")
            tell(zendesk, "sunshine", sunshine_message("5", "", type="switchboard:releaseControl"))
            zendesk.delivered()
        (handoff,) = place.agent.got(f"/v1/conversations/{name}")["handoffs"]
    assert handoff["status"] == "returned"
    assert len(far.passed) == 1, "what was heard from there is not told there"
    assert far.wrong == []


def test_several_events_of_one_request_are_done_in_order(place: Place) -> None:
    zendesk = connect(place, "sunshine")
    many = [sunshine_message(str(n), f"{QUIET} {n}")["events"][0] for n in range(1, 5)]
    assert tell(zendesk, "sunshine", {"app": {"id": "app1"}, "events": many}) == {"received": 4}
    zendesk.settled()
    found = place.agent.got(f"/v1/conversations/sunshine:{zendesk.id}:42")
    ids = [m["id"] for m in found["messages"] if m["author"] == "user"]
    assert ids == ["1", "2", "3", "4"]


def test_intercom_is_connected_by_a_mapping(service: InProcess, place: Place) -> None:
    with serving_side(FakeIntercom()) as far:
        intercom = connect(place, "intercom", far.url)
        assert intercom.hook.head(intercom.path).status_code == 200, "it asks before it sends"
        example = EXAMPLES["intercom"]
        with dispatching(service):
            tell(intercom, "intercom", example.customer("11", f"<p>{ASKS}</p>"))
            intercom.delivered()
            agent = example.agent
            assert agent is not None
            tell(intercom, "intercom", agent("12", "<p>Hello</p>"))
            intercom.settled()
    assert [(call, said["message_type"]) for call, said in far.calls] == [
        ("parts", "assignment"),
        ("reply", "note"),
    ]
    (handoff,) = place.agent.got(f"/v1/conversations/hook:{intercom.id}:42")["handoffs"]
    assert handoff["claimed_by"] == "Ana"
    assert far.wrong == []


def test_a_secret_that_baton_makes_is_shown_once(place: Place) -> None:
    config = {"conversation": "c", "rules": [{"event": "message", "id": "id", "text": "text"}]}
    asked = {"kind": "hook", "name": "own", "config": config}
    made = place.admin.posted("/v1/connections", asked)
    assert made["secret"]
    assert made["secret"] not in place.admin.get("/v1/connections").text
    raw, headers = EXAMPLES["standard"].sign(
        {"c": "1", "id": "1", "text": QUIET}, made["secret"], now()
    )
    assert Connected(place, made).post(raw, headers).json() == {"received": 1}


def slots(answer: Any) -> dict[str, Any]:
    return {e["name"]: e["value"] for e in answer["events"] if e["event"] == "slot"}


def test_rasa_is_answered_with_the_decision_at_every_turn(service: InProcess, place: Place) -> None:
    rasa = connect(place, "rasa")
    body = rasa_call("1", QUIET)
    answer = tell(rasa, "rasa", body)
    assert slots(answer) == {"baton_action": "continue"}
    assert tell(rasa, "rasa", body) == answer, "called again, it answers the same"
    events = [
        *body["tracker"]["events"],
        {"event": "bot", "text": "From ten to five", "timestamp": 1_764_322_201.0},
        {"event": "bot", "text": "Anything else?", "timestamp": None},
    ]
    asks = rasa_call("2", ASKS)
    asks["tracker"]["events"] = [*events, *asks["tracker"]["events"]]
    raw, headers = EXAMPLES["rasa"].sign(asks, "rasa-secret", now())
    deflated = rasa.post(zlib.compress(raw), headers | {"Content-Encoding": "deflate"})
    assert slots(deflated.json()) == {"baton_action": "escalate"}
    found = place.agent.got(f"/v1/conversations/rasa:{rasa.id}:42")
    authors = [m["author"] for m in found["messages"]]
    assert authors == ["user", "bot", "bot", "user", "system"]
    assert found["messages"][0]["bot"]["intent"] == "ask_order"
    paused = tell(rasa, "rasa", rasa_call("2", ASKS, "action_baton_handoff"))
    assert paused == {"events": [{"event": "pause"}], "responses": []}
    raw, headers = EXAMPLES["rasa"].sign(rasa_call("3", "x", "action_else"), "rasa-secret", now())
    unknown = rasa.post(raw, headers)
    assert (unknown.status_code, unknown.json()["action_name"]) == (404, "action_else")
    differs = rasa_call("1", "another text")
    assert tell(rasa, "rasa", differs) == {"events": [], "responses": []}, "the bot goes on"


def test_rasa_goes_on_when_a_person_gave_it_back(service: InProcess, place: Place) -> None:
    class FakeRasa(FakeIntercom):
        def answer(self, method: str, path: str, headers: Any, body: bytes) -> Any:
            assert (method, headers["content-type"]) == ("POST", "application/json")
            self.calls.append((path, json.loads(body)))
            return 200, {}

    with serving_side(FakeRasa()) as far:
        rasa = connect(place, "rasa", far.url)
        tell(rasa, "rasa", rasa_call("1", ASKS))
        found = place.agent.got(f"/v1/conversations/rasa:{rasa.id}:42")
        (handoff,) = found["handoffs"]
        with dispatching(service):
            place.agent.posted(f"/v1/handoffs/{handoff['id']}/claim")
            place.agent.posted(f"/v1/handoffs/{handoff['id']}/return")
            rasa.delivered()
    assert far.calls == [("/conversations/42/tracker/events", {"event": "resume"})]


def test_dialogflow_is_answered_with_a_parameter_and_a_handoff(place: Place) -> None:
    flow = connect(place, "dialogflow")
    example = EXAMPLES["dialogflow"]
    kept = tell(flow, "dialogflow", example.customer("1", QUIET))
    assert kept == {"sessionInfo": {"parameters": {"baton_action": "continue"}}}
    called = tell(flow, "dialogflow", example.customer("2", ASKS))
    assert called["sessionInfo"]["parameters"] == {"baton_action": "escalate"}
    messages = called["fulfillmentResponse"]["messages"]
    metadata = messages[-1]["liveAgentHandoff"]["metadata"]
    name = f"dialogflow:{flow.id}:42"
    (handoff,) = place.agent.got(f"/v1/conversations/{name}")["handoffs"]
    assert metadata["handoff_id"] == handoff["id"]
    silent = tell(flow, "dialogflow", example.customer("3", "hello?"))
    assert silent == {"sessionInfo": {"parameters": {"baton_action": "human_active"}}}


ODD_BODIES: tuple[Any, ...] = (
    {},
    {"events": 7},
    {"events": [None, [], "x", {"payload": 1, "id": {}, "type": []}]},
    {"app": {"id": 1}, "events": [{}] * 101},
    {"event": "message_created", "id": 10**30, "conversation": [], "created_at": 10**400},
    {"event": ["x"], "id": {"$": 1}, "sender": "\x00", "message": None, "at": "9" * 400},
    {"sender": {"id": -1}, "message": {"text": [[]] * 10}, "tracker": {"events": {"0": 0}}},
    {"type": "block_actions", "actions": [{"value": {}}], "user": [], "container": 1},
    {"sessionInfo": {"session": 1, "parameters": []}, "text": {}, "payload": "\u202e"},
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_whatever_a_signed_body_holds_breaks_nothing(place: Place, name: str) -> None:
    connected = connect(place, name)
    for body in ODD_BODIES:
        raw, headers = EXAMPLES[name].sign(body, EXAMPLES[name].secret, now())
        answer = connected.post(raw, headers)
        assert answer.status_code in (200, 422), (body, answer.text)
    connected.settled()
