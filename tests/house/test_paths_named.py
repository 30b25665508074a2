"""Paths that code names in its words exist, so that a move takes them along."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NAMED = re.compile(r"\b(?:docs|experiments|learning|service|tests)/[\w/-]+\.(?:md|py|json)\b")


def test_every_path_of_the_repository_that_code_names_is_there() -> None:
    sources = [
        path
        for package in ("learning", "experiments", "service")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]
    gone = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources
        for name in NAMED.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert sources
    assert gone == set()
