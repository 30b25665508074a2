"""A challenger is followed, audited where it would decide otherwise, and never promoted unasked."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from learning.audit import DISAGREEMENT
from learning.promotion import gains
from learning.window import Scores
from service import versions
from service.audits import SETTLED_SECONDS
from service.challengers import OPENED
from service.standing import stand
from service.store import ledger
from service.upkeep import Upkeep
from tests.service_in_process import InProcess, Place, serving

KEEPING = {"uniform_share": 0.0, "targeted_share": 0.02, "double_share": 0.0}
BUDGET = {"per_day": 10_000, "per_reviewer_per_day": 10_000}


def scores(*rows: tuple[int, float, float]) -> Scores:
    position, probability, label = zip(*rows, strict=True)
    weight = np.ones(len(rows))
    at = np.array(position, np.int64)
    return Scores(at, np.array(probability), np.array(label), weight, at)


def test_what_a_challenger_saves_is_told_by_conversation() -> None:
    """Handed over by the highest of its lessons; only where the two differ is anything saved."""
    champion = scores((1, 0.1, 0), (1, 0.2, 1), (2, 0.9, 0), (3, 0.9, 1), (4, 0.1, 0))
    challenger = scores((1, 0.1, 0), (1, 0.8, 1), (2, 0.2, 0), (3, 0.7, 1), (4, 0.6, 0))
    assert gains(champion, challenger, 0.5, unneeded=1.0, missed=4.0) == [
        (1, 4.0),
        (2, 1.0),
        (3, 0.0),
        (4, -1.0),
    ]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("challengers")) as running:
        yield running


def taught(place: Place, label: float, count: int) -> None:
    place.policy(
        costs={"unneeded": 1.0, "missed": 1.0, "ask": 1e6},
        audits=KEEPING | BUDGET | {"offered_seconds": 1800},
    )
    for n in range(count):
        place.bot.decided(f"t{n}", "m1", "my kettle leaks")
        body = {"labels": [{"message_id": "m1", "label": label}]}
        place.engineer.posted(f"/v1/conversations/t{n}/outcome", body)


def test_disagreement_is_audited_by_half_and_proves_the_better_one(service: InProcess) -> None:
    """The champion was taught that leaks need nobody, the challenger that they do, and they do."""
    place, other = service.workspace(mode="shadow"), service.workspace(mode="shadow")
    taught(place, 0.0, 80)
    taught(other, 1.0, 80)
    store = service.baton.store
    challenger = stand(store, other.name)
    with store.write() as connection:
        challenger.position = ledger.lock_head(connection, place.name)
        number = versions.keep(connection, place.name, challenger, line=0, reason=OPENED + "a test")
    for n in range(80):
        place.bot.decided(f"c{n}", "m1", "my kettle leaks")
        place.bot.posted(f"/v1/conversations/c{n}/close", {"resolution": "resolved"})
    time.sleep(SETTLED_SECONDS + 0.1)
    upkeep = Upkeep(store, service.baton.settings)
    upkeep.audit()
    reviewed = 0
    while (audit := place.agent.got("/v1/audits/next")["audit"]) is not None:
        body = {"verdict": "missed", "first_needed_message_id": "m1"}
        answer = place.agent.posted(f"/v1/audits/{audit['id']}/outcome", body)
        assert answer["propensity"] >= DISAGREEMENT
        reviewed += 1
    assert 20 <= reviewed <= 60
    upkeep.evaluate_one(place.name)
    found = place.engineer.got("/v1/quality")["drift"]["challenger"]
    assert (found["version"], found["judged_conversations"]) == (number, reviewed)
    assert found["saves_at_least"] > -1
    assert len(place.ledger("switch")) == 1, "nobody promoted it"
    upkeep.evaluate_one(place.name)
    assert place.engineer.got("/v1/quality")["drift"]["challenger"] == found, "counted once"
    place.engineer.posted(f"/v1/versions/{number}/promote", {"reason": "it is better"})
    upkeep.evaluate_one(place.name)
    assert place.engineer.got("/v1/quality")["drift"].get("challenger") is None
