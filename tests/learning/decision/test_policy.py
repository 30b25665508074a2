"""From probability and rules to an action: least expected cost, and rules that nothing softens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from learning.conversation.state import Message, fold
from learning.decision.policy import (
    PROTECTED,
    AcceptanceRates,
    Costs,
    Policy,
    Rule,
    decide,
    default_rules,
)
from learning.decision.policy_parts import OfferGuard
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

SHOWS = {
    "request": ASKS,
    "identity": "I cannot pass the identity check",
    "security": "someone hacked my account",
    "safety": "I am going to kill myself",
}
amounts = st.floats(1e-3, 1e3)
shares = st.floats(0, 1)
policies = st.builds(
    Policy,
    costs=st.builds(Costs, unneeded=amounts, missed=amounts, ask=st.floats(0, 1e3)),
    accepting=st.builds(AcceptanceRates, needed=shares, unneeded=shares),
    cooldown_messages=st.integers(0, 100),
    lost=st.floats(0.01, 1),
    offers=st.just(OfferGuard(first_message=True)),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("policy")) as running:
        yield running


def says(*texts: str) -> Any:
    return fold(Message(f"m{n}", "user", text, float(n)) for n, text in enumerate(texts))


def expected_costs(policy: Policy, q: float) -> dict[str, float]:
    """What each action costs on average when a person is needed with probability q."""
    c, a = policy.costs, policy.accepting
    missed = policy.lost * c.missed
    return {
        "continue": q * missed,
        "escalate": (1 - q) * c.unneeded,
        "offer": c.ask + q * (1 - a.needed) * missed + (1 - q) * a.unneeded * c.unneeded,
    }


# The policy itself


@given(policies, shares)
def test_the_action_always_has_the_least_expected_cost(policy: Policy, q: float) -> None:
    costs = expected_costs(policy, q)
    action = decide(policy, says(QUIET), q).action
    assert costs[action] <= min(costs.values()) + 1e-9 * max(costs.values())


def test_at_half_the_price_of_waiting_the_bars_are_those_of_the_design() -> None:
    bars = Policy(lost=0.5).thresholds
    assert (bars.offer, bars.escalate) == (
        pytest.approx(0.195, abs=5e-4),
        pytest.approx(0.6316, abs=5e-4),
    )


def test_the_model_offers_nobody_a_person_before_the_bot_has_said_a_word() -> None:
    offering = Policy(lost=0.5)
    assert decide(offering, says(QUIET), 0.4).action == "continue"
    assert decide(offering, says(QUIET, QUIET), 0.4).action == "offer"
    assert decide(offering, says(QUIET), 0.9).action == "escalate"
    allowed = Policy(lost=0.5, offers=OfferGuard(first_message=True))
    assert decide(allowed, says(QUIET), 0.4).action == "offer"


@given(policies, shares)
def test_a_floor_raises_the_bar_of_an_offer_and_never_that_of_handing_over(
    policy: Policy, floor: float
) -> None:
    bars = policy.thresholds
    guard = policy.offers.model_copy(update={"floor": floor})
    raised = policy.model_copy(update={"offers": guard}).thresholds
    assert raised.escalate == bars.escalate
    assert bars.offer <= raised.offer <= raised.escalate


@given(policies)
def test_thresholds_stand_in_order_and_are_what_decisions_show(policy: Policy) -> None:
    found = policy.thresholds
    assert found.offer <= found.escalate <= 1
    assert decide(policy, says(QUIET), 0.5).thresholds == found


@given(policies, shares, shares)
def test_a_higher_probability_never_does_less(policy: Policy, p: float, q: float) -> None:
    order = ("continue", "offer", "escalate")
    low, high = (order.index(decide(policy, says(QUIET), x).action) for x in sorted((p, q)))
    assert low <= high


@pytest.mark.parametrize("rule", PROTECTED)
@given(policy=policies, p=shares, since=st.sampled_from(["returned", "declined", None]))
def test_protected_rules_escalate_under_every_policy_and_score(
    rule: str, policy: Policy, p: float, since: str | None
) -> None:
    begun = [Message("s", "system", "", 0.0, event=since)] if since else []
    state = fold([*begun, Message("m", "user", SHOWS[rule], 1.0)])
    choice = decide(policy, state, p)
    assert choice.action == "escalate"
    assert (rule, ("m",)) in [(one.name, one.message_ids) for one in choice.triggers]


@pytest.mark.parametrize("name", PROTECTED)
@pytest.mark.parametrize("change", [{"enabled": False}, {"action": "offer"}, {"at_least": 2}])
def test_a_protected_rule_cannot_be_made_weaker(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=name):
        Policy(
            rules=tuple(
                Rule.model_validate(rule.model_dump() | change) if rule.name == name else rule
                for rule in default_rules()
            )
        )


def test_a_reason_is_a_sentence_with_the_customers_own_words() -> None:
    state = says("where is my parcel now", "where is my parcel now?", "where is my parcel now!")
    reasons = [one.text for one in decide(Policy(), state, 0.0).reasons]
    assert "asked nearly the same thing three times" in reasons
    (told,) = [one.text for one in decide(Policy(), says(ASKS), 0.0).reasons]
    assert told.startswith("asks for a person: “")


# The routes


@pytest.mark.parametrize("word", ["refund", "hello?", "где заказ", "wo bleibts"])
def test_a_few_words_said_four_times_are_offered_a_person(word: str) -> None:
    assert decide(Policy(), says(*[word] * 3), 0.01).action == "continue"
    decision = decide(Policy(), says(*[word] * 4), 0.01)
    assert (decision.action, [t.name for t in decision.triggers]) == ("offer", ["repeated_briefly"])
    assert "four" in decision.reasons[0].text or "4" in decision.reasons[0].text


@pytest.mark.parametrize("word", ["yes", "no", "thanks", "42"])
def test_answers_may_be_said_as_often_as_they_are_asked_for(word: str) -> None:
    assert decide(Policy(), says(*[word] * 5), 0.01).action == "continue"


@pytest.mark.parametrize(
    "text",
    [
        "this is unacceptable!!!",
        "c'est une honte!!!",
        "das ist eine Frechheit!!!",
        "es una vergüenza!!!",
        "это позор!!!",
        "太过分了，气死我了！！！",
    ],
)
def test_anger_with_emphasis_is_offered_a_person(text: str) -> None:
    assert "frustration" in [t.name for t in decide(Policy(), says(text), 0.01).triggers]


def changed(place: Place, name: str, /, **changes: Any) -> dict[str, Any]:
    policy: dict[str, Any] = place.engineer.got("/v1/policy")
    rules = [rule | changes if rule["name"] == name else rule for rule in policy["rules"]]
    return policy | {"rules": rules}


def position(place: Place) -> int:
    found: int = place.engineer.got("/v1/standing")["position"]
    return found


def test_a_workspace_begins_with_the_documented_policy(place: Place) -> None:
    assert place.engineer.got("/v1/policy") == Policy().model_dump(mode="json")


def test_the_policy_that_stands_already_appends_nothing(place: Place) -> None:
    policy = place.engineer.got("/v1/policy") | {"cooldown_messages": 7}
    answers = at_once(6, lambda _: place.engineer.put("/v1/policy", json=policy))
    assert [one.json() for one in answers] == [policy] * 6
    assert place.engineer.got("/v1/policy") == policy
    assert len(place.ledger("policy")) == 2


def test_policies_set_at_once_each_have_a_place_in_the_ledger(place: Place) -> None:
    policy = place.engineer.got("/v1/policy")
    at_once(
        8, lambda n: place.engineer.put("/v1/policy", json=policy | {"cooldown_messages": 10 + n})
    )
    found = [body["cooldown_messages"] for body in place.ledger("policy")]
    assert sorted(found[1:]) == list(range(10, 18))
    assert place.engineer.got("/v1/policy")["cooldown_messages"] == found[-1]
    assert position(place) == 10


def test_a_new_policy_is_in_force_from_the_next_message_on(place: Place) -> None:
    before = place.bot.decided("c", "m0", OTHERS[0])
    place.policy(costs={"unneeded": 1e-6, "missed": 1e6, "ask": 1e6})
    after = place.bot.decided("c", "m1", OTHERS[1])
    assert before["action"] != after["action"] == "escalate"
    assert after["thresholds"]["escalate"] < 1e-9
    assert place.bot.decided("c", "m0", OTHERS[0]) == before


def test_a_policy_changes_what_is_decided_and_nothing_of_the_model(place: Place) -> None:
    before = place.bot.decided("a", "m", QUIET)
    place.policy(costs={"unneeded": 1e-6, "missed": 1e6, "ask": 1e6})
    after = place.bot.decided("b", "m", QUIET)
    assert (before["probability"], before["uncertainty"]) == (
        after["probability"],
        after["uncertainty"],
    )


def test_a_rule_of_ones_own_acts_with_its_team_and_priority(place: Place) -> None:
    policy = place.engineer.got("/v1/policy")
    policy["rules"].append(
        {
            "name": "refunds",
            "watches": "topic:refund",
            "action": "escalate",
            "team": "billing",
            "priority": 1,
        }
    )
    place.engineer.put("/v1/policy", json=policy).raise_for_status()
    decided = place.bot.decided("c", "m", "can I have a refund")
    assert (decided["action"], decided["handoff"]["team"]) == ("escalate", "billing")
    assert decided["handoff"]["priority"] == 1


def test_any_other_rule_can_be_switched_off(place: Place) -> None:
    policy = changed(place, "legal", enabled=False)
    place.engineer.put("/v1/policy", json=policy).raise_for_status()
    decided = place.bot.decided("c", "m", "I will sue you, my lawyer will call")
    assert "legal" not in {trigger["name"] for trigger in decided["triggers"]}


@pytest.mark.parametrize("name", PROTECTED)
@pytest.mark.parametrize(
    "changes",
    [
        {"enabled": False},
        {"action": "offer"},
        {"at_least": 1.5},
        {"watches": "urgency"},
        {"name": "renamed"},
    ],
)
def test_protected_rules_are_refused_in_any_weaker_form(
    place: Place, name: str, changes: dict[str, Any]
) -> None:
    before = place.content()
    answer = place.engineer.put("/v1/policy", json=changed(place, name, **changes))
    error = refusal(answer, 422)
    assert name in error["message"]
    assert any(word in error["message"] for word in ("always escalate", "must watch"))
    assert "rules" in error["field"]
    assert place.content() == before


@pytest.mark.parametrize(
    "changes, field, told",
    [
        ({"nope": 1}, "nope", "is not a field here"),
        ({"costs": {"missed": -1}}, "costs.missed", "greater than 0"),
        ({"costs": {"missed": "much"}}, "costs.missed", "number"),
        ({"accepting": {"needed": 1.5}}, "accepting.needed", "less than or equal to 1"),
        ({"cooldown_messages": 1.5}, "cooldown_messages", "integer"),
        ({"cooldown_messages": 10**30}, "cooldown_messages", "100"),
        ({"claim_seconds": 1}, "claim_seconds", "10"),
        ({"rules": []}, "rules", "request, identity, security, safety"),
    ],
)
def test_a_policy_out_of_shape_is_refused_by_field(
    place: Place, changes: dict[str, Any], field: str, told: str
) -> None:
    before = place.content()
    policy = place.engineer.got("/v1/policy") | changes
    error = refusal(place.engineer.put("/v1/policy", json=policy), 422)
    assert error["field"] == field
    assert told in error["message"]
    assert place.content() == before


def test_a_rule_that_could_never_fire_or_has_no_name_of_its_own_is_refused(place: Place) -> None:
    policy = place.engineer.got("/v1/policy")
    rules = policy["rules"]
    unread = [*rules, {"name": "typo", "watches": "topic:refunds"}]
    error = refusal(place.engineer.put("/v1/policy", json=policy | {"rules": unread}), 422)
    assert error["field"] == f"rules.{len(rules)}.watches"
    assert "refund" in error["hint"]
    unknown = [*rules, {"name": "typo", "watches": "moon"}]
    error = refusal(place.engineer.put("/v1/policy", json=policy | {"rules": unknown}), 422)
    assert "frustration" in error["message"]
    twice = [*rules, {"name": "legal", "watches": "urgency"}]
    error = refusal(place.engineer.put("/v1/policy", json=policy | {"rules": twice}), 422)
    assert "name of its own" in error["message"]
    assert len(place.ledger("policy")) == 1
