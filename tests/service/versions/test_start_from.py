"""A workspace that starts from another begins with what that one knows, and never changes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.simulation.world import World, WorldSettings
from learning.conversation.state import EMPTY, step
from learning.ledger import checkpoint
from learning.ledger.model_state import ModelState
from learning.measures.scores import measures
from learning.models.recipes import DEFAULT
from service.cli import app
from service.jobs.maintenance import Maintenance
from service.store.ledger import version_rows
from service.versions.mlflow.export_version import export_version, import_version
from service.versions.model_lines import rebuild
from service.versions.restore import restore
from tests.postgres import on_both
from tests.service_in_process import InProcess, Place, refusal, serving
from tests.town import Town

store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("start"), database=store_url) as running:
        yield running


@pytest.fixture(scope="module")
def donor(service: InProcess) -> Place:
    """A workspace that has learned, and shares it."""
    place = service.workspace("shadow", DEFAULT, "donor")
    Town(place, seed=1, base_rate=0.4).play(40)
    place.policy(shareable=True)
    return place


def started(service: InProcess, name: str, **more: Any) -> Place:
    admin = service.caller(service.keys["admin"])
    body = {"id": name, "mode": "shadow", "start_from": "donor"} | more
    return Place(service, name, admin.posted("/v1/workspaces", body)["keys"])


def standing(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = place.engineer.got("/v1/standing")
    return found


def log_loss(state: ModelState) -> float:
    """Of every customer's message of sixty new conversations, by the truth."""
    world, probabilities, labels = World(7, WorldSettings(base_rate=0.4)), [], []
    for number in range(60):
        conversation = world.conversation(number)
        turns, folded = conversation.next(), EMPTY
        while not conversation.ended:
            for turn in turns:
                folded = step(folded, turn)
                if turn.id in conversation.labels:
                    probabilities.append(state.score(folded).probability)
                    labels.append(float(conversation.labels[turn.id]))
            turns = conversation.next()
    return measures(probabilities, labels)["log_loss"]


def test_it_knows_from_its_first_message_on_what_the_donor_knows(
    service: InProcess, donor: Place
) -> None:
    fresh, cold = started(service, "fresh"), service.workspace("shadow", DEFAULT)
    losses = [log_loss(restore(service.baton.store, one.name)) for one in (donor, fresh, cold)]
    assert losses[1] < 0.5 * losses[2], losses
    assert losses[1] < losses[0] + 0.1, losses


def test_the_recipe_names_the_donors_digest_and_the_first_switch_what_was_taken(
    service: InProcess, donor: Place
) -> None:
    digest = standing(donor)["digest"]
    place = started(service, "named")
    assert standing(place)["recipe"] == f"{DEFAULT}?donor={digest[:16]}"
    (switch,) = place.ledger("switch")
    assert switch["evidence"]["start_from"] == "donor"
    assert switch["evidence"]["digest"] == digest


def test_the_donor_never_changes_while_both_learn_on(service: InProcess, donor: Place) -> None:
    place = started(service, "both")
    store = service.baton.store
    frozen = restore(store, "both").model.donor_weights.copy()  # type: ignore[attr-defined]
    Town(donor, seed=2).play(5)
    Town(place, seed=3).play(12)
    state = restore(store, "both")
    assert (state.model.donor_weights == frozen).all()  # type: ignore[attr-defined]
    assert checkpoint.digest(state) == standing(place)["digest"]


def test_it_is_learned_anew_to_the_bit_and_exported_with_its_donor(
    service: InProcess, donor: Place, tmp_path: Path
) -> None:
    place = started(service, "anew")
    Town(place, seed=4).play(10)
    store, digest = service.baton.store, standing(place)["digest"]
    again = rebuild(store, "anew", standing(place)["recipe"], restore(store, "anew").without)
    assert checkpoint.digest(again) == digest
    jobs = Maintenance(store, service.baton.settings)
    number = jobs.save("anew", jobs._lines.champion("anew"))
    export_version(store, "anew", number, tmp_path / "version")
    other = service.workspace("shadow", DEFAULT)
    imported = import_version(store, other.name, tmp_path / "version", "me")
    with store.read() as connection:
        data = version_rows.state(connection, other.name, imported["version"])
    assert data is not None
    weights = checkpoint.load(data).model.donor_weights  # type: ignore[attr-defined]
    assert (weights == again.model.donor_weights).all()  # type: ignore[attr-defined]


def test_the_same_request_again_is_one_workspace_though_the_donor_has_learned_on(
    service: InProcess, donor: Place
) -> None:
    keys = started(service, "twice").keys
    Town(donor, seed=5).play(3)
    assert started(service, "twice").keys == keys
    admin = service.caller(service.keys["admin"])
    plain = service.workspace("shadow", DEFAULT)
    body = {"id": plain.name, "mode": "shadow", "start_from": "donor"}
    refusal(admin.post("/v1/workspaces", json=body), 409, "workspace_exists")


def test_only_what_is_shared_may_be_started_from_and_only_by_the_installation(
    service: InProcess, donor: Place
) -> None:
    admin = service.caller(service.keys["admin"])
    service.workspace("shadow", DEFAULT, "private")
    body = {"id": "taker", "mode": "shadow", "start_from": "private"}
    assert refusal(admin.post("/v1/workspaces", json=body), 409, "not_shareable")["hint"]
    refusal(donor.admin.post("/v1/workspaces", json=body | {"start_from": "donor"}), 403)
    refusal(admin.post("/v1/workspaces", json=body | {"start_from": "nowhere"}), 404)
    refusal(admin.post("/v1/workspaces", json=body | {"recipe": "bayes-4"}), 422)


def test_a_donor_cannot_be_named_where_its_weights_are_not(
    service: InProcess, donor: Place
) -> None:
    recipe = f"{DEFAULT}?donor=0123456789abcdef"
    admin = service.caller(service.keys["admin"])
    refusal(admin.post("/v1/workspaces", json={"id": "x", "recipe": recipe}), 422)
    asked = donor.engineer.post("/v1/challengers", json={"reason": "?", "recipe": recipe})
    refusal(asked, 422, "unknown_recipe")


def test_the_command_does_the_same(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        place = service.workspace("shadow", "bayes-4", "shop")
        Town(place, seed=1).play(3)
        words = ["start-from", "shop", "--workspace", "new", "--home", str(tmp_path), "--json"]
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == 1
        assert "does not share" in refused.output
        place.policy(shareable=True)
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        digest = standing(place)["digest"]
        assert restore(service.baton.store, "new").recipe == f"{DEFAULT}?donor={digest[:16]}"
