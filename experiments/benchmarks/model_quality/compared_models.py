"""Model alone, without server or store: time a message and accuracy beside VowpalWabbit.

Expected: features, probability and learning of a message take at most 2.5 times what VowpalWabbit
takes for the same messages, with accuracy no worse.

Every learner plays the same conversations test-then-learn: each message is scored when it comes,
with what was said before it; the labels are learned when the conversation ends. VowpalWabbit gets
the words and word pairs of the customer's message and of the bot's last one, cut by one regular
expression. Once more it gets Baton's own features, to tell the learner from the features. The
learners take turns in one process; each pass starts from nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np

from experiments.benchmarks.harness.result_table import Progress, Row, load_average, median, rounded
from experiments.datasets.episode import Episode
from experiments.datasets.streams import SETS, data_folder, read
from experiments.simulation.world import episodes
from learning.conversation.features import features, parts
from learning.conversation.state import EMPTY, Message, State, step
from learning.measures.scores import measures
from learning.models.hashed_features import Row as Hashed
from learning.models.recipes import DEFAULT, RECIPES

GOAL = 2.5
TARGETS = {"uss_sgd": "strict", "uss_redial": "strict", "dbdc3": "majority"}
"""Targets with labels that are 0 or 1, for VowpalWabbit takes no others."""

VW = "--quiet --loss_function logistic --link logistic -b 18 --random_seed 1"
NGRAMS = " --ngram u2 --ngram b2"
DATA = ("simulated", *SETS)
VOWPAL, VOWPAL_FEATURES = "vw", "vw, Baton's features"
SYSTEMS = (f"baton {DEFAULT}", "baton bayes-4", VOWPAL, VOWPAL_FEATURES)
WORD = re.compile(r"\w+")
WARM = 20
"""Conversations played beforehand, so that nobody's tables are read on the clock."""

COLUMNS = {
    "data": "data",
    "system": "system",
    "messages": "messages",
    "features_us": "features us",
    "predict_us": "predict us",
    "learn_us": "learn us",
    "total_us": "total us",
    "ratio_to_vw": "/ vw",
    "ratio_to_vw_features": "/ vw, same features",
    "goal": "goal",
    "reached": "",
    "auc": "AUC",
    "log_loss": "log loss",
}


class NoData(LookupError):
    """A data set is not there; the message says where it was looked for."""


@dataclass(slots=True)
class Clock:
    """Nanoseconds by part, over all messages of a pass."""

    features: int = 0
    predict: int = 0
    learn: int = 0
    probabilities: list[float] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)


class Learner(Protocol):
    """One system: examples of messages as they come, scores, lessons. `example` None: not scored.

    `observe` is called for every message, and makes an example of those that are scored.
    """

    def begin(self) -> None: ...
    def observe(self, message: Message, scored: bool) -> Any: ...
    def predict(self, example: Any) -> float: ...
    def learn(self, example: Any, label: float) -> None: ...
    def end(self) -> None: ...


class Baton:
    """Rows of features by the fold, as a standing makes them, and a recipe's model."""

    def __init__(self, recipe: str) -> None:
        self._model = RECIPES[recipe].build()
        self._state: State = EMPTY

    def begin(self) -> None:
        self._state = EMPTY

    def observe(self, message: Message, scored: bool) -> Hashed | None:
        self._state = step(self._state, message)
        return Hashed.of_parts(parts(self._state), self._model.buckets) if scored else None

    def predict(self, example: Hashed) -> float:
        return self._model.assess(example)[0]

    def learn(self, example: Hashed, label: float) -> None:
        self._model.learn([example], [label], [1.0])

    def end(self) -> None:
        """Nothing to give back."""


class Wabbit:
    """VowpalWabbit on the words of the two newest messages."""

    def __init__(self, options: str = VW + NGRAMS) -> None:
        from vowpalwabbit import Workspace  # type: ignore[import-untyped]

        self._workspace = Workspace(options, enable_logging=False)
        self._words = {"user": "", "bot": ""}

    def begin(self) -> None:
        self._words = {"user": "", "bot": ""}

    def observe(self, message: Message, scored: bool) -> str | None:
        author = "bot" if message.author == "bot" else "user"
        self._words[author] = " ".join(WORD.findall(message.text.lower()))
        return f"|u {self._words['user']} |b {self._words['bot']}" if scored else None

    def predict(self, example: str) -> float:
        return float(self._workspace.predict(example))

    def learn(self, example: str, label: float) -> None:
        self._workspace.learn(f"{1 if label > 0.5 else -1} {example}")

    def end(self) -> None:
        self._workspace.finish()


class WabbitOnFeatures(Wabbit):
    """VowpalWabbit on Baton's features."""

    def __init__(self) -> None:
        super().__init__(VW)
        self._state: State = EMPTY

    def begin(self) -> None:
        self._state = EMPTY

    def observe(self, message: Message, scored: bool) -> str | None:
        self._state = step(self._state, message)
        if not scored:
            return None
        values = features(self._state).items()
        return "|f " + " ".join(f"{_safe(name)}:{value:.6g}" for name, value in values)


def _safe(name: str) -> str:
    return name.replace(":", "_").replace("|", "_").replace(" ", "_")


def build_learner(system: str) -> Learner:
    """A learner that has learned nothing, by its name in the plan."""
    if system.startswith("baton "):
        return Baton(system.removeprefix("baton "))
    return Wabbit() if system == VOWPAL else WabbitOnFeatures()


def run(rounds: int, conversations: int, data: Sequence[str], progress: Progress) -> list[Row]:
    """Measure. Raises NoData for a set that is not there, ModuleNotFoundError without the wheel."""
    rows = []
    turns = len(data) * rounds * len(SYSTEMS)
    done = 0
    for name in data:
        stream = list(islice(recorded(name), conversations))
        before = load_average()
        for system in SYSTEMS:
            play(build_learner(system), stream[:WARM])
        clocks: dict[str, list[Clock]] = {system: [] for system in SYSTEMS}
        for number in range(rounds):
            for place in range(len(SYSTEMS)):
                system = SYSTEMS[(place + number) % len(SYSTEMS)]
                progress(f"{name}, {system}", done, turns)
                clocks[system].append(play(build_learner(system), stream))
                done += 1
        rows += [_row(name, s, clocks) | {"load_average": before} for s in SYSTEMS]
    return rows


def recorded(name: str) -> Iterator[Episode]:
    """A data set's conversations, or simulated ones. Raises NoData."""
    if name == "simulated":
        return episodes(31, 100_000)
    paths = [data_folder(os.environ) / file for file in SETS[name]]
    if missing := [path for path in paths if not path.exists()]:
        raise NoData(f"{missing[0]} is not there; BATON_DATA names the folder of recorded data")
    return (episode for path in paths for episode in read(path, None, TARGETS.get(name)))


def available(names: Sequence[str]) -> list[str]:
    """The data sets among these names that are on this machine."""
    here = data_folder(os.environ)
    return [n for n in names if n == "simulated" or all((here / f).exists() for f in SETS[n])]


def play(learner: Learner, stream: Sequence[Episode]) -> Clock:
    """One pass, test then learn, from nothing."""
    clock, now = Clock(), time.perf_counter_ns
    for episode in stream:
        labels, scored = dict(episode.labels), set(episode.scored)
        lessons: list[tuple[Any, float]] = []
        learner.begin()
        for place, message in enumerate(episode.messages):
            began = now()
            example = learner.observe(message, place in scored)
            heard = now()
            clock.features += heard - began
            if example is None:
                continue
            probability = learner.predict(example)
            clock.predict += now() - heard
            if place in labels:
                clock.probabilities.append(probability)
                clock.labels.append(labels[place])
                lessons.append((example, labels[place]))
        began = now()
        for example, label in lessons:
            learner.learn(example, label)
        clock.learn += now() - began
    learner.end()
    return clock


def _row(name: str, system: str, clocks: dict[str, list[Clock]]) -> Row:
    own = clocks[system]
    n = len(own[0].labels)
    accuracy = _measures(own[0])
    row: Row = {"data": name, "system": system, "messages": n}
    for part in ("features", "predict", "learn"):
        row[f"{part}_us"] = rounded(median(getattr(clock, part) for clock in own) / n / 1e3)
    row["total_us"] = rounded(median(map(_total, own)) / n / 1e3)
    if system.startswith("baton"):
        for key, other in (("ratio_to_vw", VOWPAL), ("ratio_to_vw_features", VOWPAL_FEATURES)):
            pairs = zip(own, clocks[other], strict=True)
            row[key] = rounded(median(_total(a) / _total(b) for a, b in pairs))
        vowpal = _measures(clocks[VOWPAL][0])
        row["goal"] = GOAL
        row["reached"] = bool(row["ratio_to_vw"] <= GOAL and accuracy["auc"] >= vowpal["auc"])
    return row | {"auc": rounded(accuracy["auc"]), "log_loss": rounded(accuracy["log_loss"])}


def _measures(clock: Clock) -> dict[str, float]:
    return measures(np.array(clock.probabilities), np.array(clock.labels))


def _total(clock: Clock) -> int:
    return clock.features + clock.predict + clock.learn
