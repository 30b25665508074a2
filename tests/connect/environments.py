"""Environments of other systems, each with its own pins, and the code that their pages show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PLACE = ROOT / "build" / "connect"
_NAMED = re.compile(r"`(\w+\.py)`[^\n]*:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def environment(name: str) -> Path:
    """Install requirements-NAME.txt, by its hashes, into an environment of its own; its Python."""
    pins = HERE / f"requirements-{name}.txt"
    place = PLACE / name
    python, stamp = place / "bin" / "python", place / ".installed"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        uv = Path(sys.executable).with_name("uv")
        stamp.unlink(missing_ok=True)
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, place)
        _run(
            *(uv, "pip", "sync", "--quiet", "--system-certs", "--require-hashes"),
            *("--python", python, pins),
        )
        stamp.write_text(pins.read_text())
    return python


def install_client(python: Path) -> None:
    """The client's wheel, as `make client` built it."""
    wheel = max((ROOT / "dist").glob("baton_client-*.whl"), key=lambda path: path.stat().st_mtime)
    uv = Path(sys.executable).with_name("uv")
    _run(
        *(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--reinstall"),
        *("--python", python, wheel),
    )


def write_modules(page: Path, folder: Path) -> list[str]:
    """Save the code that a page names a file for; gives the names."""
    found = _NAMED.findall(page.read_text(encoding="utf-8"))
    for name, text in found:
        (folder / name).write_text(text, encoding="utf-8")
    return [name for name, _ in found]


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)
