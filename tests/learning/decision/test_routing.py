"""Whose work a handoff is: by rules, then by a model that is part of the standing, then default."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import base, checks

from learning.conversation.state import Message, fold
from learning.decision.policy import Policy, decide
from learning.decision.rules import Rule
from learning.decision.teams.opening_hours import Team
from learning.decision.teams.routing import Routing, Suggestion, route
from learning.decision.teams.team_classifier import (
    LESSONS,
    SURE_AFTER,
    TEAMS_MAX,
    WEIGHTS,
    RoutingScores,
    RoutingTrial,
    TeamClassifier,
    team_features,
)
from learning.estimation.routing_accuracy import METHODS, accuracy, curve
from learning.ledger import checkpoint
from learning.ledger.model_state import ModelState
from learning.models.softmax import SoftmaxRegression
from service.versions.restore import restore
from tests.ledgers import CONVERSATIONS, learned, numbered, outcome
from tests.postgres import on_both
from tests.service_in_process import InProcess, Place, serving

store_url = on_both()
TEAMS = ("billing", "legal", "orders", "support", "technical")
TALK = {
    "billing": ("my invoice was charged twice", "the amount on the bill is wrong"),
    "technical": ("the router will not connect", "the device shows a red light"),
    "orders": ("the parcel never arrived", "tracking says delivered but no parcel came"),
}


def said(*texts: str) -> Any:
    return fold([Message(f"m{n}", "user", text, 1e9 + n) for n, text in enumerate(texts)])


def taught(times: int = 8) -> TeamClassifier:
    router = TeamClassifier()
    for n in range(times):
        for team, texts in TALK.items():
            router.learn(said(f"{texts[n % 2]} {n}"), team, "agent")
    return router


# The classifier


@pytest.mark.long
def test_the_classifier_is_a_genuine_river_classifier_of_many_labels() -> None:
    model = SoftmaxRegression()
    assert isinstance(model, base.Classifier)
    checks.check_estimator(model)


@given(st.lists(st.tuples(st.text(max_size=8), st.sampled_from("abcde")), max_size=30))
def test_shares_are_probabilities_and_asking_changes_nothing(
    lessons: list[tuple[str, str]],
) -> None:
    model = SoftmaxRegression(classes_max=3)
    for word, label in lessons:
        model.learn_one({"said=" + word: 1.0}, label)
        before = json.dumps(model.dump()[0])
        shares = model.predict_proba_one({"said=" + word: 1.0, "said=new": 1.0})
        assert sum(shares.values()) == pytest.approx(1.0)
        assert json.dumps(model.dump()[0]) == before
    assert len(model.counts) <= 3


def test_of_more_labels_than_it_can_hold_the_one_longest_not_learned_makes_room() -> None:
    model = SoftmaxRegression(classes_max=2)
    for label in ("a", "b", "a", "c"):
        model.learn_one({"said=x": 1.0}, label)
    assert model.counts == {"a": 2, "c": 1}
    assert set(model.predict_proba_one({"said=x": 1.0})) == {"a", "c"}


def test_a_state_that_does_not_fit_is_refused() -> None:
    meta, arrays = taught().dump()
    for wrong in ({"labels": ["a"]}, {"counts": []}, {"rate": 9.0}, {"labels": [1, 2, 3]}):
        with pytest.raises(ValueError, match=r"fit|text"):
            TeamClassifier().load(meta | wrong, arrays)


# What routing reads


def test_what_was_said_first_still_tells_whose_work_it_is() -> None:
    """The newest message often only asks for somebody."""
    router = taught()
    found = router.suggest(
        said("I was charged twice on my invoice", "please, a human", "hello?"), TEAMS
    )
    assert found is not None
    assert found.team == "billing"


def test_names_of_what_is_said_can_never_be_context_names() -> None:
    found = team_features(said("turns failures request scored", "x=y"))
    assert all("=" in name for name in found)


def test_a_team_is_suggested_only_once_enough_is_known_of_it() -> None:
    router = TeamClassifier()
    for n in range(SURE_AFTER):
        assert router.suggest(said(TALK["billing"][0]), TEAMS) is None
        router.learn(said(f"{TALK['billing'][0]} {n}"), "billing", "agent")
    assert router.suggest(said(TALK["billing"][0]), TEAMS) == Suggestion("billing", 1.0)
    router.learn(said("a new kind of thing"), "legal", "agent")
    found = router.suggest(said("a new kind of thing"), TEAMS)
    assert found is not None
    assert found.team == "billing"


# Precedence

NAMES = st.sampled_from(["billing", "legal", "orders", "support"])
RULES = st.lists(
    st.builds(
        Rule,
        name=st.just("r"),
        watches=st.just("request"),
        team=st.none() | NAMES,
        priority=st.integers(1, 4),
    ),
    max_size=4,
)


@given(RULES, st.none() | st.builds(Suggestion, NAMES, st.floats(0, 1)), st.floats(0, 1))
def test_a_rule_that_names_a_team_wins_then_a_sure_model_then_the_default(
    rules: list[Rule], suggested: Suggestion | None, confidence: float
) -> None:
    routing = Routing(confidence=confidence)
    urgent = (Team(name="billing", priority=1),)
    found = route(rules, suggested, routing, "support", urgent)
    naming = [rule for rule in rules if rule.team is not None]
    if naming:
        first = min(rule.priority for rule in naming)
        assert (found.by, found.team) in {
            ("rule", rule.team) for rule in naming if rule.priority == first
        }
    elif suggested and suggested.probability >= confidence:
        assert (found.by, found.team) == ("model", suggested.team)
    else:
        assert (found.by, found.team) == ("default", "support")
    if rules:
        assert found.priority == min(rule.priority for rule in rules)
    else:
        assert found.priority == (1 if found.team == "billing" else 3)
    assert found.suggested == suggested


def test_the_model_is_asked_only_where_a_person_may_be_called() -> None:
    asked: list[int] = []
    quiet = decide(Policy(), said("hello there"), 0.0, lambda: asked.append(1))  # type: ignore[func-returns-value]
    assert (quiet.action, asked) == ("continue", [])
    loud = decide(Policy(), said("hello there"), 1.0, lambda: asked.append(1))  # type: ignore[func-returns-value]
    assert (loud.action, asked) == ("escalate", [1])


# Part of the standing

TAUGHT = numbered(
    ("outcome", outcome(name, team=team, team_by=how))
    for how in sorted(WEIGHTS)
    for name, team in zip(CONVERSATIONS, ["billing", "legal"] * 4, strict=True)
)


def test_what_agents_say_of_teams_is_learned_digested_saved_and_goes_on_the_same() -> None:
    live = learned(TAUGHT)
    assert live.router.model.counts == {"billing": 12, "legal": 12}
    assert checkpoint.digest(live) != checkpoint.digest(
        learned([entry for entry in TAUGHT if entry.position < 24])
    )
    half = checkpoint.load(checkpoint.dump(learned(TAUGHT[:11])))
    learned(TAUGHT[11:], half)
    assert checkpoint.digest(half) == checkpoint.digest(live)
    assert half.routed.dump()[0] == live.routed.dump()[0]
    state = fold(turn.message for turn in CONVERSATIONS["c1"])
    assert half.router.suggest(state, TEAMS) == live.router.suggest(state, TEAMS)
    assert live.router.suggest(state, TEAMS) is not None


def test_a_team_alone_moves_the_digest() -> None:
    """Nothing else in the entry teaches: nobody could tell whether a person was needed."""
    plain = numbered([("outcome", outcome(verdict="unknowable"))])
    named = numbered([("outcome", outcome(verdict="unknowable", team="legal", team_by="agent"))])
    assert checkpoint.digest(learned(plain)) == checkpoint.digest(ModelState(recipe="bayes-4"))
    assert checkpoint.digest(learned(named)) != checkpoint.digest(learned(plain))


def test_a_checkpoint_from_before_there_was_routing_loads_as_untrained() -> None:
    standing = learned(numbered([("outcome", outcome())]))
    with np.load(io.BytesIO(checkpoint.dump(standing))) as archive:
        arrays = {name: archive[name] for name in archive.files if "rout" not in name}
    header = json.loads(arrays.pop("header").tobytes())
    for part in ("router", "routed"):
        del header["meta"][part]
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    old = checkpoint.load(out.getvalue())
    assert checkpoint.digest(old) == checkpoint.digest(standing)
    assert old.router.model.lessons == 0
    trained = learned(TAUGHT)
    header["digest"] = checkpoint.digest(trained)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    with pytest.raises(checkpoint.CheckpointError, match="digest"):
        checkpoint.load(out.getvalue())


# How right it was


def test_only_what_agents_said_or_moved_is_counted_and_before_it_is_learned() -> None:
    standing = learned(TAUGHT)
    assert standing.routed.tested == 16
    found = accuracy(standing.routed)
    assert found["model"]["among"] == 16
    assert found["model"]["low"] <= found["model"]["rate"] <= found["model"]["high"]
    first = learned(TAUGHT[:1])
    assert first.routed.right == dict.fromkeys(first.routed.right, 0)


@given(st.lists(st.builds(RoutingTrial, NAMES, *[st.booleans()] * 4), max_size=60))
def test_the_record_counts_each_way_and_comes_back_the_same(tried: list[RoutingTrial]) -> None:
    record = RoutingScores()
    for position, one in enumerate(tried, 1):
        record.add(position, one)
    found = accuracy(record)
    for way in METHODS:
        assert found[way]["count"] == sum(getattr(one, way) for one in tried)
    assert sum(rate["among"] for rate in found["by_team"].values()) == len(tried)
    meta, arrays = record.dump()
    again = RoutingScores()
    again.load(json.loads(json.dumps(meta)), arrays)
    assert (again.dump()[0], curve(again)) == (meta, curve(record))


def test_the_record_is_bounded() -> None:
    record = RoutingScores()
    for position in range(LESSONS + 50):
        record.add(position, RoutingTrial(f"team {position % 99}", True, False, False, False))
    assert record.rows()["position"].tolist() == list(range(50, LESSONS + 50))
    assert len(record.by_team) <= TEAMS_MAX
    assert len(curve(record)) <= 110


# Through the service


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("routing"), database=store_url) as found:
        yield found


def escalating(place: Place) -> None:
    """Whatever is said goes to a person."""
    place.policy(
        costs={"unneeded": 0.001, "missed": 1e6, "ask": 1e6},
        teams=[{"name": name} for name in TALK],
    )


def handed_over(place: Place, name: str, text: str, team: str | None = None) -> dict[str, Any]:
    """A conversation that is escalated; its agent says whose work it was, if `team` is given."""
    decision: dict[str, Any] = place.bot.decided(name, "m1", text)
    body = {"verdict": "needed"} | ({} if team is None else {"team": team})
    if team is not None:
        place.agent.posted(f"/v1/handoffs/{decision['handoff']['id']}/outcome", body)
    return decision


def test_a_handoff_goes_where_agents_said_such_conversations_belong(place: Place) -> None:
    escalating(place)
    for n in range(6):
        for team, texts in TALK.items():
            handed_over(place, f"{team}{n}", f"{texts[n % 2]} {n}", team)
    before = place.engineer.got("/v1/standing")
    decision = handed_over(place, "new", "the invoice amount was charged twice")
    assert decision["handoff"]["team"] == "billing"
    assert any("work for team billing" in reason["text"] for reason in decision["reasons"])
    assert place.engineer.got("/v1/standing") == before, "scoring changed the model"
    seen = place.agent.got(f"/v1/decisions/{decision['decision_id']}")
    assert seen["route"]["by"] == "model"
    assert seen["route"]["suggested"]["probability"] > 0.4
    replayed = place.agent.got(f"/v1/decisions/{decision['decision_id']}/replay")
    assert replayed["identical"] is True
    assert replayed["again"]["route"] == seen["route"]
    routing = place.engineer.got("/v1/quality")["routing"]
    assert routing["tested"] == 18
    assert routing["learned"] == {"billing": 6, "technical": 6, "orders": 6}
    assert routing["model"]["low"] <= routing["model"]["rate"] <= routing["model"]["high"]
    again = restore(place.service.baton.store, place.name)
    assert checkpoint.digest(again) == before["digest"]


def test_where_it_would_go_by_itself_is_one_thing_and_a_rule_another(place: Place) -> None:
    """A rule that names a team wins over the model, and the model's word stays on record."""
    escalating(place)
    for n in range(6):
        for team, texts in TALK.items():
            handed_over(place, f"{team}{n}", f"{texts[n % 2]} {n}", team)
    text = "someone hacked my account and my invoice was charged twice"
    decision = handed_over(place, "hacked", text)
    assert decision["handoff"]["team"] == "security"
    seen = place.agent.got(f"/v1/decisions/{decision['decision_id']}")
    assert (seen["route"]["by"], seen["route"]["rule"]) == ("rule", "security")
    assert seen["route"]["suggested"]["team"] == "billing"
    place.policy(teams=[])
    after = handed_over(place, "again", "the invoice amount was charged twice")
    assert after["handoff"]["team"] == "support", "a team that the policy no longer speaks of"


def test_a_zone_that_is_none_is_refused_by_its_field(place: Place) -> None:
    policy = place.engineer.got("/v1/policy")
    policy["teams"] = [{"name": "support", "zone": "Europe/Atlantis"}]
    answer = place.engineer.put("/v1/policy", json=policy)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "teams.0.zone"


def test_a_promise_counts_those_who_wait_already(place: Place) -> None:
    escalating(place)
    place.policy(teams=[{"name": "support", "per_hour": 2.0}])
    first = place.bot.decided("c1", "m1", TALK["billing"][0])["handoff"]
    second = place.bot.decided("c2", "m1", TALK["billing"][0])["handoff"]
    assert "promised_at" not in first or first["promised_at"] is None
    waits = place.agent.got(f"/v1/handoffs/{second['id']}")
    assert waits["promised_at"] is not None
    promised = datetime.fromisoformat(waits["promised_at"]).timestamp()
    opened = datetime.fromisoformat(waits["opened_at"]).timestamp()
    assert promised - opened == pytest.approx(1800, abs=5)
