"""Feature rows of a data set, hashed once and shared by every learner.

Baton's learners, VowpalWabbit, River and scikit-learn all get the very same features, so what
differs is the learner. What is said before a message, and the message, are kept as text besides,
for those that make their own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.episode import Episode
from experiments.datasets.streams import SETS, read
from experiments.simulation.world import WorldSettings, episodes
from learning.conversation.features import parts
from learning.conversation.state import EMPTY, step
from learning.decision.policy import Policy, decide
from learning.ledger.lessons import lessons
from learning.models.calibration import Calibrator
from learning.models.hashed_features import BUCKETS, HashedClassifier, Row, sigmoid
from learning.models.recipes import DEFAULT, get_recipe

Floats = NDArray[np.float64]
SIMULATED = "simulated"
DATA = (*SETS, SIMULATED)
POLICY = Policy()


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """A conversation's labelled messages in order: rows, labels 0 to 1, weights, and the texts.

    `places` are those of the messages in the conversation, and `ruled` says where a rule of the
    default policy hands over, whatever the model says; `weights` are what the conversation's
    lessons share when all its labels are known; `texts` are theirs, `texts_before` those of the
    turns before.
    """

    id: str
    rows: tuple[Row, ...]
    labels: tuple[float, ...]
    weights: tuple[float, ...]
    places: tuple[int, ...]
    texts: tuple[str, ...]
    texts_before: tuple[str, ...]
    bot: tuple[bool, ...]
    ruled: tuple[bool, ...]


def rows_of(episode: Episode) -> FeatureRows | None:
    """The feature rows of an episode; None where nothing is labelled."""
    labels, state, rows, ruled = dict(episode.labels), EMPTY, [], []
    if not labels:
        return None
    messages = episode.messages
    for place, message in enumerate(messages):
        state = step(state, message)
        if place in labels:
            rows.append(Row.of_parts(parts(state), BUCKETS))
            ruled.append(decide(POLICY, state, 0.0).action == "escalate")
    places = sorted(labels)
    return FeatureRows(
        episode.id,
        tuple(rows),
        tuple(labels[place] for place in places),
        lesson_weights(labels[place] for place in places),
        tuple(places),
        tuple(messages[place].text for place in places),
        tuple(messages[place - 1].text if place else "" for place in places),
        tuple(messages[place].author == "bot" for place in places),
        tuple(ruled),
    )


def lesson_weights(labels: Iterable[float]) -> tuple[float, ...]:
    """The weights of one conversation's lessons, as the ledger would share them out."""
    entries = [(seq, label, 1.0) for seq, label in enumerate(labels, 1)]
    body = {"verdict": "labels", "labels": entries, "begins": 1, "covers": len(entries)}
    return tuple(lesson.weight for lesson in lessons(body, range(1, len(entries) + 1)))


@functools.lru_cache(maxsize=4)
def talks(name: str, folder: str, limit: int, seed: int = 31) -> tuple[FeatureRows, ...]:
    """A data set's conversations with labels, `limit` of them at most, in the order of the files.

    Simulated ones are another sample for each seed. StreamError for a set that is not there.
    """
    if name == SIMULATED:
        return simulated_talks(seed, limit)
    stream = (episode for file in SETS[name] for episode in read(Path(folder) / file))
    return tuple(rows for one in islice(stream, limit) if (rows := rows_of(one)) is not None)


def simulated_talks(
    seed: int, count: int, settings: WorldSettings | None = None
) -> tuple[FeatureRows, ...]:
    """Conversations of the simulator with their known truth."""
    return tuple(
        rows for one in episodes(seed, count, settings) if (rows := rows_of(one)) is not None
    )


def in_order(several: Sequence[FeatureRows], seed: int) -> list[FeatureRows]:
    """Seed 0: as recorded. Any other: shuffled, for nothing may hang on a file's order."""
    if seed == 0:
        return list(several)
    order = np.random.default_rng((7, seed)).permutation(len(several))
    return [several[place] for place in order]


class ModelLine:
    """A model and its calibrator on rows, taught as `learning.ledger.model_state` teaches them."""

    def __init__(self, recipe: str = DEFAULT) -> None:
        self.model: HashedClassifier = get_recipe(recipe).build()
        self.calibrator = Calibrator()

    def raw(self, row: Row) -> float:
        return sigmoid(self.model.margin_row(row)[0])

    def score(self, row: Row) -> float:
        """The calibrated probability."""
        return self.calibrator(self.raw(row))

    def learn(
        self, talk: FeatureRows, which: Sequence[int] | None = None, propensity: float = 1.0
    ) -> None:
        """Learn the labels of a conversation's messages: all of them, or those of some numbers."""
        numbers = range(len(talk.rows)) if which is None else which
        rows, labels = ([talk.rows[n] for n in numbers], [talk.labels[n] for n in numbers])
        weights = talk.weights if len(labels) == len(talk.labels) else lesson_weights(labels)
        self._learn(rows, labels, weights, propensity)

    def learn_silence(self, talk: FeatureRows, share: float) -> None:
        """Learn that no person was needed, with a share of a conversation's weight."""
        labels = [0.0] * len(talk.rows)
        self._learn(talk.rows, labels, [share * weight for weight in lesson_weights(labels)])

    def _learn(
        self,
        rows: Sequence[Row],
        labels: Sequence[float],
        weights: Sequence[float],
        propensity: float = 1.0,
    ) -> None:
        raws = [self.raw(row) for row in rows]
        for raw, label, weight in zip(raws, labels, weights, strict=True):
            self.calibrator.learn(raw, label, weight / propensity)
        self.model.learn(rows, labels, weights)


def mean(rows: Iterable[dict[str, Any]], key: str) -> float:
    """The mean of one figure over some rows; NaN of nothing."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else float("nan")
