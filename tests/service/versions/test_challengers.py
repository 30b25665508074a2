"""Challengers: asked for, followed, audited where they would decide otherwise, proven, promoted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from experiments.evaluation.decision_costs import line_levels
from learning.decision.policy import Policy
from learning.decision.promotion_terms import CHALLENGERS_MAX, alpha_share
from learning.estimation.audit_sampling import DISAGREEMENT
from learning.estimation.decision_loss import DecisionLoss
from learning.measures.prequential import Scores
from service.jobs.maintenance import Maintenance
from service.outcomes.audit_tasks import SETTLED_SECONDS
from service.store.ledger import challenger_rows, change_log, entries, mlflow_rows
from service.versions import switches
from service.versions.challengers import challenger_requests
from service.versions.challengers.challenger_requests import ChallengerRequest
from service.versions.restore import restore
from tests.running import until
from tests.service_in_process import Caller, InProcess, Place, refusal, serving

KEEPING = {"uniform_share": 0.0, "targeted_share": 0.02, "double_share": 0.0}
BUDGET = {"per_day": 10_000, "per_reviewer_per_day": 10_000, "offered_seconds": 1800}
SLOW = "bayes-4?v0=0.0001,v0_context=0.0001"
EAGER = {"judged_min": 20, "days_min": 0.0, "cooldown_days": 0.0, "ece_max": 1.0}


def scores(*rows: tuple[int, float, float]) -> Scores:
    position, probability, label = zip(*rows, strict=True)
    weight = np.ones(len(rows))
    at = np.array(position, np.int64)
    return Scores(at, np.array(probability), np.array(label), weight, at)


def test_what_a_challenger_saves_is_told_by_conversation() -> None:
    """Handed over by the highest of its lessons; only where the two differ is anything saved."""
    champion = scores((1, 0.1, 0), (1, 0.2, 1), (2, 0.9, 0), (3, 0.9, 1), (4, 0.1, 0))
    challenger = scores((1, 0.1, 0), (1, 0.8, 1), (2, 0.2, 0), (3, 0.7, 1), (4, 0.6, 0))
    loss = DecisionLoss(escalate=0.5, unneeded=1.0, missed=4.0)
    own, other = (line_levels(line, {}, loss) for line in (champion, challenger))
    needed = {1: True, 2: False, 3: True, 4: False}
    saved = {at: loss.gains(own[at], other[at])[needed[at]] * loss.unit for at in own}
    assert saved == {1: 4.0, 2: 1.0, 3: 0.0, 4: -1.0}


def test_an_offer_costs_what_asking_and_its_acceptance_cost() -> None:
    policy = Policy(price=0.25)
    loss = DecisionLoss.of(policy)
    assert (loss.offer, loss.escalate) == (policy.thresholds.offer, policy.thresholds.escalate)
    assert loss.levels([0.1, 0.4, 0.9]).tolist() == [0, 1, 2]
    assert loss.levels([0.4, 0.9], [True, True]).tolist() == [0, 2], "no offer at first"
    assert loss.losses([0, 1, 2], [False] * 3) == pytest.approx([0.0, 0.15 + 0.25, 1.0])
    assert loss.losses([0, 1, 2], [True] * 3) == pytest.approx([4.0, 0.15 + 0.1 * 4.0, 0.0])


def test_no_action_costs_less_in_the_mean_than_the_policys_own() -> None:
    for lost in (1.0, 0.5):
        loss = DecisionLoss.of(Policy(lost=lost))
        q = np.linspace(0.0, 1.0, 201)
        costs = [
            q * loss.losses(np.full(q.size, level), np.ones(q.size, bool))
            + (1 - q) * loss.losses(np.full(q.size, level), np.zeros(q.size, bool))
            for level in range(3)
        ]
        chosen = np.choose(loss.levels(q), costs)
        assert chosen == pytest.approx(np.min(costs, axis=0))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("challengers")) as running:
        yield running


def upkeep_of(service: InProcess) -> Maintenance:
    return Maintenance(service.baton.store, service.baton.settings)


def told(place: Place, name: str, count: int, label: float, text: str = "my kettle leaks") -> None:
    """Conversations of one message, closed, with the label of it."""
    for n in range(count):
        place.bot.decided(f"{name}{n}", "m1", text)
        body = {"labels": [{"message_id": "m1", "label": label}]}
        place.engineer.posted(f"/v1/conversations/{name}{n}/outcome", body)


def taught(place: Place, label: float, count: int = 80, **switching: Any) -> None:
    place.policy(
        costs={"unneeded": 1.0, "missed": 1.0, "ask": 1e6},
        audits=KEEPING | BUDGET,
        switching=EAGER | switching,
    )
    told(place, "t", count, label)


def opposed(service: InProcess, *, frozen: bool = False, **switching: Any) -> tuple[Place, int]:
    """A champion that was taught that leaks need nobody and learns slowly; and a challenger that
    learned they do.
    """
    place, other = service.workspace("shadow", SLOW), service.workspace(mode="shadow")
    taught(place, 0.0, **switching)
    taught(other, 1.0)
    return place, challenged(service, place, other, frozen=frozen)


def challenged(service: InProcess, place: Place, other: Place, *, frozen: bool = False) -> int:
    """What the other place has learned becomes a challenger; gives its version."""
    store = service.baton.store
    standing = restore(store, other.name)
    with store.write() as connection:
        standing.position = entries.lock_head(connection, place.name)
        number = switches.save_version(
            connection, place.name, switches.SerializedState.of(standing), line=0, reason="a test"
        )
        wish = ChallengerRequest("a test", "someone", version=number, frozen=frozen)
        challenger_requests.open_challenger(connection, place.name, wish)
    upkeep_of(service).build_challengers()
    return number


def test_an_offer_and_an_escalation_are_two_decisions(service: InProcess) -> None:
    """Where the champion offers a person and the challenger hands over, a needless handoff costs
    more than a needless offer, and the conversation is audited by half.
    """
    place, other = service.workspace("shadow", SLOW), service.workspace(mode="shadow")
    place.policy(
        costs={"unneeded": 1.0, "missed": 4.0, "ask": 0.15},
        offers={"share_max": 1.0, "first_message": True},
        audits=KEEPING | BUDGET,
        switching=EAGER | {"segment_min": 10, "automatic": False},
    )
    for n in range(90):
        told(place, f"t{n} ", 1, float(n % 3 == 0))
    taught(other, 1.0)
    challenged(service, place, other, frozen=True)
    told(place, "after", 15, 0.0)
    upkeep = upkeep_of(service)
    upkeep.evaluate_one(place.name)
    (found,) = contests(place)
    assert found["judged_conversations"] == 15
    assert found["differing"] >= 10
    assert found["proven_better"] is False
    assert found["segments"]["language unknown"]["saves"] == pytest.approx(0.15 + 0.25 - 1.0)
    beside = newest_report(place)["beside"]["recent"]
    assert beside["champion"]["offered"][0] > 0 < beside["challenger-1"]["escalated"][0]
    for n in range(40):
        place.bot.decided(f"c{n}", "m1", "my kettle leaks")
        place.bot.posted(f"/v1/conversations/c{n}/close", {"resolution": "resolved"})
    time.sleep(SETTLED_SECONDS + 0.1)
    upkeep.draw_audits()
    audit = place.agent.got("/v1/audits/next")["audit"]
    answer = place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "fine"})
    assert answer["propensity"] >= DISAGREEMENT


def test_who_offers_where_the_champion_hands_over_saves_the_difference(service: InProcess) -> None:
    """The mirror: the champion hands over what deserves an offer, as nobody needs a person."""
    place, other = service.workspace("shadow", SLOW), service.workspace(mode="shadow")
    for taught_here, every in ((place, 1), (other, 3)):
        taught_here.policy(
            costs={"unneeded": 1.0, "missed": 4.0, "ask": 0.15},
            offers={"share_max": 1.0, "first_message": True},
            switching=EAGER | {"segment_min": 10, "automatic": False},
        )
        for n in range(90):
            told(taught_here, f"t{n} ", 1, float(n % every == 0))
    challenged(service, place, other, frozen=True)
    told(place, "after", 15, 0.0)
    upkeep_of(service).evaluate_one(place.name)
    (found,) = contests(place)
    assert found["differing"] >= 10
    assert found["segments"]["language unknown"]["saves"] == pytest.approx(1.0 - 0.15 - 0.25)
    assert found["evidence"] > 1.0


def contests(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = newest_report(place)["contests"]
    return found


def newest_report(place: Place) -> dict[str, Any]:
    with place.service.baton.store.read() as connection:
        row = mlflow_rows.last_evaluation(connection, place.name)
    assert row is not None
    return dict(row.report)


def heard(place: Place, kind: str) -> list[dict[str, Any]]:
    with place.service.baton.store.read() as connection:
        return [row.facts for row in change_log.after(connection, place.name) if row.kind == kind]


def test_disagreement_is_audited_by_half_and_counted_once(service: InProcess) -> None:
    """Also by a clock that starts anew: the count goes on from where it was stored."""
    place, number = opposed(service, automatic=False)
    for n in range(80):
        place.bot.decided(f"c{n}", "m1", "my kettle leaks")
        place.bot.posted(f"/v1/conversations/c{n}/close", {"resolution": "resolved"})
    time.sleep(SETTLED_SECONDS + 0.1)
    upkeep = upkeep_of(service)
    upkeep.draw_audits()
    reviewed = 0
    while (audit := place.agent.got("/v1/audits/next")["audit"]) is not None:
        body = {"verdict": "missed", "first_needed_message_id": "m1"}
        answer = place.agent.posted(f"/v1/audits/{audit['id']}/outcome", body)
        assert answer["propensity"] >= DISAGREEMENT
        reviewed += 1
    assert 20 <= reviewed <= 60
    upkeep.evaluate_one(place.name)
    (found,) = contests(place)
    assert (found["version"], found["judged_conversations"]) == (number, reviewed)
    assert found["saves_at_least"] > -1
    for again in (upkeep, upkeep_of(service)):
        again.evaluate_one(place.name)
        (same,) = contests(place)
        assert same | {"days": 0} == found | {"days": 0}
    told(place, "later", 5, 1.0)
    upkeep_of(service).evaluate_one(place.name)
    (later,) = contests(place)
    assert later["judged_conversations"] == reviewed + 5
    place.engineer.posted(f"/v1/versions/{number}/promote", {"reason": "it is better"})
    upkeep.evaluate_one(place.name)
    assert contests(place) == []
    (closed,) = place.engineer.got("/v1/versions")["challengers"]
    assert (closed["status"], closed["closed_why"]) == ("closed", "it serves")


def drawn(place: Place, upkeep: Maintenance, count: int) -> None:
    """Conversations that end without a person, sampled for audits."""
    for n in range(count):
        place.bot.decided(f"c{n}", "m1", "my kettle leaks")
        place.bot.posted(f"/v1/conversations/c{n}/close", {"resolution": "unknown"})
    time.sleep(SETTLED_SECONDS + 0.1)
    upkeep.draw_audits()


def reviewed(reviewer: Caller) -> list[dict[str, Any]]:
    """All audits that wait, answered: each was missed."""
    answers = []
    while (audit := reviewer.got("/v1/audits/next")["audit"]) is not None:
        body = {"verdict": "missed", "first_needed_message_id": "m1"}
        answers.append(reviewer.posted(f"/v1/audits/{audit['id']}/outcome", body))
    return answers


def test_a_comparison_waits_for_the_oldest_answer_and_follows_a_correction(
    service: InProcess,
) -> None:
    place, _ = opposed(service, automatic=False, segment_min=10)
    upkeep = upkeep_of(service)
    drawn(place, upkeep, 60)
    oldest = place.agent.got("/v1/audits/next")["audit"]
    place.agent.posted(f"/v1/audits/{oldest['id']}/skip")
    others = reviewed(place.agent)
    upkeep.evaluate_one(place.name)
    (waits,) = contests(place)
    assert (waits["unanswered"], waits["drawn"], waits["differing"]) == (1, 1 + len(others), 0)
    assert waits["proven_better"] is False
    assert f"1 of {1 + len(others)} conversations on which they differ" in waits["sentence"] or any(
        f"1 of {1 + len(others)} conversations" in why for why in waits["objections"]
    )
    assert len(reviewed(place.named_agent("another"))) == 1
    upkeep_of(service).evaluate_one(place.name)
    (whole,) = contests(place)
    assert (whole["unanswered"], whole["differing"]) == (0, 1 + len(others))
    (saved,) = (one["saves"] for name, one in whole["segments"].items() if "language" in name)
    outcome = place.ledger()[-1]["outcome_id"]
    place.agent.put(f"/v1/outcomes/{outcome}", json={"verdict": "fine"}).raise_for_status()
    upkeep.evaluate_one(place.name)
    (corrected,) = contests(place)
    (less,) = (one["saves"] for name, one in corrected["segments"].items() if "language" in name)
    assert (corrected["differing"], less < saved) == (1 + len(others), True)


def test_where_nobody_reviews_nothing_is_proven(service: InProcess) -> None:
    """What is not answered waits, and counts as the worst once the policy's days are over."""
    place, _ = opposed(service, automatic=False)
    upkeep = upkeep_of(service)
    drawn(place, upkeep, 40)
    upkeep.evaluate_one(place.name)
    (waits,) = contests(place)
    assert waits["unanswered"] == waits["drawn"] > 0
    assert (waits["differing"], waits["proven_better"]) == (0, False)
    place.policy(switching=EAGER | {"automatic": False, "unanswered_days": 1e-6})
    upkeep.evaluate_one(place.name)
    (given_up,) = contests(place)
    assert given_up["differing"] == given_up["unanswered"] == waits["drawn"]
    assert (given_up["saves_at_least"] < 0, given_up["proven_better"]) == (True, False)


def test_what_ended_while_the_budget_was_spent_is_no_evidence(service: InProcess) -> None:
    place, _ = opposed(service, automatic=False)
    place.policy(audits=KEEPING | BUDGET | {"per_day": 4})
    upkeep = upkeep_of(service)
    drawn(place, upkeep, 40)
    assert len(reviewed(place.agent)) <= 4
    upkeep.evaluate_one(place.name)
    (found,) = contests(place)
    assert 0 < found["drawn"] <= 4
    assert found["out_of_budget"] > 20
    assert found["conversations"] + found["out_of_budget"] == 40


def test_alpha_is_spent_over_all_comparisons_that_ever_were(service: InProcess) -> None:
    place, _ = opposed(service, frozen=True, automatic=False)
    upkeep = upkeep_of(service)
    upkeep.evaluate_one(place.name)
    (first,) = contests(place)
    place.engineer.delete(f"/v1/challengers/{first['challenger']}").raise_for_status()
    other = service.workspace(mode="shadow")
    taught(other, 1.0, count=20)
    challenged(service, place, other, frozen=True)
    for again in (upkeep_of(service), upkeep_of(service)):
        again.evaluate_one(place.name)
        (second,) = contests(place)
        needed = (first["evidence_needed"], second["evidence_needed"])
        assert needed == pytest.approx((80.0, 1 / (0.05 * 0.15)))
    assert sum(alpha_share(n) for n in range(1, 10_000)) == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=pytest.mark.long)])
def test_one_that_is_proven_better_serves_with_its_evidence(
    service: InProcess, frozen: bool
) -> None:
    place, number = opposed(service, frozen=frozen)
    upkeep = upkeep_of(service)
    for piece in range(8):
        told(place, f"after{piece} ", 20, 1.0)
        if upkeep.evaluate_one(place.name).verdict == "promote":
            break
    switch = place.ledger("switch")[-1]
    evidence = switch["evidence"]
    assert (switch["kind"], evidence["rule"]) == ("promotion", "proven better")
    assert (evidence["version"], evidence["objections"]) == (number, [])
    assert evidence["form"] == ("product" if frozen else "empirical Bernstein")
    assert (switch["version"] == number) == frozen
    assert heard(place, "promotion")[-1]["version"] == switch["version"]
    serves = switch["version"]
    until(lambda: place.engineer.got("/v1/standing")["version"] == serves, "served")
    assert newest_report(place)["acted"] is True
    upkeep.evaluate_one(place.name)
    assert {line["role"] for line in newest_report(place)["lines"]} == {
        *("champion", "previous", "anchor"),
    }


@pytest.mark.long
def test_a_dry_run_recommends_once_and_switches_nothing(service: InProcess) -> None:
    place, number = opposed(service, automatic=False)
    told(place, "after", 120, 1.0)
    for upkeep in (upkeep_of(service), upkeep_of(service)):
        report = upkeep.evaluate_one(place.name)
        assert (report.verdict, report.acted) == ("promote", False)
    assert len(place.ledger("switch")) == 1
    (said,) = heard(place, "recommendation")
    assert (said["verdict"], said["version"]) == ("promote", number)


@pytest.mark.parametrize(
    "terms, why",
    [
        ({"judged_min": 1000}, "120 of 1000 judged conversations"),
        pytest.param({"days_min": 2.0}, "open for 0.0 of 2 days", marks=pytest.mark.long),
        pytest.param({"cooldown_days": 1.0}, "the cool-down is 1", marks=pytest.mark.long),
    ],
)
def test_what_is_proven_better_still_meets_the_terms_of_the_policy(
    service: InProcess, terms: dict[str, Any], why: str
) -> None:
    place, _ = opposed(service, **terms)
    told(place, "after", 120, 1.0)
    report = upkeep_of(service).evaluate_one(place.name)
    (found,) = contests(place)
    assert report.verdict == "keep"
    assert found["proven_better"] is True
    assert any(why in said for said in found["objections"]), found["objections"]
    assert why in report.sentence


def test_there_are_four_challengers_at_most(service: InProcess) -> None:
    place = service.workspace(mode="shadow")
    upkeep = upkeep_of(service)
    recipes = ("bayes-4", "adagrad-4", "forgetting-4", "bayes-4?v0=0.3")
    for recipe in recipes:
        made = place.engineer.posted("/v1/challengers", {"recipe": recipe, "reason": "to see"})
        assert (made["status"], made["recipe"]) == ("asked", recipe)
    fifth = {"recipe": "bayes-4?v0=0.5", "reason": "one more"}
    error = refusal(place.engineer.post("/v1/challengers", json=fifth), 409, "challengers_full")
    assert str(CHALLENGERS_MAX) in error["message"]
    upkeep.build_challengers()
    found = place.engineer.got("/v1/versions")
    assert [(one["slot"], one["status"]) for one in found["challengers"]] == [
        (n, "open") for n in (4, 3, 2, 1)
    ]
    closed = found["challengers"][1]
    answer = place.engineer.delete(f"/v1/challengers/{closed['id']}").json()
    assert (answer["status"], answer["closed_by"]) == ("closed", f"{place.name}-engineer")
    assert place.engineer.posted("/v1/challengers", fifth)["slot"] == closed["slot"]
    assert len(heard(place, "challenger_closed")) == 1


@pytest.mark.parametrize(
    "body, code",
    [
        ({"recipe": "nonsense-1"}, "unknown_recipe"),
        ({"version": 77}, "no_version"),
        ({"frozen": True}, "frozen_without_version"),
        ({"version": 1, "recipe": "bayes-4"}, "version_or_recipe"),
    ],
)
def test_a_challenger_that_cannot_be_made_is_refused(
    service: InProcess, body: dict[str, Any], code: str
) -> None:
    place = service.workspace(mode="shadow")
    answer = place.engineer.post("/v1/challengers", json=body | {"reason": "to see"})
    assert answer.json()["error"]["code"] == code
    assert answer.status_code in (404, 422)


def test_one_that_left_out_an_agent_is_the_model_that_never_heard_them(
    service: InProcess,
) -> None:
    place, clean = service.workspace(mode="shadow"), service.workspace(mode="shadow")
    mallory = place.named_agent("mallory")
    for n in range(12):
        for one in (place, clean):
            one.bot.decided(f"c{n}", "m1", f"my kettle leaks {n}")
            one.bot.posted(f"/v1/conversations/c{n}/outcome", {"verdict": "fine"})
        place.bot.decided(f"forged{n}", "m1", f"where is my parcel {n}")
        mallory.posted(f"/v1/conversations/forged{n}/outcome", {"verdict": "missed"})
    asked = {"without": {"agent": "mallory"}, "reason": "forged labels"}
    made = place.engineer.posted("/v1/challengers", asked)
    upkeep_of(service).build_challengers()
    with service.baton.store.read() as connection:
        row = challenger_rows.challenger(connection, place.name, made["id"])
    assert row is not None
    place.engineer.posted(f"/v1/versions/{row.version}/promote", {"reason": "repaired"})
    digest = place.engineer.got("/v1/standing")["digest"]
    assert digest == clean.engineer.got("/v1/standing")["digest"]


def test_how_far_a_challenger_is_built_is_told_while_it_is(service: InProcess) -> None:
    place, store = service.workspace(mode="shadow"), service.baton.store
    taught(place, 0.0, count=5)
    asked = place.engineer.posted("/v1/challengers", {"recipe": "bayes-4", "reason": "to see"})
    with store.write() as connection:
        challenger_rows.change(connection, place.name, asked["id"], built=3)
    known = place.engineer.got("/v1/versions")
    assert [(c["status"], c["built"]) for c in known["challengers"]] == [("asked", 3)]
    assert known["head"] == place.engineer.got("/v1/standing")["position"] > 3
    upkeep_of(service).build_challengers()
    known = place.engineer.got("/v1/versions")
    assert [(c["status"], c["built"]) for c in known["challengers"]] == [("open", known["head"])]
