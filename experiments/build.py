"""What the model's bits may depend on besides the ledger: by it two processes know each other."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np

import learning


@cache
def build() -> dict[str, Any]:
    """What the model's bits may depend on besides the ledger: packages and processor features."""
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in ("numpy", "river", "vaderSentiment")},
        "learning": _source(),
        "machine": platform.machine(),
        "processor_features": sorted(name for name, there in features.items() if there),
    }


def _source() -> str:
    """A hash of the learning package's own files, code and lexicon."""
    folder = Path(learning.__file__).parent
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".toml", ".json", ".txt"):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


@cache
def build_id() -> str:
    """A short name of this build: decisions carry it."""
    return hashlib.sha256(json.dumps(build(), sort_keys=True).encode()).hexdigest()[:12]
