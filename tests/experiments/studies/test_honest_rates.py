"""Through HTTP, with audits and late labels: the reported missed rate holds the true one."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from experiments.replay.client import BatonClient
from experiments.studies.simulated_rates import ServicePlan, ServiceRun
from learning.decision.policy import Policy
from service.outcomes import audit_tasks
from service.store.ledger import entries
from tests.service_in_process import InProcess, Place, serving

RUNS = 3


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("honest")) as running:
        yield running


def toss(place: Place) -> None:
    """What `jobs` do every two seconds, at once."""
    with place.service.baton.store.write() as connection:
        policy = Policy.model_validate(entries.newest_policy(connection, place.name))
        while audit_tasks.draw_audits(connection, place.name, policy.audits, time.time() + 60):
            pass


@pytest.mark.parametrize(
    "seed", [n if n == 0 else pytest.param(n, marks=pytest.mark.long) for n in range(RUNS)]
)
def test_every_look_holds_the_true_share_of_kept_conversations_that_needed_a_person(
    service: InProcess, seed: int
) -> None:
    """95 of 100 runs are promised; these are seeded ones in which it holds."""
    place = service.workspace()
    callers = {role: BatonClient(service.url, key) for role, key in place.keys.items()}
    looks = ServiceRun(
        ServicePlan(seed, conversations=160, every=20), callers, lambda: toss(place)
    ).play()
    for caller in callers.values():
        caller.__exit__(None, None, None)
    assert len(looks) > 5
    assert [look for look in looks if not look.covered] == []
    last = looks[-1]
    assert last.missed > 0, "nothing was missed, so nothing was shown"
    assert last.reported["kept_conversations"] == last.kept
    assert last.reported["caught"] > 0
    assert last.width_ratio <= 1.6
