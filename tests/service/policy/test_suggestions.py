"""Rules by what agents found, and shares by what customers answered: proposed, never applied."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.decision.policy import PROTECTED, AuditBudget, default_rules
from learning.estimation.off_policy import LoggedConversation
from learning.estimation.offer_acceptance import shares
from learning.estimation.rule_suggestions import (
    CONVERSATIONS_MIN,
    LabelledConversation,
    coverage,
    precision,
    suggest_rules,
    terms,
)
from service.outcomes import audit_tasks
from tests.postgres import on_both
from tests.service_in_process import OTHERS, InProcess, Place, serving

store_url = on_both()
RULES = default_rules()
BAR = 0.2


def kinds(cases: list[LabelledConversation]) -> set[tuple[str, str]]:
    return {(one.kind, one.rule) for one in suggest_rules(RULES, cases, BAR)}


def test_precision_and_coverage_are_shares_of_what_is_known() -> None:
    legal = frozenset({"legal"})
    cases = (
        [LabelledConversation(True, legal)] * 6
        + [LabelledConversation(False, legal)] * 2
        + [LabelledConversation(True)] * 6
    )
    assert precision("legal", cases).rate == pytest.approx(6 / 8)
    assert coverage("legal", cases).rate == pytest.approx(6 / 12)


def test_an_audited_miss_stands_for_all_that_were_not_looked_at() -> None:
    cases = [LabelledConversation(True, frozenset({"legal"}))] * 5 + [
        LabelledConversation(True, weight=10.0)
    ]
    assert coverage("legal", cases).rate == pytest.approx(5 / 15)


def test_a_rule_that_is_clearly_mostly_wrong_is_to_be_retired_unless_it_protects() -> None:
    for rule in ("failed_automation", "security"):
        cases = [LabelledConversation(n < 2, frozenset({rule})) for n in range(100)]
        expected = set() if rule in PROTECTED else {("retire", rule)}
        assert kinds(cases) == expected


def test_a_rule_that_is_wrong_only_by_itself_is_to_be_narrowed() -> None:
    alone = [LabelledConversation(n < 2, frozenset({"legal"})) for n in range(100)]
    helped = [LabelledConversation(True, frozenset({"legal"}), model=True)] * 100
    assert kinds(alone + helped) == {("narrow", "legal")}


@given(st.integers(0, 19), st.floats(0, 1))
def test_few_verdicts_suggest_nothing(count: int, share: float) -> None:
    cases = [
        LabelledConversation(n < share * count, frozenset({"legal"}), terms=frozenset({"w"}))
        for n in range(count)
    ]
    assert kinds(cases) == set()


def test_words_that_agents_keep_confirming_become_a_rule_to_add() -> None:
    said = terms(["please cancel contract 12 now"])
    assert "cancel contract" in said
    assert not any("12" in one or "00" in one for one in said)
    cases = [LabelledConversation(True, model=True, terms=said)] * 60
    cases += [
        LabelledConversation(n % 10 == 0, terms=terms(["where is it now"])) for n in range(200)
    ]
    found = suggest_rules(RULES, cases, BAR)
    assert {one.watches for one in found if one.kind == "add"} >= {"says:cancel contract"}
    assert "says:now" not in {one.watches for one in found}, "it is said by everyone"
    assert all(one.conversations >= CONVERSATIONS_MIN for one in found)


def test_words_of_few_conversations_are_never_named() -> None:
    cases = [LabelledConversation(True, terms=frozenset({"secret"}))] * (CONVERSATIONS_MIN - 1)
    cases += [LabelledConversation(False, terms=frozenset({"other"}))] * 500
    assert "secret" not in str(suggest_rules(RULES, cases, BAR))


def test_words_that_a_rule_sees_already_are_not_suggested_again() -> None:
    seen = LabelledConversation(True, frozenset({"request"}), terms=frozenset({"human"}))
    assert (
        kinds([seen] * 100 + [LabelledConversation(False, terms=frozenset({"other"}))] * 100)
        == set()
    )


def test_chance_alone_seldom_suggests_anything() -> None:
    """100 seeded services in which no word and no rule means anything."""
    cried = 0
    for seed in range(100):
        rng = random.Random(seed)
        cases = [
            LabelledConversation(
                rng.random() < 0.4, terms=frozenset(f"w{rng.randrange(12)}" for _ in range(3))
            )
            for _ in range(250)
        ]
        cried += bool(suggest_rules(RULES, cases, BAR))
    assert cried <= 5


def test_shares_that_accept_are_told_from_both_kinds_of_answers() -> None:
    """45 of 50 in need accepted, and 30 of 120 others."""
    accepted = [LoggedConversation("offered", "person", True)] * 45 + [
        LoggedConversation("offered", "person", False)
    ] * 30
    declined = [LoggedConversation("offered", "audit", True, certain=True)] * 5
    declined += [LoggedConversation("offered", "audit", False, certain=True)] * 90
    found = shares(accepted, declined)
    assert found.needed.value == pytest.approx(0.9)
    assert found.unneeded.value == pytest.approx(0.25)


def test_of_those_who_declined_nothing_is_known_without_audits() -> None:
    found = shares(
        [LoggedConversation("offered", "person", True)] * 10,
        [LoggedConversation("offered", "audit", None)] * 10,
    )
    assert found.needed.value is None
    assert (found.needed.low, found.needed.high) == (pytest.approx(0.5), 1.0)


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("suggestions"), database=store_url) as running:
        yield running


def offered(place: Place, name: str, text: str, accepted: bool) -> str | None:
    decision = place.bot.decided(name, "m1", text)
    assert decision["action"] == "offer", decision
    path = f"/v1/decisions/{decision['decision_id']}/answer"
    handoff = place.bot.posted(path, {"accepted": accepted})["handoff"]
    return handoff and str(handoff["id"])


def test_quality_shows_rules_shares_and_suggestions_and_changes_no_policy(
    service: InProcess,
) -> None:
    place = service.workspace()
    place.offering()
    before = place.engineer.got("/v1/policy")
    for n in range(30):
        handoff = offered(place, f"yes{n}", "my blue kettle came without its lid again", True)
        place.agent.posted(f"/v1/handoffs/{handoff}/resolve")
        place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    for n in range(40):
        offered(place, f"no{n}", OTHERS[n % len(OTHERS)], False)
        place.bot.posted(f"/v1/conversations/no{n}/close", {"resolution": "resolved"})
    everyone = AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=0.0)
    with service.baton.store.write() as connection:
        audit_tasks.draw_audits(connection, place.name, everyone, time.time() + 60)
    for _ in range(40):
        audit = place.agent.got("/v1/audits/next")["audit"]
        place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "fine"})
    quality = place.engineer.got("/v1/quality")
    accepting: dict[str, Any] = quality["accepting"]
    assert accepting["proposed"] == {"needed": 1.0, "unneeded": 0.0}
    assert (accepting["accepted"], accepting["declined"]) == (30, 40)
    assert accepting["needed"]["low"] < 1.0
    assert set(quality["rules"]) == {rule.name for rule in RULES}
    assert "says:blue kettle" in {one["watches"] for one in quality["suggestions"]}
    assert quality["by_language"]["unknown"]["missed"]["kept_conversations"] == 40
    assert quality["by_version"]["1"]["missed"]["rate"] == 0.0
    assert place.engineer.got("/v1/policy") == before
