"""What `make connect` runs is there: its target, its pins, and the code that its pages show."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.connect.environments import HERE, ROOT, write_modules

NAMES = ["baton_turns.py", "openai_agents_bot.py", "langgraph_bot.py", "pydantic_ai_bot.py"]


def test_make_connect_builds_the_client_and_runs_the_other_systems() -> None:
    makefile = (ROOT / "Makefile").read_text()
    target = re.search(r"^connect: (.*?)  ## .*\n\t@(.*)$", makefile, re.MULTILINE)
    assert target is not None
    assert target.groups() == ("$(STAMP) client", "$(BIN)/python -m tests.connect")


@pytest.mark.parametrize("name", ["agents", "rasa"])
def test_each_environment_is_pinned_by_hashes_and_names_no_registry(name: str) -> None:
    pins = (HERE / f"requirements-{name}.txt").read_text()
    required = re.findall(r"^[a-z0-9][^ ]*==", pins, re.MULTILINE)
    assert required
    assert pins.count("--hash=sha256:") >= len(required)
    assert "://" not in pins


def test_the_pages_hold_the_code_that_is_run(tmp_path: Path) -> None:
    assert write_modules(ROOT / "docs" / "guides" / "agents.md", tmp_path) == NAMES
    for name in NAMES:
        ast.parse((tmp_path / name).read_text())
