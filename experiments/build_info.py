"""Build fingerprint: all that the model's bits depend on besides the ledger."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np

import learning
from learning.models.plugins import entry_points as plugins


@cache
def build() -> dict[str, Any]:
    """Versions of packages and sources, and processor features."""
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in ("numpy", "river", "vaderSentiment")},
        "zones": _zones(),
        **_plugins(),
        "learning": _source(),
        "machine": platform.machine(),
        "processor_features": sorted(name for name, is_present in features.items() if is_present),
    }


def _plugins() -> dict[str, Any]:
    """The packages that bring recipes or features of one's own; nothing where there are none."""
    found = plugins.packages(plugins.RECIPES_GROUP) | plugins.packages(plugins.FEATURES_GROUP)
    return {"plugins": found} if found else {}


def _zones() -> str:
    """Whose tables of time zones are read (see `learning.decision.teams.opening_hours`)."""
    try:
        return f"tzdata {package_version('tzdata')}"
    except PackageNotFoundError:
        return "this machine's"


def _source() -> str:
    """A hash of the learning package's own files, code and lexicon."""
    folder = Path(learning.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".toml", ".json", ".npz", ".txt"):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def build_id() -> str:
    """A short name of this build: decisions carry it."""
    return hashlib.sha256(json.dumps(build(), sort_keys=True).encode()).hexdigest()[:12]


@cache
def commit() -> str | None:
    """The commit of the checkout that this code runs from; None where it runs from no checkout."""
    place = Path(__file__).resolve().parents[1] / ".git"
    try:
        if place.is_file():  # a further work tree: the file names its folder
            place = place.parent / place.read_text().removeprefix("gitdir:").strip()
        head = (place / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head or None
        name = head.removeprefix("ref:").strip()
        common = place / "commondir"
        root = place / common.read_text().strip() if common.exists() else place
        if (root / name).exists():
            return (root / name).read_text().strip()
        packed = (root / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except OSError:
        return None
