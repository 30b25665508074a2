"""Hours and capacity: who is not there is not promised, and what protects is never held back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.conversation.state import Message, State, fold
from learning.decision.policy import Costs, Policy, Rule, decide, default_rules
from learning.decision.teams.opening_hours import DAYS, WEEK_MINUTES, OpeningHours, Team, get_zone
from service.jobs.capacity_update import CapacityUpdate
from tests.postgres import on_both
from tests.service_in_process import ASKS, OTHERS, QUIET, InProcess, Place, serving

store_url = on_both()
MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
SUNDAY_NOON = MONDAY_NOON - 86_400
OFFICE = Team(name="support", hours=(OpeningHours(),))
NEVER = {"name": "support", "hours": [{"days": ["mon"], "opens": "00:00", "closes": "00:01"}]}


def said(text: str, at: float) -> State:
    return fold([Message("m1", "user", text, at)])


def test_a_team_is_there_in_its_hours_and_says_when_it_is_back() -> None:
    assert OFFICE.opens_at(MONDAY_NOON) is None
    back = OFFICE.opens_at(SUNDAY_NOON)
    assert back is not None
    assert datetime.fromtimestamp(back, UTC).isoformat() == "2026-03-02T08:00:00+00:00"
    assert OFFICE.away(SUNDAY_NOON) == "nobody of team support is there until Mon 08:00 UTC"


def test_hours_are_those_of_the_teams_own_place() -> None:
    there = OFFICE.model_copy(update={"utc_offset_minutes": 9 * 60})
    assert there.opens_at(MONDAY_NOON) is not None
    assert there.opens_at(MONDAY_NOON - 9 * 3600) is None


@given(
    st.floats(1e9, 2e9),
    st.integers(-840, 840),
    st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True),
    st.integers(0, 22),
)
def test_a_team_opens_within_a_week_and_is_there_then(
    at: float, offset: int, days: list[int], hour: int
) -> None:
    names = tuple(DAYS[day] for day in days)
    hours = OpeningHours(days=names, opens=f"{hour:02}:00", closes=f"{hour + 1:02}:30")
    team = Team(name="t", hours=(hours,), utc_offset_minutes=offset)
    back = team.opens_at(at)
    if back is not None:
        assert at < back <= at + 60 * WEEK_MINUTES
        assert team.opens_at(back + 1e-3) is None


def berlin(*moment: int) -> float:
    return datetime(*moment, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()  # type: ignore[misc,arg-type]


THERE = Team(name="support", hours=(OpeningHours(),), zone="Europe/Berlin")


def test_a_named_zone_keeps_its_clock_through_summer_time() -> None:
    """In winter 08:00 in Berlin is 07:00 UTC, and in summer 06:00."""
    assert THERE.opens_at(berlin(2026, 3, 27, 19)) == berlin(2026, 3, 30, 8)
    assert berlin(2026, 3, 30, 8) - berlin(2026, 3, 27, 8) == 3 * 86_400 - 3600
    assert THERE.opens_at(berlin(2026, 7, 1, 8, 0)) is None
    assert THERE.opens_at(berlin(2026, 1, 7, 7, 59)) == berlin(2026, 1, 7, 8)
    away = THERE.away(berlin(2026, 10, 25, 2))
    assert away == "nobody of team support is there until Mon 08:00 CET"


def test_a_clock_that_summer_time_leaves_out_comes_an_hour_later() -> None:
    night = OpeningHours(days=("sun",), opens="02:30", closes="05:00")
    team = Team(name="t", hours=(night,), zone="Europe/Berlin")
    assert team.opens_at(berlin(2026, 3, 29, 1)) == berlin(2026, 3, 29, 3, 30)


def test_a_team_gets_to_what_waits_in_the_hours_that_it_is_there() -> None:
    paced = THERE.model_copy(update={"per_hour": 4.0})
    friday = berlin(2026, 3, 27, 17)
    assert paced.serves_at(friday, 0) is None
    assert paced.serves_at(friday, 2) == friday + 1800
    assert paced.serves_at(friday, 6) == berlin(2026, 3, 30, 8, 30)
    assert paced.serves_at(berlin(2026, 3, 28, 12), 0) == berlin(2026, 3, 30, 8)
    always = Team(name="t", per_hour=2.0)
    assert always.serves_at(friday, 3) == friday + 5400


@given(st.floats(1e9, 2e9), st.integers(0, 500), st.floats(0.5, 50))
def test_more_ahead_is_never_promised_sooner(at: float, ahead: int, pace: float) -> None:
    paced = THERE.model_copy(update={"per_hour": pace})
    fewer, more = paced.serves_at(at, ahead), paced.serves_at(at, ahead + 1)
    assert more is not None
    assert (fewer or at) <= more + 1e-3


def test_a_zone_and_an_offset_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="either zone or utc_offset_minutes"):
        Team(name="t", zone="Europe/Berlin", utc_offset_minutes=60)


@pytest.mark.parametrize("name", ["Europe/Atlantis", "../../etc/passwd", "", "/etc/localtime", "a"])
def test_a_zone_that_is_none_is_not_found(name: str) -> None:
    assert get_zone(name) is None


@pytest.mark.parametrize("hours", [{"opens": "18:00", "closes": "08:00"}, {"opens": "25:00"}])
def test_hours_that_are_none_are_refused(hours: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OpeningHours(**hours)


@given(st.floats(0, 1), st.sampled_from([QUIET, ASKS, "I cannot pass the identity check"]))
def test_off_hours_only_protected_rules_escalate(probability: float, text: str) -> None:
    closed = Policy(
        costs=Costs(ask=1e6),
        teams=tuple(Team(name=name, hours=(OpeningHours(),)) for name in ("support", "identity")),
    )
    there = decide(closed, said(text, MONDAY_NOON), probability)
    away = decide(closed, said(text, SUNDAY_NOON), probability)
    assert not any("nobody of team" in reason.text for reason in there.reasons)
    protected = any(t.name in ("request", "identity") for t in away.triggers)
    if there.action == "escalate" and not protected:
        assert away.action == "offer"
        assert away.reasons[-1].text.endswith("until Mon 08:00 UTC; a callback is offered")
    else:
        assert away.action == there.action


def test_a_protected_rule_escalates_off_hours_and_the_promise_is_told() -> None:
    found = decide(Policy(teams=(OFFICE,)), said(ASKS, SUNDAY_NOON), 0.0)
    assert found.action == "escalate"
    assert found.reasons[-1].text.endswith("there until Mon 08:00 UTC; they take it then")


@given(st.floats(0, 1), st.floats(0, 2))
def test_a_price_holds_back_the_model_and_no_rule(probability: float, price: float) -> None:
    dear = Policy(price=price)
    asked = decide(dear, said(ASKS, MONDAY_NOON), probability)
    assert asked.action == "escalate"
    quiet = decide(dear, said(QUIET, MONDAY_NOON), probability)
    assert (quiet.action == "escalate") == (probability >= dear.cost_thresholds.escalate + price)


def test_a_rule_may_watch_words_that_stand_one_after_another() -> None:
    rule = Rule(name="contract", watches="says:cancel contract", team="contracts")
    policy = Policy(rules=(*default_rules(), rule))
    state = said("Please CANCEL contract 12 now", MONDAY_NOON)
    assert decide(policy, state, 0.0).route.team == "contracts"
    assert decide(policy, said("cancel my contract", MONDAY_NOON), 0.0).action == "continue"


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("hours"), database=store_url) as running:
        yield running


def all_escalated(place: Place, **more: Any) -> None:
    """A policy by which the model escalates everything."""
    place.policy(costs={"unneeded": 1e-3, "missed": 1e6, "ask": 1e6}, **more)


def test_a_handoff_off_hours_says_when_it_is_served_and_replays_identically(place: Place) -> None:
    all_escalated(place, teams=[NEVER])
    noon = "2026-03-02T12:00:00Z"
    body = {"conversation_id": "c", "message": {"id": "m", "text": ASKS, "at": noon}}
    decision = place.bot.posted("/v1/score", body)
    assert decision["handoff"]["promised_at"] == "2026-03-09T00:00:00+00:00"
    handoff = place.agent.got(f"/v1/handoffs/{decision['handoff']['id']}")
    assert handoff["promised_at"] == decision["handoff"]["promised_at"]
    replay = place.agent.got(f"/v1/decisions/{decision['decision_id']}/replay")
    assert replay["identical"] is True


def test_a_callback_is_offered_off_hours_and_an_accepted_one_is_promised(place: Place) -> None:
    all_escalated(place, teams=[NEVER])
    noon = "2026-03-02T12:00:00Z"
    body = {"conversation_id": "c", "message": {"id": "m", "text": QUIET, "at": noon}}
    decision = place.bot.posted("/v1/score", body)
    assert (decision["action"], decision["handoff"]) == ("offer", None)
    assert "a callback is offered" in decision["reasons"][-1]["text"]
    path = f"/v1/decisions/{decision['decision_id']}"
    accepted = place.bot.posted(f"{path}/answer", {"accepted": True})
    assert accepted["handoff"]["promised_at"] == "2026-03-09T00:00:00+00:00"
    assert place.agent.got(f"{path}/replay")["identical"] is True


def test_too_much_handed_over_makes_it_dearer_by_an_entry_of_jobs(place: Place) -> None:
    all_escalated(place, capacity=0.1)
    for n in range(30):
        place.bot.decided(f"c{n}", "m1", OTHERS[n % len(OTHERS)])
    capacity = CapacityUpdate(place.service.baton.store)
    capacity.update_prices()
    policy = place.engineer.got("/v1/policy")
    assert policy["price"] == pytest.approx(0.5 * (1 - 0.1), abs=1e-3)
    assert len(place.ledger("policy")) == 3
    capacity.update_prices()
    assert len(place.ledger("policy")) == 3, "nothing was decided since"
    decision = place.bot.decided("later", "m1", QUIET)
    assert decision["thresholds"]["escalate"] == pytest.approx(policy["price"], abs=1e-3)


def test_a_capacity_that_is_taken_away_costs_nothing_any_more(place: Place) -> None:
    place.policy(price=0.4)
    CapacityUpdate(place.service.baton.store).update_prices()
    assert place.engineer.got("/v1/policy")["price"] == 0.0


def test_a_team_with_too_many_waiting_is_full_until_half_are_served(place: Place) -> None:
    place.policy(teams=[{"name": "support", "waiting_max": 4}])
    capacity = CapacityUpdate(place.service.baton.store)
    handoffs = [place.bot.decided(f"c{n}", "m1", ASKS)["handoff"]["id"] for n in range(4)]

    def full() -> bool:
        capacity.update_prices()
        found: bool = place.engineer.got("/v1/policy")["teams"][0]["full"]
        return found

    assert full()
    assert place.bot.decided("protected", "m1", ASKS)["action"] == "escalate"
    for name in handoffs[:2]:
        place.agent.posted(f"/v1/handoffs/{name}/resolve")
    assert full(), "three wait, and two are half of four"
    for name in handoffs[2:]:
        place.agent.posted(f"/v1/handoffs/{name}/resolve")
    assert not full()


def test_a_clock_that_starts_anew_goes_on_from_the_ledgers_price(place: Place) -> None:
    all_escalated(place, capacity=0.5)
    for n in range(20):
        place.bot.decided(f"c{n}", "m1", OTHERS[n % len(OTHERS)])
    CapacityUpdate(place.service.baton.store).update_prices()
    first = place.engineer.got("/v1/policy")["price"]
    time.sleep(0.01)
    for n in range(20):
        place.bot.decided(f"d{n}", "m1", OTHERS[n % len(OTHERS)])
    CapacityUpdate(place.service.baton.store).update_prices()
    assert place.engineer.got("/v1/policy")["price"] != first
