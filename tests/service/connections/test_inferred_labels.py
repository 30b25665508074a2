"""What events suggest teaches nothing until enough people have stated the same of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from learning.estimation import inferred_labels
from service.outcomes.inferred_labels import InferredLabels
from tests.connected import Connected, connected_chatwoot
from tests.far_sides.chatwoot import FakeChatwoot
from tests.far_sides.http_side import serving_side
from tests.service_in_process import ASKS, QUIET, InProcess, Place, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("inferred")) as running:
        yield running


@pytest.fixture
def far() -> Iterator[FakeChatwoot]:
    with serving_side(FakeChatwoot()) as running:
        yield running


@pytest.fixture
def desk(place: Place, far: FakeChatwoot) -> Connected:
    return connected_chatwoot(place, far)


def kinds(place: Place) -> dict[str, dict[str, Any]]:
    rows = place.engineer.got("/v1/quality")["inferred"]
    return {row["kind"]: row for row in rows}


def returned(far: FakeChatwoot, number: int) -> None:
    """Handed over, and given back without a word."""
    far.customer(number, QUIET)
    far.set_status(number, "open")
    far.set_status(number, "pending")


def test_each_kind_is_noted_where_it_happens(far: FakeChatwoot, desk: Connected) -> None:
    returned(far, 1)
    far.customer(2, QUIET)
    far.person(2, "Hello, this is Ana")
    far.customer(2, "thank you Ana")
    far.customer(2, "one more thing")
    for number, rating in ((3, 1), (4, 5), (5, 3)):
        far.customer(number, QUIET)
        survey = {"csat_survey_response": {"rating": rating, "feedback_message": ""}}
        far.deliver(
            far.conversation(number).messages[-1]
            | {
                "event": "message_updated",
                "content_type": "input_csat",
                "content_attributes": {"submitted_values": survey},
            }
        )
    far.customer(6, ASKS)
    far.person(6, "I am here")
    far.set_status(6, "open")
    far.set_status(6, "pending")
    desk.settled()
    found = kinds(desk.place)
    assert {name: row["inferred"] for name, row in found.items()} == {
        "returned": 1,
        "stepped_in": 1,
        "rated_low": 1,
        "rated_high": 1,
    }
    assert {row["label"] for row in found.values()} == {None}
    assert desk.refused() == []


def test_a_kind_teaches_its_measured_share_and_a_statement_stands_over_it(
    service: InProcess, far: FakeChatwoot, desk: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inferred_labels, "PAIRS_MIN", 4)
    jobs, place = InferredLabels(service.baton.store), desk.place
    for number in range(1, 7):
        returned(far, number)
    for number, verdict in ((1, "needed"), (2, "not needed"), (3, "not needed")):
        far.note(number, f"/baton {verdict}")
    desk.settled()
    jobs.learn()
    assert [body["source"] for body in place.ledger()] == ["agent"] * 3, "three are too few"
    far.note(4, "/baton not needed")
    desk.settled()
    jobs.learn()
    jobs.learn()
    taught = [body for body in place.ledger() if body["source"] == "observed"]
    assert [body["labels"] for body in taught] == [[[1, 0.25, 1.0]]] * 2
    found = kinds(place)["returned"]
    assert (found["pairs"], found["agreement"]["count"], found["label"]) == (4, 3, 0.25)
    assert found["taught"] == 2
    counted = place.engineer.got("/v1/quality")["handoffs"]["outcomes"]
    assert (counted["needed"], counted["not_needed"]) == (1, 3), "it counts in no rate"
    far.note(5, "/baton needed")
    desk.settled()
    jobs.learn()
    outcomes = desk.transcript(5)["outcomes"]
    standing = [o["source"] for o in outcomes if o["retracted_at"] is None]
    assert standing == ["agent"], "what was stated stands over what was observed"
