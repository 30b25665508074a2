"""Structure of the code in figures: `python -m tests.house.report`.

Rooms are the modules and packages of one folder; its floors are the longest chain of imports among
them. Names count where they stand: files of one name, classes of one name. The ways are the modules
of `service` that one request or one evaluation runs through, counted while it runs
(`tests.house.ways`).
"""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from tests import source_tree
from tests.house.packages import FLOORS, MAY_IMPORT, OF_EXPERIMENTS
from tests.house.ways import ways
from tests.source_tree import Tree

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("learning", "experiments", "service")
ENTRY_FILES = ("__init__", "__main__")
"""Files whose name is given by Python: they are no room of their own and share their name."""


def rooms(tree: Tree) -> dict[str, set[str]]:
    """Modules and packages by the folder that they stand in."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in tree.modules:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            if parts[depth] not in ENTRY_FILES:
                found[".".join(parts[:depth])].add(parts[depth])
    return dict(found)


def floors(tree: Tree, folder: str) -> int:
    """The longest chain of imports among the rooms of a folder."""
    edges: dict[str, set[str]] = defaultdict(set)
    for module in tree.modules.values():
        here = _room(module.name, folder)
        for one in tree.imports(module):
            there = _room(one.module, folder)
            if here and there and here != there:
                edges[here].add(there)

    @cache
    def height(room: str) -> int:
        return 1 + max((height(below) for below in edges[room]), default=0)

    return max((height(room) for room in rooms(tree).get(folder, ())), default=0)


def _room(name: str, folder: str) -> str | None:
    rest = name.removeprefix(f"{folder}.")
    return rest.split(".")[0] if rest != name else None


def repeated_files(tree: Tree, more_than: int = 2) -> dict[str, int]:
    """File names that stand in more places than so many, entry files and rows aside."""
    names = Counter(
        module.path.stem for module in tree.modules.values() if module.path.stem not in ENTRY_FILES
    )
    return {name: count for name, count in sorted(names.items()) if count > more_than}


def repeated_classes(tree: Tree, more_than: int = 2) -> dict[str, int]:
    """Class names that stand in more modules than so many."""
    names = Counter(
        node.name
        for module in tree.modules.values()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    )
    return {name: count for name, count in sorted(names.items()) if count > more_than}


def lines(tree: Tree) -> dict[str, int]:
    """Lines by package."""
    counts: Counter[str] = Counter()
    for module in tree.modules.values():
        counts[source_tree.package_of(module.name)] += module.lines
    return dict(sorted(counts.items()))


def violations(tree: Tree) -> list[str]:
    """Imports that the tables do not allow."""
    inside = [
        line
        for package, rows in FLOORS.items()
        for line in source_tree.upwards(tree, package, rows)
    ]
    return source_tree.not_allowed(tree, MAY_IMPORT, OF_EXPERIMENTS) + inside


def report(tree: Tree) -> dict[str, Any]:
    """All of it, as plain JSON."""
    by_package = lines(tree)
    return {
        "folders": {
            folder: {"rooms": len(names), "floors": floors(tree, folder)}
            for folder, names in sorted(rooms(tree).items())
        },
        "circles": source_tree.circles(tree),
        "import_violations": violations(tree),
        "file_names_in_more_than_two_places": repeated_files(tree),
        "class_names_in_more_than_two_places": repeated_classes(tree),
        "modules_on_the_ways": {way: len(names) for way, names in ways().items()},
        "lines": {**by_package, "all": sum(by_package.values())},
    }


def main() -> None:
    found = report(Tree(ROOT, PACKAGES))
    if "--json" in sys.argv[1:]:
        print(json.dumps(found, indent=2))
        return
    for title, value in found.items():
        print(f"\n{title.replace('_', ' ')}")
        if isinstance(value, dict):
            for name, one in value.items():
                shown = (
                    one
                    if not isinstance(one, dict)
                    else ", ".join(f"{n} {k}" for k, n in one.items())
                )
                print(f"  {name:44} {shown}")
            if not value:
                print("  none")
        else:
            print("\n".join(f"  {line}" for line in value) or "  none")


if __name__ == "__main__":
    main()
