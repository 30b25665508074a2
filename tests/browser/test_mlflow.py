"""An engineer in MLflow's own pages, with a real browser: what is moved there serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from experiments.registry.registered_versions import Registry
from experiments.replay.client import path_of
from service.versions.mlflow.aliases import REFUSED_TAG
from tests.browser.chromium import chromium
from tests.browser.mlflow_pages import mlflow_page
from tests.desk import Desk, desks
from tests.running import Client, installation, teach, until
from tests.service_in_process import InProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with desks(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def desk(service: InProcess, mlflow_url: str) -> Desk:
    """Three published versions of one line: untrained, after 5 outcomes, after 10."""
    desk = Desk(service, mlflow_url)
    for _ in range(2):
        desk.teach(5)
        desk.save()
    desk.publish()
    assert desk.aliases()["champion"] == desk.number(3)
    return desk


def moved(browser: Browser, url: str, workspace: str, number: str) -> None:
    """Give a version the alias `champion` in MLflow's page."""
    page = mlflow_page(browser)
    page.goto(f"{url}/#/models/baton-{workspace}/versions/{number}")
    page.get_by_text(f"Version {number}", exact=True).first.wait_for()
    page.get_by_role("button", name="Add", exact=True).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill("champion")
    dialog.get_by_role("combobox").press("Enter")
    dialog.get_by_role("button", name="Save aliases").click()
    dialog.wait_for(state="hidden")
    page.close()


@pytest.mark.long
def test_moving_champion_in_mlflow_changes_what_serves(
    mlflow_url: str, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With real processes, and jobs that look as often as they do by default."""
    given = {"checkpoint_seconds": 0.5, "checkpoint_entries": 10, "mlflow_url": mlflow_url}
    registry = Registry(mlflow_url)
    with installation(tmp_path_factory.mktemp("moved"), **given) as home:
        service = home.serve()
        home.jobs()
        place = home.workspace("moved", service)
        with place.caller("engineer", service) as client:
            for number in range(22):
                teach(client, f"c{number}", number)
                if number == 10:
                    until(lambda: len(_published(client)) == 2, "a checkpoint")
            second = _published(client)[1]
            until(lambda: len(_published(client)) == 3, "another")
            until(lambda: registry.aliases("moved")["champion"] != second, "it has the alias")
            before = client.standing
            moved(browser, mlflow_url, "moved", second)
            until(lambda: client.standing["switch"] != before["switch"], "it serves")
            now = client.standing
            assert (now["version"], now["switch"]) == (2, before["position"] + 1)
            newest = client.get("/v1/versions")["moves"][0]
            assert (newest["what"], newest["version"], newest["actor"]) == ("rollback", 2, "mlflow")
            assert newest["reason"] == f"alias champion moved to MLflow version {second}"
            decided = client.score("after", "m1", "where is my parcel?")["decision_id"]
            came = client.get(path_of("decisions", decided))["serving"]
            assert (came["version"], came["actor"], came["switch"]) == (2, "mlflow", now["switch"])


def _published(client: Client) -> list[str]:
    """MLflow's numbers, by Baton's."""
    rows = reversed(client.get("/v1/versions")["versions"])
    return [row["registry_version"] for row in rows if row["registry_version"]]


def test_a_refused_move_is_put_back_and_the_page_says_why(
    desk: Desk, mlflow_url: str, browser: Browser
) -> None:
    name, second = f"baton-{desk.place.name}", desk.number(2)
    desk.place.engineer.posted("/v1/versions/2/block", {"reason": "it learned forged labels"})
    before = desk.standing
    moved(browser, mlflow_url, desk.place.name, second)
    desk.publish()
    assert desk.aliases()["champion"] == desk.number(3)
    assert desk.standing == before
    page = mlflow_page(browser)
    page.goto(f"{mlflow_url}/#/models/{name}/versions/{second}")
    page.get_by_text("version 2 is blocked: it learned forged labels").first.wait_for()
    page.close()
    newest = desk.moves[0]
    assert (newest["what"], newest["version"], newest["actor"]) == ("refused", 2, "mlflow")

    desk.place.engineer.delete("/v1/versions/2/block")
    moved(browser, mlflow_url, desk.place.name, second)
    desk.publish()
    assert desk.standing["version"] == 2


def test_versions_that_baton_did_not_publish_so_are_put_back(desk: Desk) -> None:
    mlflow, name = desk.registry._client, f"baton-{desk.place.name}"
    source = mlflow.get_model_version(name, desk.number(3)).source
    foreign = mlflow.create_model_version(name, source, model_id=source.removeprefix("models:/"))
    mlflow.set_model_version_tag(name, desk.number(1), "baton.digest", "0" * 64)
    mlflow.set_model_version_tag(name, desk.number(2), "baton.blocked", "by ann, in MLflow")
    before = desk.standing
    for number, why in (
        (foreign.version, "not one that Baton published"),
        (desk.number(1), "is not the digest of version 1"),
        (desk.number(2), "blocked: by ann, in MLflow"),
    ):
        desk.registry.set_alias(desk.place.name, "champion", number)
        desk.publish()
        assert desk.aliases()["champion"] == desk.number(3)
        found = desk.registry.get_version(desk.place.name, number)
        assert found is not None
        assert why in found.tags[REFUSED_TAG]
        assert (desk.moves[0]["what"], desk.moves[0]["registry_version"]) == ("refused", number)
        assert why in desk.moves[0]["reason"]
    assert desk.standing == before
    assert len(desk.moves) == 4


@pytest.mark.long
def test_aliases_that_only_follow_are_put_back_and_the_version_says_why(desk: Desk) -> None:
    before = desk.aliases()
    for name in ("anchor", "challenger-2"):
        desk.registry.set_alias(desk.place.name, name, desk.number(2))
        desk.publish()
        assert desk.aliases() == before
        found = desk.registry.get_version(desk.place.name, desk.number(2))
        assert found is not None
        assert f"the alias {name} only follows the ledger" in found.tags[REFUSED_TAG]
        newest = desk.moves[0]
        assert (newest["what"], newest["version"], newest["alias"]) == ("refused", 2, name)
    moves = len(desk.moves)
    desk.registry.drop_alias(desk.place.name, "anchor")
    desk.publish()
    desk.place.engineer.posted("/v1/challengers", {"reason": "to see", "version": 2})
    desk.upkeep.build_challengers()
    desk.publish()
    assert desk.aliases() == before | {"challenger-1": desk.number(2)}
    challenger = desk.place.engineer.got("/v1/versions")["challengers"][0]["id"]
    desk.place.engineer.delete(f"/v1/challengers/{challenger}")
    desk.publish()
    assert desk.aliases() == before
    assert len(desk.moves) == moves, "what Baton does itself is nobody's request"


@pytest.mark.long
def test_a_move_made_while_the_jobs_were_down_is_told_from_an_alias_that_only_lags(
    desk: Desk, mlflow_url: str, browser: Browser
) -> None:
    switch = desk.place.engineer.posted("/v1/versions/1/promote")["switch"]
    desk.publish()
    assert desk.standing["switch"] == switch
    found = desk.aliases()
    assert (found["champion"], found["anchor"]) == (desk.number(1), desk.number(1))
    assert found["previous"] == desk.number(3)

    moved(browser, mlflow_url, desk.place.name, desk.number(2))
    desk.teach(3)
    desk.save()
    desk.publish()
    assert desk.standing["switch"] == switch + 4
    assert (desk.standing["version"], desk.moves[0]["actor"]) == (2, "mlflow")
    desk.publish()
    assert desk.aliases()["champion"] == desk.number(2)
    assert desk.standing["switch"] == switch + 4
