"""A process keeps so many models in memory as it may; the others' workspaces are served alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.jobs.maintenance import Maintenance
from service.runtime.settings import Settings
from tests.postgres import on_both
from tests.service_in_process import OTHERS, InProcess, Place, serving

MOST = 2
store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("models")
    with serving(home, database=store_url, models_max=MOST) as running:
        yield running


@pytest.fixture(scope="module")
def places(service: InProcess) -> list[Place]:
    """Five workspaces, each of which has learned something else."""
    made = [service.workspace(mode="shadow") for _ in range(5)]
    for n, place in enumerate(made):
        for outcome in range(n + 1):
            name = f"c{outcome}"
            place.bot.decided(name, "m", OTHERS[outcome % len(OTHERS)])
            place.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": "missed"})
    return made


def held(service: InProcess) -> int:
    return len(service.baton.engine._live_models._models)


def test_every_workspace_is_served_by_its_own_model_though_few_are_held(
    service: InProcess, places: list[Place]
) -> None:
    standing = [place.engineer.got("/v1/standing") for place in places]
    assert len({one["digest"] for one in standing}) == len(places)
    for _ in range(3):
        for place, before in zip(places, standing, strict=True):
            assert place.engineer.got("/v1/standing") == before
            assert held(service) <= MOST


def test_requests_to_more_workspaces_than_are_held_are_all_answered_at_once(
    service: InProcess, places: list[Place]
) -> None:
    def ask(number: int) -> int:
        place = places[number % len(places)]
        sent = {"conversation_id": f"q{number}", "message": {"id": "m", "text": OTHERS[0]}}
        for _ in range(20):
            answer = place.bot.post("/v1/score", json=sent)
            if answer.status_code != 503:
                break
        return int(answer.status_code)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(60))) == {200}
    assert held(service) <= MOST


def test_a_workspace_that_was_put_aside_has_learned_what_came_meanwhile(
    service: InProcess, places: list[Place]
) -> None:
    first = places[0]
    conversation = "later"
    first.bot.decided(conversation, "m", "the parcel is lost and nobody answers me")
    for place in places[1:]:
        place.engineer.got("/v1/standing")
    told = first.bot.posted(f"/v1/conversations/{conversation}/outcome", {"verdict": "missed"})
    assert first.engineer.got("/v1/standing")["position"] == told["position"]


def test_jobs_hold_no_more_models_and_save_a_checkpoint_of_every_workspace(
    service: InProcess, places: list[Place]
) -> None:
    store = service.baton.store
    upkeep = Maintenance(store, Settings(models_max=MOST, checkpoint_entries=1))
    upkeep.checkpoint()
    assert len(upkeep._lines._champions) == MOST
    for place in places:
        standing = place.engineer.got("/v1/standing")
        versions = place.engineer.got("/v1/versions")["versions"]
        assert standing["position"] in {one["position"] for one in versions}
