"""Run what other systems run, each in an environment of its own, against a real Baton: agents of
language models with scripted models, and Rasa's action server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.connect.environments import (
    HERE,
    ROOT,
    environment,
    install_client,
    write_modules,
)
from tests.connect.rasa import rasa
from tests.service_in_process import InProcess, Place, serving
from tests.waiting import LIMIT_SECONDS

FRAMEWORKS = ("openai_agents", "langgraph", "pydantic_ai")


def agent(service: InProcess, framework: str) -> str:
    """A customer talks to an agent of this framework, in its own process."""
    python, place = environment("agents"), service.workspace()
    install_client(python)
    with tempfile.TemporaryDirectory() as folder:
        write_modules(ROOT / "docs" / "guides" / "agents.md", Path(folder))
        done = subprocess.run(
            [str(python), str(HERE / "agent_driver.py"), framework],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": folder,
                "BATON_AT": service.url,
                "BOT_KEY": place.keys["bot"],
                "AGENT_KEY": place.keys["agent"],
            },
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    if done.returncode:
        raise AssertionError(done.stderr.strip() or f"it ended with {done.returncode}")
    return done.stdout.strip()


def main() -> int:
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as service:
        warm(service.workspace())
        runs: dict[str, Callable[[], str]] = {
            name: lambda name=name: agent(service, name) for name in FRAMEWORKS
        }
        runs["rasa"] = lambda: rasa(service)
        failed = 0
        for name, run in runs.items():
            try:
                print(f"ok      {name:<14} {run()}", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAILED  {name:<14} {error}", flush=True)
    print(f"{len(runs) - failed} of {len(runs)} run against Baton")
    return 1 if failed else 0


def warm(place: Place) -> None:
    """The first text of a process loads what reads it."""
    place.bot.decided("warm", "m", "hello")


if __name__ == "__main__":
    sys.exit(main())
