"""Demo: simulated bots and agents play against a running Baton, with a live summary.

Everything goes through HTTP, as with real ones; see `experiments.simulation.simulated_clients`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.replay.client import BatonClient
from experiments.simulation.scoreboard import Scoreboard, Summary, line, table
from experiments.simulation.simulated_clients import SimulatedClients
from experiments.simulation.world import World, WorldSettings

SETTINGS = WorldSettings(complaint_delay_seconds=7_200.0)
"""Complaints come after two hours in the mean, or no short play would see one."""

LINE_SECONDS = 3.0
SECONDS_MAX = 900.0


def play(
    url: str,
    keys: Mapping[str, str],
    conversations: int = 1000,
    seed: int = 0,
    concurrency: int = 8,
    console: Console | None = None,
    *,
    settings: WorldSettings = SETTINGS,
    seconds_max: float = SECONDS_MAX,
    left: int = 0,
) -> Summary:
    """Play so many conversations against the Baton at `url`, and say how it went.

    `keys` by role, as in keys.json: `bot` and `agent` are used; with `admin`, each simulated agent
    gets a key in their own name. `concurrency` threads play at once. It ends by itself, at the
    latest soon after `seconds_max`, then with `complete` false. On a terminal a bar and a live
    table are shown, elsewhere a line every few seconds. The last `left` handoffs are taken by no
    simulated agent: they wait in the console. Waits while Baton is busy (503);
    experiments.replay.client.UnreachableError if it is gone for a minute, RefusedError if it
    refuses.
    """
    world = World(seed, settings)
    console = console or Console()
    players = SimulatedClients(url, _with_agents(url, keys, world), world, conversations, left)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            players.schedule.work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, concurrency))]
    give_up = time.monotonic() + seconds_max
    with _display(console, players.board, conversations) as show:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            threads[0].join(0.1) if threads[0].is_alive() else time.sleep(0.1)
            show()
            if time.monotonic() > give_up:
                players.schedule.stop()
    players.close()
    if errors:
        raise errors[0]
    summary = players.board.summary(complete=not players.schedule.stopped)
    if "engineer" in keys:
        with BatonClient(url, keys["engineer"]) as engineer:
            state = engineer.get("/v1/standing")
        summary = replace(summary, version=state["version"], position=state["position"])
    return summary


def _with_agents(url: str, keys: Mapping[str, str], world: World) -> dict[str, str]:
    """The keys, with one for each simulated agent if there is an admin's to issue them with.

    The same admin gets the same keys again (Idempotency-Key), so playing twice leaves no more.
    """
    all_keys = dict(keys)
    if "admin" not in keys:
        return all_keys
    names = [agent.name for agent in world.agents()]
    names += sorted({forgery.name for forgery in world.settings.forgeries})
    for name in names:
        answer = httpx.post(
            f"{url.rstrip('/')}/v1/keys",
            json={"role": "agent", "name": name},
            headers={
                "Authorization": f"Bearer {keys['admin']}",
                "Idempotency-Key": f"demo agent {name}",
            },
            timeout=30.0,
            trust_env=False,
        )
        answer.raise_for_status()
        all_keys[name] = answer.json()["key"]
    return all_keys


@contextmanager
def _display(
    console: Console, board: Scoreboard, conversations: int
) -> Iterator[Callable[[], None]]:
    """A function that shows how it stands, called often."""
    if not console.is_terminal:
        last = [time.monotonic()]

        def tell() -> None:
            if time.monotonic() - last[0] >= LINE_SECONDS:
                last[0] = time.monotonic()
                console.print(line(board.summary()), soft_wrap=True, highlight=False)

        yield tell
        console.print(line(board.summary()), soft_wrap=True, highlight=False)
        console.print(table(board.summary()))
        return
    bar = Progress(
        TextColumn("playing"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn()
    )
    task = bar.add_task("playing", total=conversations)
    with Live(Group(bar, table(board.summary())), console=console, refresh_per_second=5) as live:

        def draw() -> None:
            bar.update(task, completed=board.conversations)
            live.update(Group(bar, table(board.summary())))

        yield draw
        draw()
