"""A version that is blocked in Baton or in MLflow is blocked in both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from experiments.registry.registered_versions import Registry
from service.store.ledger import mlflow_rows, version_rows
from service.versions.mlflow.blocks import BLOCKED_TAG
from service.versions.mlflow.publish_version import MlflowPublisher
from tests.service_in_process import InProcess, Place, refusal, serving

PROMOTE = "/v1/versions/1/promote"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


class Blocks:
    """A workspace whose first version is published, and its block in both places."""

    def __init__(self, place: Place, registry: Registry) -> None:
        self.place, self.registry = place, registry
        self.store = place.service.baton.store
        self._publisher = MlflowPublisher(self.store, registry)
        self.publish()

    def publish(self) -> None:
        self._publisher.publish(self.place.name)

    @property
    def number(self) -> str:
        with self.store.read() as connection:
            (number,) = version_rows.published(connection, self.place.name)
        return number

    def tag(self, why: str | None) -> None:
        """What an engineer does in MLflow."""
        if why is None:
            self.registry.drop_tag(self.place.name, self.number, BLOCKED_TAG)
        else:
            self.registry.tag(self.place.name, self.number, BLOCKED_TAG, why)

    def seen(self) -> tuple[str | None, str | None]:
        """Why it is blocked: by Baton's word, and by MLflow's."""
        (row,) = self.place.engineer.got("/v1/versions")["versions"]
        return row["blocked"], self.registry.tagged(self.place.name, BLOCKED_TAG).get(self.number)


@pytest.fixture
def blocks(place: Place, registry: Registry) -> Blocks:
    return Blocks(place, registry)


def test_a_block_made_or_lifted_in_baton_is_seen_in_mlflow(blocks: Blocks) -> None:
    engineer = blocks.place.engineer
    engineer.posted("/v1/versions/1/block", {"reason": "forged labels"})
    blocks.publish()
    why, tag = blocks.seen()
    assert why is not None
    assert why.startswith("forged labels")
    assert tag == why
    assert engineer.delete("/v1/versions/1/block").status_code == 200
    blocks.publish()
    assert blocks.seen() == (None, None)


def test_a_block_made_or_lifted_in_mlflow_holds_for_everybody(blocks: Blocks) -> None:
    blocks.tag("by ann, in MLflow")
    for _ in range(2):
        blocks.publish()
        assert blocks.seen() == ("by ann, in MLflow", "by ann, in MLflow")
    said = refusal(blocks.place.engineer.post(PROMOTE, json={}), 409, "version_blocked")
    assert "by ann, in MLflow" in said["message"]
    blocks.tag(None)
    blocks.publish()
    assert blocks.seen() == (None, None)


def test_a_new_mlflow_gets_the_block_and_lifts_none(blocks: Blocks) -> None:
    blocks.tag("by ann")
    blocks.publish()
    with blocks.store.write() as connection:
        mlflow_rows.mark_all_unpublished(connection, blocks.place.name)
    blocks.registry.drop_tag(blocks.place.name, "1", BLOCKED_TAG)
    blocks.publish()
    assert blocks.seen() == ("by ann", "by ann")
