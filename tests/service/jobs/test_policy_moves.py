"""What `jobs` move in a policy by entries, and what endings teach."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.decision.policy import Policy
from service.jobs.policy_moves import (
    LOST_LAST,
    SCORES_MIN,
    PolicyMoves,
    offer_floor,
    price_of_waiting,
)
from service.outcomes import audit_tasks
from service.store.conversations.batch import Batch, StateCache
from service.store.labels import audit_rows
from service.store.reports.counts import PastScore
from tests.postgres import on_both
from tests.service_in_process import QUIET, InProcess, Place, serving

store_url = on_both()
NEVER_DRAWN = {"uniform_share": 0.0, "targeted_share": 0.0}


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("moves"), database=store_url) as running:
        yield running


def endings(place: Place) -> None:
    """One pass over what has ended, none of it drawn for an audit."""
    store, now = place.service.baton.store, time.time() + 10
    policy = Policy.model_validate(place.engineer.got("/v1/policy"))
    audits = policy.audits.model_copy(update=NEVER_DRAWN)
    with store.write() as connection:
        due = audit_tasks.due_for_sampling(connection, place.name, now)
        audit_tasks.draw_audits(connection, place.name, audits, now, among=due)
        batch = Batch(connection, StateCache())
        audit_tasks.learn_from_endings(batch, place.name, policy.resolved, due)
        batch.flush()


def offered(place: Place, name: str) -> dict[str, str]:
    """A conversation whose second message is an offer."""
    place.bot.decided(name, "m1", QUIET)
    place.offering()
    decision: dict[str, str] = place.bot.decided(name, "m2", QUIET)
    assert decision["action"] == "offer"
    return decision


def close(place: Place, name: str, resolution: str) -> None:
    place.bot.posted(f"/v1/conversations/{name}/close", {"resolution": resolution})


@pytest.mark.parametrize("answered", [True, False])
def test_an_offer_that_was_declined_or_ignored_teaches_that_nobody_was_needed(
    place: Place, answered: bool
) -> None:
    decision = offered(place, "c")
    if answered:
        path = f"/v1/decisions/{decision['decision_id']}/answer"
        place.bot.posted(path, {"accepted": False})
    close(place, "c", "unknown")
    endings(place)
    (entry,) = place.ledger()
    assert (entry["verdict"], entry["source"], entry["covers"]) == ("fine", "declined", 2)
    endings(place)
    assert len(place.ledger()) == 1


def test_a_later_verdict_replaces_what_a_decline_taught(place: Place) -> None:
    offered(place, "c")
    close(place, "c", "unknown")
    endings(place)
    place.agent.posted("/v1/conversations/c/outcome", {"verdict": "missed", "source": "complaint"})
    weak, given = place.ledger()
    assert (given["verdict"], given["source"]) == ("missed", "complaint")
    assert given["replaces"] is not None
    assert weak["source"] == "declined"


def test_a_decline_is_counted_in_no_rate(place: Place) -> None:
    offered(place, "c")
    close(place, "c", "unknown")
    before = place.engineer.got("/v1/quality")["missed"]["caught"]
    endings(place)
    quality = place.engineer.got("/v1/quality")
    assert quality["missed"]["caught"] == before == 0
    assert quality["missed"]["audits_answered"] == 0


def test_who_falls_silent_after_an_offer_has_ignored_it(place: Place) -> None:
    offered(place, "c")
    with place.service.baton.store.write() as connection:
        names = audit_rows.quiet_since(connection, place.name, 0.0, time.time() + 10, 10)
        assert names == ["c"]
        batch = Batch(connection, StateCache())
        assert audit_tasks.learn_from_quiet_declines(batch, place.name, names) == 1
        batch.flush()
        assert audit_tasks.learn_from_quiet_declines(batch, place.name, names) == 0
    assert [entry["source"] for entry in place.ledger()] == ["declined"]


@pytest.mark.parametrize("resolution, taught", [("resolved", 1), ("unknown", 0)])
def test_a_good_end_teaches_weakly_and_no_other_does(
    place: Place, resolution: str, taught: int
) -> None:
    place.bot.decided("c", "m1", QUIET)
    close(place, "c", resolution)
    endings(place)
    weights = [(entry["source"], entry["weight"]) for entry in place.ledger()]
    assert weights == [("resolved", 0.3)] * taught


def test_the_price_of_waiting_falls_with_outcomes_by_an_entry_of_jobs(place: Place) -> None:
    moves = PolicyMoves(place.service.baton.store)
    moves.move(place.name)
    assert len(place.ledger("policy")) == 1
    for number in range(10):
        place.bot.decided(f"c{number}", "m1", QUIET)
        place.agent.posted(
            f"/v1/conversations/c{number}/outcome", {"verdict": "fine", "source": "agent"}
        )
    moves.move(place.name)
    first, moved = place.ledger("policy")
    assert (first["lost"], moved["lost"]) == (1.0, price_of_waiting(10))
    moves.move(place.name)
    assert len(place.ledger("policy")) == 2


def test_the_price_of_waiting_falls_to_its_end_and_stays() -> None:
    prices = [price_of_waiting(n) for n in range(0, 2000, 10)]
    assert prices[0] == 1.0
    assert prices == sorted(prices, reverse=True)
    assert prices[-1] == LOST_LAST


@given(
    st.lists(
        st.builds(PastScore, st.floats(0, 1), st.booleans(), st.booleans()),
        min_size=SCORES_MIN,
        max_size=300,
    ),
    st.floats(0.01, 1),
)
def test_a_floor_leaves_no_more_offers_than_the_share_but_by_rules(
    scores: list[PastScore], share: float
) -> None:
    policy = Policy(lost=0.5)
    policy = policy.model_copy(
        update={"offers": policy.offers.model_copy(update={"share_max": share})}
    )
    guard = policy.offers.model_copy(update={"floor": offer_floor(scores, policy)})
    bars = policy.model_copy(update={"offers": guard}).thresholds
    by_rules = sum(one.by_rule for one in scores)
    by_model = sum(
        not first and not by_rule and bars.offer <= p < bars.escalate
        for p, first, by_rule in scores
    )
    assert by_model <= max(0, share * len(scores) - by_rules)
