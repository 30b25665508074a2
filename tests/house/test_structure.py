"""The house stays one a newcomer finds their way in: few rooms, few floors, short ways."""

from __future__ import annotations

import pytest

from tests.house.report import PACKAGES, ROOT, floors, repeated_classes, repeated_files, rooms
from tests.house.ways import ways
from tests.source_tree import Tree

ROOMS_MAX, FLOORS_MAX = 10, 6
OF_SERVICE = (16, 10)
"""Rooms and floors of `service` itself, a plain chain of packages."""
GROWS = "service.store.migrations.versions"
"""One room a change of the schema, for ever: no newcomer looks for anything else there."""


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(ROOT, PACKAGES)


def test_a_folder_has_few_rooms(tree: Tree) -> None:
    crowded = {
        folder: len(names)
        for folder, names in rooms(tree).items()
        if len(names) > (OF_SERVICE[0] if folder == "service" else ROOMS_MAX) and folder != GROWS
    }
    assert crowded == {}


def test_a_folder_has_few_floors(tree: Tree) -> None:
    towers = {
        folder: height
        for folder in rooms(tree)
        if (height := floors(tree, folder)) > (OF_SERVICE[1] if folder == "service" else FLOORS_MAX)
    }
    assert towers == {}


def test_names_of_files_and_classes_stand_in_few_places(tree: Tree) -> None:
    assert len(repeated_files(tree)) <= 2
    assert len(repeated_classes(tree)) <= 3


def test_what_comes_in_passes_few_modules() -> None:
    passed = ways()
    assert len(passed["message"]) == 4, passed["message"]
    assert 1 < len(passed["verdict"]) <= 5, passed["verdict"]
    packages = [".".join(name.split(".")[:2]) for name in passed["evaluation"]]
    assert set(packages) <= {"service.jobs", "service.versions", "experiments.evaluation"}
