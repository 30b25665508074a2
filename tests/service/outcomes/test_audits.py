"""Reviews of kept conversations: drawn once, offered blindly, answered once, counted honestly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from learning.decision.policy import AuditBudget, SilencePolicy
from service.jobs.maintenance import Maintenance
from service.outcomes import audit_tasks
from service.store.conversations.batch import Batch, StateCache
from service.store.labels import audit_rows
from tests.postgres import on_both
from tests.service_in_process import OTHERS, InProcess, Place, at_once, refusal, serving

store_url = on_both()
EVERYONE = AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=0.0)


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("audits"), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    """A live workspace whose model never escalates by itself."""
    made = service.workspace()
    made.policy(costs={"unneeded": 1e6, "missed": 1e-3, "ask": 1e6})
    return made


def closed(place: Place, count: int, name: str = "c") -> None:
    """Kept conversations of one quiet message each."""
    for n in range(count):
        place.bot.decided(f"{name}{n}", "m1", OTHERS[n % len(OTHERS)])
        place.bot.posted(f"/v1/conversations/{name}{n}/close", {"resolution": "resolved"})


def tossed(place: Place, policy: AuditBudget = EVERYONE, *, later: float = 60.0) -> int:
    """Let `jobs` toss the coins, some time after the conversations ended."""
    with place.service.baton.store.write() as connection:
        return audit_tasks.draw_audits(connection, place.name, policy, time.time() + later)


def offered(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = place.agent.got("/v1/audits/next")["audit"]
    return found


def test_a_review_shows_the_transcript_and_no_score_until_it_is_answered(place: Place) -> None:
    closed(place, 1)
    tossed(place)
    audit = offered(place)
    assert set(audit) == {"id", "conversation_id", "offered_until", "transcript"}
    assert [turn["id"] for turn in audit["transcript"]] == ["m1"]
    answer = place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "fine"})
    assert 0 <= answer["probability"] <= 1
    assert answer["propensity"] == 1.0


def test_coins_are_tossed_once_however_often_jobs_look(place: Place) -> None:
    closed(place, 3)
    assert tossed(place) == 3
    assert tossed(place) == 0


def test_an_escalated_or_open_conversation_is_not_audited(place: Place) -> None:
    place.bot.decided("escalated", "m1", "let me talk to a human")
    place.bot.posted("/v1/conversations/escalated/close", {"resolution": "unknown"})
    place.bot.decided("open", "m1", OTHERS[0])
    assert tossed(place) == 0


@pytest.mark.parametrize("double_share", [pytest.param(0.0, marks=pytest.mark.long), 0.5])
@pytest.mark.parametrize("differ", [False, True])
def test_a_budget_holds_over_the_day_to_the_last_review(
    place: Place, differ: bool, double_share: float
) -> None:
    """Doubles and audits of disagreements included, however many conversations close at once."""
    policy = AuditBudget(
        uniform_share=1.0, targeted_share=1.0, per_day=7, double_share=double_share
    )
    closed(place, 30)
    actions = {f"c{n}": {"champion": 0, "other": 2 * differ} for n in range(30)}
    with place.service.baton.store.write() as connection:
        now = time.time() + 60
        drawn = audit_tasks.draw_audits(connection, place.name, policy, now, actions)
        assert drawn <= 7
        requested = audit_rows.requested_since(connection, place.name, now - 60)
        assert requested.disagreement + requested.others <= 7
    closed(place, 30, "d")
    assert tossed(place, policy) <= 7 - drawn


def test_what_an_audit_found_is_learned_with_its_propensity(place: Place) -> None:
    closed(place, 1)
    tossed(place, AuditBudget(uniform_share=1.0, targeted_share=0.5, double_share=0.0))
    audit = offered(place)
    body = {"verdict": "missed", "first_needed_message_id": "m1"}
    place.agent.posted(f"/v1/audits/{audit['id']}/outcome", body)
    entry = place.ledger()[-1]
    assert (entry["verdict"], entry["since"], entry["source"]) == ("missed", 1, "audit")
    assert entry["propensity"] == 1.0
    assert entry["covers"] == 1


def test_the_same_answer_twice_has_one_effect_and_another_is_a_contradiction(place: Place) -> None:
    closed(place, 1)
    tossed(place)
    path = f"/v1/audits/{offered(place)['id']}/outcome"
    first = place.agent.posted(path, {"verdict": "fine"})
    assert place.agent.posted(path, {"verdict": "fine"}) == first
    assert len(place.ledger()) == 1
    refusal(place.agent.post(path, json={"verdict": "missed"}), 409, "reviewed_otherwise")


def test_two_reviewers_are_not_offered_the_same_conversation(place: Place) -> None:
    closed(place, 6)
    tossed(place)
    reviewers = [place.named_agent(f"reviewer {n}") for n in range(6)]
    found = at_once(6, lambda n: reviewers[n].got("/v1/audits/next")["audit"]["id"])
    assert len(set(found)) == 6


def test_an_offer_that_nobody_answers_is_made_again(place: Place) -> None:
    closed(place, 1)
    tossed(place)
    first = offered(place)
    other = place.named_agent("another")
    assert other.got("/v1/audits/next")["audit"] is None
    with place.service.baton.store.write() as connection:
        audit_rows.change(connection, place.name, first["id"], offered_until=0.0)
    assert other.got("/v1/audits/next")["audit"]["id"] == first["id"]


def test_a_skipped_audit_goes_to_others_and_not_back(place: Place) -> None:
    closed(place, 1)
    tossed(place)
    first = offered(place)
    place.agent.posted(f"/v1/audits/{first['id']}/skip")
    assert offered(place) is None
    assert place.named_agent("another").got("/v1/audits/next")["audit"]["id"] == first["id"]


def test_double_reviews_measure_agreement_and_teach_once(place: Place) -> None:
    closed(place, 4)
    tossed(place, AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=1.0))
    other = place.named_agent("another")
    for reviewer, verdicts in ((place.agent, "missed fine fine fine"), (other, "missed fine " * 2)):
        by_conversation = dict(zip(("c0", "c1", "c2", "c3"), verdicts.split(), strict=True))
        for _ in range(4):
            audit = reviewer.got("/v1/audits/next")["audit"]
            verdict = by_conversation[audit["conversation_id"]]
            reviewer.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": verdict})
    quality = place.engineer.got("/v1/quality")
    assert quality["audits"]["double_reviewed"] == 4
    assert quality["audits"]["kappa"] == pytest.approx(0.5)
    assert len(place.ledger()) == 4


def test_the_missed_rate_counts_answers_and_shows_what_is_pending(place: Place) -> None:
    closed(place, 10)
    tossed(place)
    for verdict in ("missed", "fine", "fine", "unknowable"):
        place.agent.posted(f"/v1/audits/{offered(place)['id']}/outcome", {"verdict": verdict})
    missed = place.engineer.got("/v1/quality")["missed"]
    assert missed["rate"] == pytest.approx(1 / 3)
    assert missed["low"] <= 0.1
    assert missed["high"] >= 1 / 3
    assert (missed["audits_answered"], missed["audits_unknowable"]) == (3, 1)
    assert missed["audits_pending"] == 6


def test_a_complaint_is_a_known_stratum_and_leaves_the_sample(place: Place) -> None:
    closed(place, 10)
    tossed(place)
    complaint = {"verdict": "missed", "source": "complaint"}
    place.bot.posted("/v1/conversations/c0/outcome", complaint)
    for _ in range(10):
        if (audit := offered(place)) is not None:
            place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "fine"})
    missed = place.engineer.got("/v1/quality")["missed"]
    assert (missed["caught"], missed["audits_answered"]) == (1, 9)
    assert missed["rate"] == pytest.approx(0.1)


def test_a_coin_that_a_budget_lowered_is_made_up_for(place: Place) -> None:
    """Four all reviewed, and all missed; of twenty later ones half are reviewed, and all fine."""
    closed(place, 4)
    tossed(place)
    closed(place, 20, "later")
    tossed(place, AuditBudget(uniform_share=0.5, targeted_share=0.0, double_share=0.0))
    drawn = 0
    while (audit := offered(place)) is not None:
        later = audit["conversation_id"].startswith("later")
        verdict = {"verdict": "fine" if later else "missed"}
        place.agent.posted(f"/v1/audits/{audit['id']}/outcome", verdict)
        drawn += later
    missed = place.engineer.got("/v1/quality")["missed"]
    assert missed["rate"] == pytest.approx(4 / (4 + 2 * drawn))
    assert (missed["audits_answered"], missed["audits_found_missed"]) == (4 + drawn, 4)


def outcome_of(place: Place, conversation: str) -> str:
    found = place.agent.got(f"/v1/conversations/{conversation}")["outcomes"]
    return str(found[-1]["id"])


def test_a_complaint_about_what_an_audit_found_takes_it_out_of_the_sample(place: Place) -> None:
    """Else audited misses stay in the sample while others like them leave it."""
    closed(place, 10)
    tossed(place)
    for _ in range(10):
        audit = offered(place)
        verdict = "missed" if audit["conversation_id"] in ("c0", "c1") else "fine"
        place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": verdict})
    for name in ("c0", "c2"):
        complaint = {"verdict": "missed", "source": "complaint"}
        place.bot.posted(f"/v1/conversations/{name}/outcome", complaint)
    missed = place.engineer.got("/v1/quality")["missed"]
    assert (missed["caught"], missed["audits_answered"], missed["audits_found_missed"]) == (2, 8, 1)
    assert missed["rate"] == pytest.approx(0.2 + 0.8 / 8)
    taught = [(e["conversation_id"], e["verdict"], e["source"]) for e in place.ledger()]
    assert taught.count(("c0", "missed", "audit")) == 1, "what it taught stays as it was"
    assert taught[-1] == ("c2", "missed", "complaint")


def test_a_corrected_review_is_counted_as_it_is_now_and_keeps_its_propensity(place: Place) -> None:
    closed(place, 4)
    tossed(place, AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=0.0))
    for _ in range(4):
        place.agent.posted(f"/v1/audits/{offered(place)['id']}/outcome", {"verdict": "fine"})
    right = {"verdict": "missed", "first_needed_message_id": "m1"}
    answer = place.agent.put(f"/v1/outcomes/{outcome_of(place, 'c0')}", json=right)
    assert answer.json()["source"] == "audit"
    missed = place.engineer.got("/v1/quality")["missed"]
    assert (missed["caught"], missed["audits_answered"], missed["audits_found_missed"]) == (0, 4, 1)
    entry = place.ledger()[-1]
    assert (entry["source"], entry["propensity"], entry["covers"]) == ("audit", 1.0, 1)


def test_a_review_that_was_taken_back_is_asked_for_again(place: Place) -> None:
    closed(place, 1)
    tossed(place)
    place.agent.posted(f"/v1/audits/{offered(place)['id']}/outcome", {"verdict": "missed"})
    place.agent.delete(f"/v1/outcomes/{outcome_of(place, 'c0')}")
    missed = place.engineer.got("/v1/quality")["missed"]
    assert (missed["audits_answered"], missed["audits_pending"]) == (0, 1)
    other = place.named_agent("another")
    audit = other.got("/v1/audits/next")["audit"]
    other.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "fine"})
    assert place.engineer.got("/v1/quality")["missed"]["rate"] == 0.0


def test_silence_teaches_weakly_only_where_the_policy_lets_it(place: Place) -> None:
    closed(place, 2)
    tossed(place, AuditBudget(uniform_share=0.0, targeted_share=0.0))

    def matured(policy: SilencePolicy, later: float) -> int:
        with place.service.baton.store.write() as connection:
            batch = Batch(connection, StateCache())
            batch.now += later
            silent = audit_tasks.due_for_silence(connection, place.name, policy, batch.now)
            return audit_tasks.learn_from_silence(batch, place.name, policy, silent)

    assert matured(SilencePolicy(), 1e7) == 0
    assert matured(SilencePolicy(weight=0.1, after_seconds=3600), 60.0) == 0
    assert matured(SilencePolicy(weight=0.1, after_seconds=3600), 7200.0) == 2
    assert {(e["verdict"], e["source"], e["weight"]) for e in place.ledger()} == {
        ("fine", "silence", 0.1)
    }
    assert place.engineer.got("/v1/quality")["missed"]["rate"] is None


def test_jobs_let_silence_speak_for_each_conversation_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed(place, 3)
    tossed(place, AuditBudget(uniform_share=0.0, targeted_share=0.0))
    place.policy(silence={"weight": 0.1, "after_seconds": 3600})
    baton = place.service.baton
    upkeep = Maintenance(baton.store, baton.settings)
    upkeep.learn_from_silence()
    assert place.ledger() == []
    with baton.store.write() as connection:
        long_ago = {"at": time.time() - 3700, "workspace": place.name}
        connection.execute(
            text("UPDATE conversation SET closed_at = :at WHERE workspace = :workspace"), long_ago
        )
    monkeypatch.setattr("service.jobs.maintenance.SILENCE_BATCH", 2)
    upkeep.learn_from_silence()
    upkeep.learn_from_silence()
    assert sorted(entry["conversation_id"] for entry in place.ledger()) == ["c0", "c1", "c2"]


def test_an_audit_of_another_workspace_is_not_there(service: InProcess, place: Place) -> None:
    closed(place, 1)
    tossed(place)
    audit = offered(place)
    other = service.workspace()
    answer = other.agent.post(f"/v1/audits/{audit['id']}/outcome", json={"verdict": "fine"})
    refusal(answer, 404, "no_audit")
    refusal(place.bot.get("/v1/audits/next"), 403)


def test_looking_for_coins_to_toss_reads_no_conversation_that_was_looked_at_before(
    place: Place,
) -> None:
    """So it takes no longer when a million have closed, whatever became of them."""
    said = {"id": "m1", "author": "bot", "text": OTHERS[0]}
    closed(place, 3)
    place.bot.decided("escalated", "m1", "let me talk to a human")
    place.bot.posted("/v1/conversations/escalated/close", {"resolution": "unknown"})
    place.bot.posted("/v1/conversations/unscored/messages", {"messages": [said]})
    place.bot.posted("/v1/conversations/unscored/close", {"resolution": "unknown"})
    now = time.time() + 60
    with place.service.baton.store.write() as connection:
        before = set(audit_rows.due_for_sampling(connection, place.name, now, 100))
        audit_tasks.draw_audits(connection, place.name, EVERYONE, now)
        after = audit_rows.due_for_sampling(connection, place.name, now, 100)
    assert before == {"c0", "c1", "c2", "unscored"}
    assert after == []


def test_a_conversation_that_opens_again_before_its_coins_fall_waits_for_its_next_end(
    place: Place,
) -> None:
    closed(place, 2)
    now = time.time() + 60
    with place.service.baton.store.read() as connection:
        ended = audit_tasks.due_for_sampling(connection, place.name, now)
    place.bot.decided("c0", "m2", OTHERS[2])
    with place.service.baton.store.write() as connection:
        assert audit_tasks.draw_audits(connection, place.name, EVERYONE, now, among=ended) == 1
    place.bot.posted("/v1/conversations/c0/close", {"resolution": "resolved"})
    assert tossed(place) == 1


def test_a_conversation_that_opens_again_and_ends_anew_is_drawn_again(place: Place) -> None:
    """By either draw, with the chance of both together; and what was found of its first end gives
    way to a review of the whole.
    """
    half = AuditBudget(uniform_share=0.5, targeted_share=0.0, double_share=0.0)
    closed(place, 30)
    first = tossed(place, half)
    answers = {}
    while (audit := offered(place)) is not None:
        answers[audit["conversation_id"]] = audit
        place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "fine"})
    assert len(answers) == first
    for n in range(30):
        place.bot.decided(f"c{n}", "m2", OTHERS[(n + 2) % len(OTHERS)])
        place.bot.posted(f"/v1/conversations/c{n}/close", {"resolution": "resolved"})
    assert first < tossed(place, half) < 30
    assert tossed(place, half) == 0
    other = place.named_agent("another")
    seen = {}
    while (audit := other.got("/v1/audits/next")["audit"]) is not None:
        seen[audit["conversation_id"]] = len(audit["transcript"])
        verdict = {"verdict": "missed" if len(seen) == 1 else "fine"}
        answer = other.posted(f"/v1/audits/{audit['id']}/outcome", verdict)
        assert answer["propensity"] == pytest.approx(0.75)
    assert set(answers) < set(seen)
    assert set(seen.values()) == {2}
    found = place.engineer.got("/v1/quality")["missed"]
    assert (found["audits_answered"], found["audits_found_missed"]) == (len(seen), 1)
