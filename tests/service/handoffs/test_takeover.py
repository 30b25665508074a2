"""A person who is in the conversation, however Baton hears of it, has it; the bot is silent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.store.handoffs import handoff_rows
from tests.postgres import on_both
from tests.service_in_process import (
    ASKS,
    OTHERS,
    QUIET,
    InProcess,
    Place,
    at_once,
    refusal,
    serving,
)

AGENT = {"id": "a1", "author": "agent", "text": "Hi, Ana here, I look into it", "agent": "Ana"}
BOT = {"id": "b1", "author": "bot", "text": "Anything else I can do for you?"}
ASSIGNED = {"id": "s1", "author": "system", "text": "", "event": "assigned", "agent": "Ana"}
LONG_AGO = "2026-01-02T03:04:05Z"

store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("takeover"), database=store_url) as running:
        yield running


def append(place: Place, *turns: dict[str, Any], conversation: str = "c") -> Any:
    return place.bot.posted(f"/v1/conversations/{conversation}/messages", {"messages": list(turns)})


def after_the_bot(place: Place) -> None:
    place.bot.decided("c", "m0", QUIET)
    append(place, BOT, AGENT)


def outbound_first(place: Place) -> None:
    append(place, AGENT)


def two_turns(place: Place) -> None:
    append(place, AGENT)
    append(place, AGENT | {"id": "a2", "text": "one moment"})


def after_a_resolve(place: Place) -> None:
    place.agent.posted(f"/v1/handoffs/{place.escalated()}/resolve")
    append(place, AGENT)


def assigned(place: Place) -> None:
    place.bot.decided("c", "m0", QUIET)
    append(place, ASSIGNED)


def assigned_in_words(place: Place) -> None:
    place.bot.decided("c", "m0", QUIET)
    append(place, {"id": "s1", "author": "system", "text": "Conversation assigned to Ana"})


def assigned_before_the_bot_says_so(place: Place) -> None:
    append(place, ASSIGNED, BOT | {"text": "You are now with Ana."})


HEARD = (
    after_the_bot,
    outbound_first,
    two_turns,
    after_a_resolve,
    assigned,
    assigned_in_words,
    assigned_before_the_bot_says_so,
)


@pytest.mark.parametrize("heard", HEARD, ids=lambda heard: heard.__name__)
def test_a_person_who_is_seen_has_the_conversation(place: Place, heard: Any) -> None:
    heard(place)
    for number in range(2):
        assert place.bot.decided("c", f"n{number}", OTHERS[number])["action"] == "human_active"
    (handoff,) = place.agent.got("/v1/handoffs?status=claimed")["handoffs"]
    assert (handoff["opened_by"], handoff["decision_id"]) == ("person", None)


@pytest.mark.parametrize("turns", [[AGENT], [BOT, AGENT], [ASSIGNED]])
def test_a_person_is_seen_in_history(place: Place, turns: list[dict[str, Any]]) -> None:
    decided = place.bot.decided("c", "m1", QUIET, history=turns)
    assert decided["action"] == "human_active"
    packet = place.agent.got(f"/v1/handoffs/{decided['handoff']['id']}")
    assert (packet["status"], packet["claimed_by"]) == ("claimed", "Ana")
    assert packet["transcript"][-1]["id"] == "m1"


@pytest.mark.parametrize(
    "turns",
    [
        [AGENT, BOT],
        [AGENT | {"at": LONG_AGO}],
        [AGENT, {"id": "s1", "author": "system", "text": "Returned to the bot"}],
        [ASSIGNED, {"id": "s2", "author": "system", "text": "", "event": "unassigned"}],
        [{"id": "s1", "author": "system", "text": "conversation closed"}],
        [BOT],
    ],
)
def test_where_no_person_is_any_more_the_bot_goes_on(
    place: Place, turns: list[dict[str, Any]]
) -> None:
    assert place.bot.decided("c", "m1", QUIET, history=turns)["action"] != "human_active"
    assert place.content()["handoff"] == 0


def test_a_shadow_workspace_is_never_taken_over(service: InProcess) -> None:
    place = service.workspace("shadow")
    append(place, AGENT)
    assert place.bot.decided("c", "m1", QUIET, history=[ASSIGNED])["action"] != "human_active"
    body = {"conversation_id": "c", "reason": "requested"}
    refusal(place.bot.post("/v1/handoffs", json=body), 409, "workspace_in_shadow")
    assert place.content()["handoff"] == 0


def test_the_bot_has_it_again_once_it_is_given_back(place: Place) -> None:
    append(place, AGENT)
    append(place, {"id": "s2", "author": "system", "text": "", "event": "unassigned"})
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    assert handoff["status"] == "returned"
    assert place.bot.decided("c", "m1", QUIET)["action"] == "continue"


def test_whoever_has_no_key_here_is_relieved_by_any_agent(place: Place) -> None:
    append(place, AGENT)
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    refusal(place.agent.post(f"/v1/handoffs/{handoff['id']}/claim"), 409, "already_claimed")
    assert place.agent.posted(f"/v1/handoffs/{handoff['id']}/return")["status"] == "returned"


def test_an_agent_with_a_key_is_not_relieved_by_another(place: Place) -> None:
    ana = place.named_agent("Ana")
    append(place, AGENT)
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    path = f"/v1/handoffs/{handoff['id']}/resolve"
    refusal(place.agent.post(path), 409, "claimed_by_another")
    assert ana.posted(path)["status"] == "resolved"


def test_an_agent_who_speaks_has_the_handoff_that_waits(place: Place) -> None:
    handoff = place.escalated()
    append(place, AGENT)
    row = place.agent.got(f"/v1/handoffs/{handoff}")
    assert (row["status"], row["claimed_by"], row["opened_by"]) == ("claimed", "Ana", "decision")
    append(place, AGENT | {"id": "a2", "agent": "Ben"})
    assert place.agent.got(f"/v1/handoffs/{handoff}")["claimed_by"] == "Ana"


def test_two_people_of_one_name_are_refused(place: Place) -> None:
    place.named_agent("ana")
    answer = place.admin.post("/v1/keys", json={"role": "agent", "name": "ana"})
    assert "revoke" in refusal(answer, 409, "name_in_use")["hint"]
    for _ in range(2):
        place.admin.posted("/v1/keys", {"role": "bot", "name": "shop"})


# POST /v1/handoffs


def opened(place: Place, conversation: str = "c", **more: Any) -> Any:
    body = {"conversation_id": conversation, "reason": "stuck", **more}
    return place.bot.posted("/v1/handoffs", body)


def test_a_bot_hands_over_by_itself_once(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    answers = at_once(4, lambda _: opened(place, summary="lost twice", team="legal", priority=2))
    assert all(answer == answers[0] for answer in answers)
    handoff = answers[0]
    assert (handoff["opened_by"], handoff["reason"]) == ("bot", "stuck")
    assert (handoff["team"], handoff["priority"], handoff["status"]) == ("legal", 2, "waiting")
    assert (handoff["decision_id"], handoff["opening_note"]) == (None, "lost twice")
    assert place.bot.decided("c", "m2", QUIET)["action"] == "human_active"
    packet = place.agent.got(f"/v1/handoffs/{handoff['id']}")
    assert (packet["triggers"], packet["reasons"]) == ([], [])


def test_an_open_handoff_is_given_as_it_is(place: Place) -> None:
    handoff = place.escalated()
    again = opened(place, team="legal", taken_by="Ana")
    assert (again["id"], again["team"], again["status"]) == (handoff, "support", "waiting")


def test_a_person_takes_a_conversation(place: Place) -> None:
    place.bot.decided("c", "m1", QUIET)
    handoff = opened(place, taken_by="Ana")
    assert (handoff["status"], handoff["claimed_by"]) == ("claimed", "Ana")
    assert handoff["opened_by"] == "person"


@pytest.mark.parametrize(
    "change, status, code",
    [
        ({"conversation_id": "never-begun"}, 404, "no_conversation"),
        ({"team": "nobody"}, 422, "unknown_team"),
        ({"reason": "because"}, 422, None),
        ({"priority": 9}, 422, None),
    ],
)
def test_a_wrong_handover_is_refused(
    place: Place, change: dict[str, Any], status: int, code: str | None
) -> None:
    place.bot.decided("c", "m1", QUIET)
    before = place.content()
    body = {"conversation_id": "c", "reason": "stuck", **change}
    refusal(place.bot.post("/v1/handoffs", json=body), status, code)
    assert place.content() == before


def test_a_verdict_on_it_speaks_of_the_customers_newest_message_and_of_no_rule(
    place: Place,
) -> None:
    place.bot.decided("c", "m1", OTHERS[0])
    before = place.bot.decided("c", "m2", OTHERS[1])["probability"]
    append(place, BOT, AGENT)
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    place.agent.posted(f"/v1/handoffs/{handoff['id']}/outcome", {"verdict": "needed"})
    (entry,) = place.ledger()
    assert (entry["escalated"], entry["covers"], entry["by_rule"]) == (2, 2, True)
    quality = place.engineer.got("/v1/quality")
    causes = quality["handoffs"]["by_cause"]
    assert {cause: found["needed"] for cause, found in causes.items()} == {
        "rule": 0,
        "model": 0,
        "bot": 0,
        "person": 1,
    }
    assert all(not rates["needed"] for rates in quality["by_rule"].values())
    assert place.bot.decided("d", "m", OTHERS[1])["probability"] > before


def test_a_takeover_ends_in_the_queue_when_its_agent_goes_quiet(place: Place) -> None:
    append(place, AGENT)
    (handoff,) = place.agent.got("/v1/handoffs")["handoffs"]
    with place.service.baton.store.write() as connection:
        handoff_rows.change(connection, place.name, handoff["id"], claim_expires_at=time.time() - 1)
    assert place.agent.posted(f"/v1/handoffs/{handoff['id']}/claim")["status"] == "claimed"


def test_takeovers_and_decisions_at_once_open_one_handoff(place: Place) -> None:
    def act(number: int) -> Any:
        if number == 0:
            return append(place, AGENT)
        if number == 1:
            return opened(place)
        return place.bot.score("c", f"r{number}", ASKS)

    place.bot.decided("c", "m1", QUIET)
    at_once(5, act)
    assert place.content()["handoff"] == 1
    assert place.bot.decided("c", "last", QUIET)["action"] == "human_active"
