"""What an engineer sees in MLflow when a story has ended: `python -m tests.browser.stories FOLDER`.

The stories of `tests/service/versions/test_stories.py` with the default recipe, played through a
service against a real MLflow; of each its experiment, its last run with figures, its model with
aliases, and the version that serves, as pictures to be looked at.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from experiments.registry.registered_versions import Registry
from experiments.simulation.world import Drift
from learning.models.recipes import DEFAULT
from tests.browser.chromium import chromium
from tests.browser.mlflow_pages import mlflow_page
from tests.mlflow_server import running_mlflow
from tests.service.versions.test_stories import SLOW, Story, opposite
from tests.service_in_process import InProcess, serving
from tests.town import forged

SETTLED_MS = 4000
"""MLflow's pages fetch and draw for so long."""

Begin = Callable[..., Story]


def better(begin: Begin) -> Story:
    story = begin(recipe=SLOW)
    story.town.play(60)
    asked = {"recipe": DEFAULT, "reason": "it learned faster elsewhere"}
    story.place.engineer.posted("/v1/challengers", asked)
    story.upkeep.build_challengers()
    return _evaluated(story, 8, 50)


def changed(begin: Begin) -> Story:
    change = (Drift("base_rate", 400, 6.0), Drift("new_product", 400))
    story = begin(base_rate=0.12, drifts=change)
    for count in (400, 200):
        story.town.play(count)
        story.evaluated()
        story.publish()
    story.upkeep.build_challengers()
    return _evaluated(story, 2, 40)


def bad(begin: Begin) -> Story:
    story = begin()
    story.town.play(250)
    story.evaluated()
    number = opposite(story)
    path = f"/v1/versions/{number}/promote"
    story.place.engineer.posted(path, {"reason": "it looked good"})
    return _evaluated(_evaluated(story, 5, 30), 2, 30)


def repaired(begin: Begin) -> Story:
    story = begin()
    made = {"role": "engineer", "name": "mallory"}
    mallory = story.place.service.caller(story.place.admin.posted("/v1/keys", made)["key"])
    story.town.play(150)
    story.save()
    story.evaluated()
    story.town.play(60, told=forged, by=mallory)
    asked = {"reason": "mallory forges", "without": {"agent": "mallory"}}
    story.place.engineer.posted("/v1/rollback", asked)
    story.publish()
    story.upkeep.build_challengers()
    story = _evaluated(story, 2, 30)
    (challenger,) = story.place.engineer.got("/v1/versions")["challengers"]
    path = f"/v1/versions/{challenger['version']}/promote"
    story.place.engineer.posted(path, {"reason": "the exact repair"})
    return _evaluated(story, 1, 30)


def _evaluated(story: Story, looks: int, between: int) -> Story:
    for _ in range(looks):
        story.town.play(between)
        report = story.evaluated()
        story.publish()
        if report.verdict != "keep":
            break
    story.publish()
    return story


STORIES = {"better": better, "changed": changed, "bad": bad, "repaired": repaired}


def taken(
    browser: Browser, url: str, path: Path, height: int = 1000, *, whole: bool = False
) -> None:
    page = mlflow_page(browser, height=height)
    page.goto(url)
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=path, full_page=whole)
    page.close()
    sys.stderr.write(f"{path}: {path.stat().st_size // 1024} KiB\n")


def looked_at(browser: Browser, url: str, story: Story, folder: Path) -> None:
    """Take all pages of a story's end."""
    name, run = story.place.name, _turning(story)
    experiment, model = run.info.experiment_id, f"baton-{name}"
    serving = story.registry.aliases(name)["champion"]
    here = f"{url}/#/experiments/{experiment}"
    for what, where, height in (
        ("experiment", f"{here}/runs", 1000),
        ("run", f"{here}/runs/{run.info.run_id}", 1400),
        ("measures", f"{here}/runs/{run.info.run_id}/model-metrics", 1400),
        ("figures", f"{here}/runs/{run.info.run_id}/artifacts/figures.html", 2600),
        ("model", f"{url}/#/models/{model}", 1500),
        ("version", f"{url}/#/models/{model}/versions/{serving}", 1400),
    ):
        taken(browser, where, folder / f"{name}-{what}.png", height)

    with tempfile.TemporaryDirectory() as kept:
        where = story.registry._client.download_artifacts(run.info.run_id, "figures.html", kept)
        taken(browser, f"file://{where}", folder / f"{name}-figures-whole.png", whole=True)


def _turning(story: Story) -> Any:
    """The newest run that did something, or the last."""
    last = story.run()
    found = story.registry._client.search_runs(
        [last.info.experiment_id],
        "tags.`baton.verdict` != 'keep'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return found[0] if found else last


def main(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        running_mlflow(Path(home) / "mlflow") as url,
        serving(Path(home) / "baton") as service,
        chromium() as browser,
    ):
        for name in names or STORIES:
            story = STORIES[name](beginning(service, url, name))
            looked_at(browser, url, story, folder)


def beginning(service: InProcess, url: str, name: str) -> Begin:
    """Begins a story in a workspace of this name."""

    def begin(recipe: str = DEFAULT, **settings: object) -> Story:
        return Story(service, Registry(url), recipe, name, **settings)

    return begin


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
