"""Replay a stream test-then-learn, in the bare loop or through HTTP; both agree to the bit.

Every scored message is scored where it stands, the labels become one outcome when the
conversation ends, and only then are they learned. `bare` runs the loop that the service runs,
without the service; `through_http` is a bot and an engineer on one connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from experiments.datasets.episode import Episode
from experiments.datasets.ledger_export import labelled_page, of_stream
from experiments.replay.client import PATIENCE_SECONDS, BatonClient, path_of, turn_json
from experiments.replay.simulated_labels import AnnotatorCounts, SimulatedAnnotators
from experiments.replay.stream_measures import StreamMeasures, StreamReport
from learning.conversation.state import EMPTY, Message, step
from learning.ledger.checkpoint import digest
from learning.ledger.model_state import ModelState, replay_entries
from learning.models.recipes import DEFAULT

Progress = Callable[[StreamMeasures], None]
"""Called after each conversation with the tally so far."""


def new_model_state(recipe: str = DEFAULT) -> ModelState:
    """A standing as a new workspace has it: its ledger begins with a policy and a switch."""
    state = ModelState(recipe=recipe, switch=2)
    replay_entries(state, [entry for entry, _ in of_stream(())], lambda *_: ())
    return state


@dataclass(frozen=True, slots=True)
class PlayedStream:
    """A replay that is over: its figures, the probabilities behind them, and what people did."""

    report: StreamReport
    tally: StreamMeasures
    service: AnnotatorCounts | None = None


def bare(
    stream: Iterable[Episode],
    *,
    recipe: str = DEFAULT,
    state: ModelState | None = None,
    handoffs: bool = False,
    progress: Progress | None = None,
) -> PlayedStream:
    """Play a stream through the bare loop.

    A `standing` given goes on from where it stands (and `recipe` is its own); `handoffs` adds the
    GT measures. What fails in the stream fails here, with its own error.
    """
    state = new_model_state(recipe) if state is None else state
    tally = StreamMeasures(handoffs=handoffs)
    began = time.perf_counter()
    for episode in map(without_system_events, stream):
        probabilities = _score_episode(state, episode)
        if episode.labels:
            _learn_episode(state, episode)
        tally.add(episode, probabilities)
        if progress is not None:
            progress(tally)
    seconds = time.perf_counter() - began
    report = tally.report(seconds=seconds, position=state.position, digest=digest(state))
    return PlayedStream(report, tally)


def through_http(
    stream: Iterable[Episode],
    url: str,
    key: str,
    *,
    handoffs: bool = False,
    live: bool = False,
    progress: Progress | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> PlayedStream:
    """Play a stream through a running Baton, in the workspace of an engineer's `key`.

    The workspace must be a shadow, and new if the figures are to be those of `bare`: no handoff
    opens and every message is scored. Or it is `live`: escalations open handoffs, simulated
    agents judge them by the labels, and only what they find is learned. Turns without a label
    travel as history. A restart of the service is waited out; playing the same stream again goes
    on where it broke off. Raises RefusedError, UnreachableError.
    """
    tally = StreamMeasures(handoffs=handoffs)
    behaviour = AnnotatorCounts()
    with BatonClient(url, key, patience_seconds=patience_seconds) as client:
        last_position = int(client.get("/v1/standing")["position"])
        began = time.perf_counter()
        for episode in map(without_system_events, stream):
            annotators = SimulatedAnnotators(client, episode, behaviour) if live else None
            probabilities = _score_messages(client, episode, annotators)
            last_position = max(last_position, _finish(client, episode, annotators))
            tally.add(episode, probabilities)
            if progress is not None:
                progress(tally)
        seconds = time.perf_counter() - began
        state = _wait_for_position(client, last_position)
    report = tally.report(seconds=seconds, position=state["position"], digest=state["digest"])
    return PlayedStream(report, tally, behaviour if live else None)


def workspace_key(
    url: str, admin_key: str, workspace: str, *, mode: str = "shadow", recipe: str = ""
) -> str:
    """Make a workspace, or find it there; gives its engineer's key. RefusedError, ..."""
    body = {"id": workspace, "mode": mode} | ({"recipe": recipe} if recipe else {})
    with BatonClient(url, admin_key) as client:
        return str(client.post("/v1/workspaces", body)["keys"]["engineer"])


def without_system_events(episode: Episode) -> Episode:
    """The episode without Baton's own system messages of past handoffs."""
    places = [place for place, message in enumerate(episode.messages) if message.event is None]
    if len(places) == len(episode.messages):
        return episode
    now = {before: place for place, before in enumerate(places)}
    return Episode(
        episode.id,
        tuple(episode.messages[place] for place in places),
        tuple((now[place], label) for place, label in episode.labels if place in now),
        tuple(now[place] for place in episode.scored if place in now),
    )


def _score_messages(
    client: BatonClient, episode: Episode, annotators: SimulatedAnnotators | None
) -> dict[int, float]:
    scored, probabilities = set(episode.scored), {}
    history: list[dict[str, Any]] = []
    for place, message in enumerate(episode.messages):
        if place not in scored:
            history.append(_turn(message))
            continue
        body: dict[str, Any] = {"conversation_id": episode.id, "message": _turn(message)}
        if (report := body["message"].pop("bot", None)) is not None:
            body["bot"] = report
        if message.attributes:
            body["attributes"] = dict(message.attributes)
        if history:
            body["history"] = history
        answer = client.post("/v1/score", body)
        history = []
        if answer["probability"] is not None:
            probabilities[place] = answer["probability"]
        if annotators is not None:
            annotators.hear(place, answer)
    # What the customer says after the last scored message has no route of its own, and no effect.
    rest = [turn for turn in history if turn["author"] != "user"]
    if rest and scored:
        client.post(path_of("conversations", episode.id, "messages"), {"messages": rest})
    return probabilities


def _turn(message: Message) -> dict[str, Any]:
    turn = turn_json(message) | {"at": message.at}
    return turn if message.language is None else turn | {"language": message.language}


def _finish(client: BatonClient, episode: Episode, annotators: SimulatedAnnotators | None) -> int:
    """Say what was true, close, and give the ledger's position (0 if there was nothing to say)."""
    if not episode.scored:
        return 0
    position = 0
    if annotators is not None:
        position = annotators.end()
    elif episode.labels:
        labels = [
            {"message_id": episode.messages[place].id, "label": label}
            for place, label in episode.labels
        ]
        answer = client.post(path_of("conversations", episode.id, "outcome"), {"labels": labels})
        position = int(answer["position"])
    client.post(path_of("conversations", episode.id, "close"), {"resolution": "unknown"})
    return position


def _wait_for_position(client: BatonClient, position: int) -> dict[str, Any]:
    """The standing once the last outcome has been learned: a moment after it was acknowledged."""
    give_up = time.monotonic() + client.patience_seconds
    while True:
        state = client.get("/v1/standing")
        if state["position"] >= position or time.monotonic() > give_up:
            return state
        time.sleep(0.02)


def _score_episode(model_state: ModelState, episode: Episode) -> dict[int, float]:
    state, scored, probabilities = EMPTY, set(episode.scored), {}
    for place, message in enumerate(episode.messages):
        state = step(state, message)
        if place in scored:
            probabilities[place] = model_state.score(state).probability
    return probabilities


def _learn_episode(model_state: ModelState, episode: Episode) -> None:
    entry, turns = labelled_page(episode, model_state.position + 1)
    replay_entries(model_state, [entry], lambda _, until: turns[:until])
