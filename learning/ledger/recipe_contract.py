"""The contract of a recipe, as checks that can be run on any: what every process relies on.

Each check is a sentence; one that fails raises AssertionError with what was found.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from learning.models.recipes import get_recipe

LESSONS, BYTES_MAX = 300, 64 * 2**20
Example = tuple[dict[str, float], float, float]
Check = Callable[[str], None]


def examples(lessons: int = LESSONS, seed: int = 0) -> list[Example]:
    """Noisy lessons (features, label, weight): a few words and numbers decide, most do not."""
    draw, drawn = _uniform(seed), []
    for _ in range(lessons):
        words = [f"user=w{int(200 * next(draw))}" for _ in range(8)]
        x = {"turns": next(draw), "failures": float(int(3 * next(draw)))}
        x |= dict.fromkeys(words, 1.0)
        margin = 2 * x["failures"] - 2.5 + 3.0 * len({"user=w1", "user=w2"} & set(words))
        label = float(next(draw) < 1 / (1 + math.exp(-margin)))
        drawn.append((x, label, 0.5 if next(draw) < 0.5 else 1.0))
    return drawn


def _uniform(seed: int) -> Iterator[float]:
    """A fixed sequence of numbers in [0, 1): the same in every process."""
    for n in count(seed * 1_000_003):
        yield int.from_bytes(hashlib.sha256(str(n).encode()).digest()[:6]) / 2**48


def taught(name: str, lessons: Sequence[Example]) -> Any:
    """A fresh model of a recipe that has learned these lessons."""
    model = get_recipe(name).build()
    for x, y, w in lessons:
        model.learn_one(dict(x), y, w)
    return model


def state_digest(model: Any) -> str:
    """SHA-256 of a model's dumped state."""
    meta, arrays = model.dump()
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def answers_with_probabilities(name: str) -> None:
    """It answers with a probability, before it has learned anything and after."""
    tests = [x for x, _, _ in examples(40, seed=1)] + [{}, {"never seen": 1.0}]
    for model in (taught(name, []), taught(name, examples())):
        for x in tests:
            p = model.predict_proba_one(dict(x))[True]
            assert isinstance(p, float), f"{p!r} is no number"
            assert 0.0 <= p <= 1.0, f"{p!r} is no probability"


def scoring_changes_nothing(name: str) -> None:
    """Scoring changes nothing of what was learned, nor the features that it is given."""
    model = taught(name, examples(100))
    before = state_digest(model)
    for x, _, _ in examples(40, seed=2):
        given = dict(x)
        model.predict_proba_one(given)
        assert given == x, "it changed the features that it was given"
    assert state_digest(model) == before, "its state is another after it has scored"


def learning_is_the_same_each_time(name: str) -> None:
    """The same lessons in the same order give the same state."""
    first, second = (state_digest(taught(name, examples())) for _ in range(2))
    assert first == second, "two models that learned the same differ: seed what is random"


def state_is_plain(name: str) -> None:
    """Its state is JSON and arrays of numbers, of at most 64 MB."""
    meta, arrays = taught(name, examples()).dump()
    size = len(json.dumps(meta, allow_nan=False))
    for key, array in arrays.items():
        assert isinstance(array, np.ndarray), f"{key} is no array"
        assert array.dtype.kind in "biufSU", f"{key} is no array of numbers or text"
        size += array.nbytes
    assert size <= BYTES_MAX, f"its state has {size} bytes; {BYTES_MAX} are the most"


def is_restored_exactly(name: str) -> None:
    """A restored state is the same, and learns on as the first does."""
    model, again = taught(name, examples()), get_recipe(name).build()
    meta, arrays = model.dump()
    again.load(json.loads(json.dumps(meta)), {key: array.copy() for key, array in arrays.items()})
    assert state_digest(again) == state_digest(model), "what was restored is not what was dumped"
    for x, y, w in examples(50, seed=3):
        model.learn_one(dict(x), y, w)
        again.learn_one(dict(x), y, w)
    assert state_digest(again) == state_digest(model), "what was restored learns otherwise"


def takes_soft_labels_and_weights(name: str) -> None:
    """Labels between 0 and 1 and weights of any size are learned, and stay finite."""
    model = taught(name, [(x, 0.3, w * 50) for x, _, w in examples(60)])
    for x, _, _ in examples(20, seed=4):
        assert math.isfinite(model.predict_proba_one(dict(x))[True])
    light, heavy = (taught(name, [({"failures": 1.0}, 1.0, w)] * 3) for w in (0.01, 1.0))
    low, high = (model.predict_proba_one({"failures": 1.0})[True] for model in (light, heavy))
    assert low <= high, "a heavier lesson teaches less than a light one"


def learns(name: str) -> None:
    """It ranks what it has not seen better than chance: AUC above .6 after 300 lessons."""
    model = taught(name, examples())
    scored = [(model.predict_proba_one(dict(x))[True], y) for x, y, _ in examples(300, seed=5)]
    positive = [p for p, y in scored if y > 0.5]
    negative = [p for p, y in scored if y <= 0.5]
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    auc = wins / (len(positive) * len(negative))
    assert auc > 0.6, f"its AUC is {auc:.3f}"


CONTRACT: Mapping[str, Check] = {
    str(check.__doc__): check
    for check in (
        answers_with_probabilities,
        scoring_changes_nothing,
        learning_is_the_same_each_time,
        state_is_plain,
        is_restored_exactly,
        takes_soft_labels_and_weights,
        learns,
    )
}
