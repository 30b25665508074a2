"""Versions in the registry: what identifies them, aliases, and what engineers did by hand."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest

from experiments.registry.descriptions import about_experiment
from experiments.registry.mlflow_client import RegistryRefused, RegistryUnavailable
from experiments.registry.registered_versions import Registry
from learning.decision.promotion_terms import CHALLENGERS_MAX
from learning.ledger import checkpoint
from learning.models.recipes import DEFAULT
from service.versions.mlflow.aliases import (
    ANCHOR,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    REFUSED_TAG,
)
from service.versions.mlflow.blocks import BLOCKED_TAG
from tests.registered import DIGEST, STATE, CutOff, publish, taught


def test_a_version_is_registered_with_all_that_identifies_it(registry, client):
    number = publish(registry, "identified", 3, parent=2, tags={"code.commit": "abc"})
    found = registry.get_version("identified", number)
    assert (found.version, found.position, found.recipe) == (3, 40, DEFAULT)
    assert found.digest == DIGEST
    assert found.tags["baton.parent"] == "2"
    assert found.tags["code.commit"] == "abc"
    shown = client.get_model_version("baton-identified", number)
    assert shown.description == (
        f"AUC 0.810, log loss 0.420: {DEFAULT} at ledger position 40; "
        "Baton's version 3, after version 2 (40 new entries)."
    )
    model = client.get_logged_model(shown.source.removeprefix("models:/"))
    measures = {m.key: (m.value, m.step) for m in model.metrics}
    assert measures == {"auc": (0.81, 40), "log_loss": (0.42, 40)}


def test_publishing_again_changes_nothing(registry, client):
    numbers = {publish(registry, "again") for _ in range(3)}
    assert len(numbers) == 1
    assert len(client.search_model_versions("name='baton-again'")) == 1
    experiment = client.get_experiment_by_name("baton/again").experiment_id
    assert len(client.search_logged_models([experiment])) == 1
    assert len(client.search_runs([experiment])) == 1


@pytest.mark.parametrize(
    "step", ["create_logged_model", "log_model_artifacts", "finalize_logged_model", "log_batch",
             "create_model_version"],
)  # fmt: skip
@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.long)])
def test_cut_off_at_any_step_and_asked_again_makes_one_version(mlflow_url, client, step, after):
    """The step is lost before it reached MLflow, or its answer is, after it was done."""
    workspace = f"cut-{step.replace('_', '-')}-{after}".lower()
    registry = Registry(mlflow_url)
    registry._client = CutOff(mlflow_url, step, after)
    with pytest.raises(RegistryUnavailable):
        publish(registry, workspace)
    number = publish(Registry(mlflow_url), workspace)
    assert number == "1"
    assert len(client.search_model_versions(f"name='baton-{workspace}'")) == 1
    experiment = client.get_experiment_by_name(f"baton/{workspace}").experiment_id
    assert [str(m.status) for m in client.search_logged_models([experiment])] == ["READY"]
    assert Registry(mlflow_url).state(workspace, number) == STATE


def test_another_database_with_the_same_version_number_is_another_version(registry):
    ours = publish(registry, "reborn")
    other = taught(outcomes=7)
    theirs = publish(
        registry, "reborn", state=checkpoint.dump(other), digest=checkpoint.digest(other)
    )
    assert ours != theirs
    assert publish(registry, "reborn") == ours


def test_the_state_comes_back_as_it_was(registry):
    number = publish(registry, "kept")
    back = registry.state("kept", number)
    assert back == STATE
    assert checkpoint.digest(checkpoint.load(back)) == DIGEST


def test_aliases_say_where_they_stand(registry):
    assert registry.aliases("nobody") == {}
    first = publish(registry, "named", 1)
    second = publish(registry, "named", 2)
    registry.set_alias("named", "champion", first)
    registry.set_alias("named", "previous", first)
    registry.set_alias("named", "champion", second)
    assert registry.aliases("named") == {"champion": second, "previous": first}
    assert registry.aliases("named").get("champion") == second
    assert registry.aliases("named").get("challenger-1") is None
    registry.drop_alias("named", "previous")
    registry.drop_alias("named", "previous")
    assert registry.aliases("named") == {"champion": second}


def test_what_cannot_be_is_refused_and_not_asked_again(registry):
    publish(registry, "refused")
    with pytest.raises(RegistryRefused):
        registry.set_alias("refused", "champion", "77")
    assert registry.get_version("refused", "77") is None
    assert registry.get_version("nobody", "1") is None


def test_a_version_made_by_hand_in_mlflow_is_told_from_batons_own(registry, client):
    number = publish(registry, "by-hand")
    source = client.get_model_version("baton-by-hand", number).source
    model_id = source.removeprefix("models:/")
    made = client.create_model_version("baton-by-hand", source, model_id=model_id)
    assert registry.get_version("by-hand", made.version).version is None


def test_a_refusal_can_be_explained_on_the_version(registry):
    number = publish(registry, "told")
    registry.tag("told", number, "baton.refused", "the digest does not match")
    assert registry.get_version("told", number).tags["baton.refused"] == "the digest does not match"


def test_workspaces_are_apart(registry):
    publish(registry, "left", 5)
    number = publish(registry, "right", 9)
    assert registry.get_version("right", number).version == 9
    assert registry.aliases("left") == {}


def test_an_experiment_that_an_engineer_deleted_is_restored(registry, client):
    publish(registry, "deleted", 1)
    client.delete_experiment(client.get_experiment_by_name("baton/deleted").experiment_id)
    publish(registry, "deleted", 2)
    assert client.get_experiment_by_name("baton/deleted").lifecycle_stage == "active"


def test_the_experiment_explains_itself(registry, client):
    publish(registry, "explained")
    tags = client.get_experiment_by_name("baton/explained").tags
    assert "models:/baton-explained@champion" in tags["mlflow.note.content"]
    assert "explained" in client.get_registered_model("baton-explained").description


def test_the_engineers_readme_names_every_alias_and_tag_that_asks_or_answers():
    text = about_experiment("explained")
    for alias in (CHAMPION, PREVIOUS, ANCHOR, *(f"{CHALLENGER}{n}" for n in (1, CHALLENGERS_MAX))):
        assert f"`{alias}`" in text
    for tag in (REFUSED_TAG, BLOCKED_TAG):
        assert f"`{tag}`" in text
    assert "`baton-explained`" in text
    assert "WORKSPACE" not in text


def test_descriptions_tell_what_is_the_case_unless_an_engineer_wrote_them(registry, client):
    publish(registry, "telling")

    def read() -> tuple[str, str]:
        tags = client.get_experiment_by_name("baton/telling").tags
        return tags["mlflow.note.content"], client.get_registered_model("baton-telling").description

    registry.describe("telling", "# The line of version 1 serves")
    registry.describe("telling", "# The line of version 2 serves")
    readme, about = read()
    assert readme.startswith("# The line of version 2 serves\n")
    assert "models:/baton-telling@champion" in readme
    assert about.startswith("# The line of version 2 serves\n")
    client.update_registered_model("baton-telling", "ours")
    experiment = client.get_experiment_by_name("baton/telling").experiment_id
    client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    registry.describe("telling", "# The line of version 3 serves")
    assert read() == ("mine", "ours")
