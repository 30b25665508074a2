"""Play a stream through the bare loop or through HTTP; both must say the same, to the bit.

Every scored message is scored where it stands, the labels become one outcome when the
conversation ends, and only then are they learned. `bare` runs the loop that the service runs,
without the service; `through_http` is a bot and an engineer on one connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from experiments.episode import Episode
from experiments.tally import Report, Tally
from learning.checkpoint import digest
from learning.conversation import EMPTY, step
from learning.ledger import Entry, Standing, Turn, follow
from learning.policy import Policy
from learning.recipes import DEFAULT

Progress = Callable[[Tally], None]
"""Called after each conversation with the tally so far."""


def begun(recipe: str = DEFAULT) -> Standing:
    """A standing as a new workspace has it: its ledger begins with a policy and a switch."""
    standing = Standing(recipe=recipe, switch=2)
    policy = Entry(1, "policy", Policy().model_dump(mode="json"), "replay", 0.0)
    switch = Entry(2, "switch", {"version": 0, "learn_from": 0}, "replay", 0.0)
    follow(standing, [policy, switch], lambda *_: ())
    return standing


@dataclass(frozen=True, slots=True)
class Played:
    """A replay that is over: its figures, the probabilities behind them, where the model stands."""

    report: Report
    tally: Tally


def bare(
    stream: Iterable[Episode],
    *,
    recipe: str = DEFAULT,
    standing: Standing | None = None,
    handoffs: bool = False,
    progress: Progress | None = None,
) -> Played:
    """Play a stream through the bare loop.

    A `standing` given goes on from where it stands (and `recipe` is its own); `handoffs` adds the
    GT measures. What fails in the stream fails here, with its own error.
    """
    standing = begun(recipe) if standing is None else standing
    tally = Tally(handoffs=handoffs)
    began = time.perf_counter()
    for episode in stream:
        probabilities = _scored(standing, episode)
        if episode.labels:
            _learned(standing, episode)
        tally.add(episode, probabilities)
        if progress is not None:
            progress(tally)
    seconds = time.perf_counter() - began
    report = tally.report(seconds=seconds, position=standing.position, digest=digest(standing))
    return Played(report, tally)


def _scored(standing: Standing, episode: Episode) -> dict[int, float]:
    state, scored, found = EMPTY, set(episode.scored), {}
    for place, message in enumerate(episode.messages):
        state = step(state, message)
        if place in scored:
            found[place] = standing.score(state).probability
    return found


def _learned(standing: Standing, episode: Episode) -> None:
    scored = set(episode.scored)
    turns = [Turn(message, place in scored) for place, message in enumerate(episode.messages)]

    def transcript(_: str, until: int) -> Sequence[Turn]:
        return turns[:until]

    body = {
        "outcome_id": episode.id,
        "conversation_id": episode.id,
        "verdict": "labels",
        "begins": 1,
        "covers": len(turns),
        "labels": [(place + 1, label, 1.0) for place, label in episode.labels],
        "source": "labels",
        "propensity": 1.0,
        "by_rule": False,
    }
    entry = Entry(standing.position + 1, "outcome", body, "replay", 0.0)
    follow(standing, [entry], transcript)
