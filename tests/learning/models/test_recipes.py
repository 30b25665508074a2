"""One contract, held by every recipe."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import os
import random
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base, checks

from learning.ledger import checkpoint
from learning.ledger.model_state import ModelState
from learning.models.hashed_features import HashedClassifier, Row
from learning.models.hyperparameters import Parameter
from learning.models.recipes import DEFAULT, RECIPES, UnknownRecipe, get_recipe

every_recipe = pytest.mark.parametrize("name", list(RECIPES))
one_recipe = pytest.mark.parametrize(
    "name",
    [name if name == DEFAULT else pytest.param(name, marks=pytest.mark.long) for name in RECIPES],
)
Lesson = tuple[dict[Any, float], float, float]


def taught(n: int, seed: int = 0) -> list[Lesson]:
    """Noisy lessons: a few words and context values decide, most do not."""
    draw = random.Random(seed)
    found = []
    for _ in range(n):
        words = [f"user=w{draw.randrange(200)}" for _ in range(8)]
        x: dict[Any, float] = {
            "turns": draw.random(),
            "failures": float(draw.randrange(3)),
            **dict.fromkeys(words, 1.0),
        }
        margin = 2 * x["failures"] - 2.5 + sum(3.0 for w in words if w in ("user=w1", "user=w2"))
        found.append(
            (x, float(draw.random() < 1 / (1 + math.exp(-margin))), draw.choice([0.5, 1.0]))
        )
    return found


def learned(name: str, lessons: list[Lesson]) -> HashedClassifier:
    model = RECIPES[name].build()
    for x, y, w in lessons:
        model.learn_one(x, y, w)
    return model


def digest(model: HashedClassifier) -> str:
    meta, arrays = model.dump()
    found = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for key in sorted(arrays):
        found.update(key.encode() + arrays[key].tobytes())
    return found.hexdigest()


@one_recipe
def test_it_is_a_genuine_river_classifier(name: str) -> None:
    model = RECIPES[name].build()
    assert isinstance(model, base.Classifier)
    checks.check_estimator(model)


@pytest.mark.parametrize("name", ["adagrad-4", DEFAULT])
def test_its_attribution_is_what_the_log_odds_lose_without_the_features(name: str) -> None:
    model = learned(name, taught(200))
    x = {"turns": 0.4, "failures": 1.0, "user=w1": 1.0, "user=w7": 0.5}
    groups: list[frozenset[str]] = [frozenset(["user=w1"]), frozenset(["failures", "turns"])]
    lost = [
        model.margin_row(Row(x, model.buckets))[0]
        - model.margin_row(Row({k: v for k, v in x.items() if k not in group}, model.buckets))[0]
        for group in groups
    ]
    row = Row(x, model.buckets)
    assert model.attribute(row, [*groups, frozenset(["absent"])]) == pytest.approx([*lost, 0.0])


@every_recipe
def test_its_name_ends_in_its_version_and_a_sentence_says_what_it_is(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*-\d+", name)
    assert RECIPES[name].name == name
    assert len(RECIPES[name].sentence.split()) > 5


def test_the_default_is_one_of_at_least_three() -> None:
    assert DEFAULT in RECIPES
    assert len(RECIPES) >= 3


@every_recipe
def test_learning_helps(name: str) -> None:
    model, correct = learned(name, taught(1500)), 0
    for x, y, _ in taught(500, seed=1):
        correct += (model.predict_proba_one(x)[True] > 0.5) == (y > 0.5)
    assert correct > 360


@every_recipe
def test_dumped_and_loaded_midway_it_goes_on_to_the_same_bits(name: str) -> None:
    lessons = taught(300)
    live = learned(name, lessons[:150])
    loaded = RECIPES[name].build()
    meta, arrays = live.dump()
    loaded.load(json.loads(json.dumps(meta)), arrays)
    for x, y, w in lessons[150:]:
        assert loaded.predict_proba_one(x) == live.predict_proba_one(x)
        assert loaded.assess_one(x)[1] == live.assess_one(x)[1]
        loaded.learn_one(x, y, w)
        live.learn_one(x, y, w)
    assert digest(loaded) == digest(live)


@every_recipe
def test_a_dump_is_not_touched_by_later_learning_nor_a_load_by_its_source(name: str) -> None:
    model = learned(name, taught(20))
    meta, arrays = model.dump()
    kept = copy.deepcopy((meta, arrays))
    other = RECIPES[name].build()
    other.load(meta, arrays)
    for x, y, w in taught(20, seed=2):
        model.learn_one(x, y, w)
        other.learn_one(x, y, w)
    assert json.dumps(meta) == json.dumps(kept[0])
    assert all(np.array_equal(arrays[key], kept[1][key]) for key in kept[1])


@pytest.mark.long
@one_recipe
def test_another_process_under_another_hash_seed_learns_the_same_bits(name: str) -> None:
    program = (
        f"from tests.learning.models.test_recipes import digest, learned, taught\n"
        f"print(digest(learned({name!r}, taught(200))))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "77")
    }
    assert found == {digest(learned(name, taught(200)))}


@every_recipe
def test_scoring_changes_nothing(name: str) -> None:
    model = learned(name, taught(50))
    before = digest(model)
    for x, _, _ in taught(50, seed=3):
        model.predict_proba_one(x)
        model.predict_one(x)
        model.assess_one(x)[1]
    assert digest(model) == before


BROKEN: list[dict[str, Any]] = [
    {"turns": math.nan},
    {"turns": math.inf, "user=a": -math.inf},
    {"turns": 1e308, "user=a": -1e308},
    {"turns": None, "user=a": "words", "user=b": [1]},
    {"turns": 10**400},
]


@every_recipe
@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_values_that_are_no_finite_number_poison_nothing(name: str, broken: dict[str, Any]) -> None:
    model = learned(name, taught(50))
    for _ in range(3):
        model.learn_one({**broken, "failures": 1.0}, True)
    for x in ({"failures": 1.0}, {"turns": 1.0, "user=a": 1.0}, broken, {}):
        p = model.predict_proba_one(x)[True]
        assert 0.0 <= p <= 1.0
        assert math.isfinite(model.assess_one(x)[1])
        assert model.assess_one(x)[1] >= 0.0


@every_recipe
def test_a_value_that_is_no_finite_number_counts_as_absent(name: str) -> None:
    model = learned(name, taught(100))
    x = {"failures": 2.0, "user=w1": 1.0}
    assert model.predict_proba_one({**x, "turns": math.nan}) == model.predict_proba_one(x)


@every_recipe
def test_words_never_met_are_less_certain_than_known_ones(name: str) -> None:
    model = learned(name, taught(500))
    known = model.assess_one({"user=w1": 1.0, "user=w3": 1.0})[1]
    assert model.assess_one({"user=never": 1.0, "user=met": 1.0})[1] > known


@every_recipe
def test_a_weight_of_zero_teaches_nothing(name: str) -> None:
    model = learned(name, taught(50))
    before = digest(model)
    model.learn_one({"turns": 1.0, "user=w1": 1.0}, True, 0.0)
    assert digest(model) == before


@every_recipe
def test_one_lesson_of_enormous_weight_does_not_decide_alone(name: str) -> None:
    model = RECIPES[name].build()
    model.learn_one({"turns": 1.0}, True, 1e9)
    assert 0.5 < model.predict_proba_one({"turns": 1.0})[True] < 0.95


@every_recipe
@pytest.mark.parametrize("y, w", [(1.5, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.inf)])
def test_a_label_or_weight_out_of_range_is_refused_and_changes_nothing(
    name: str, y: float, w: float
) -> None:
    model = RECIPES[name].build()
    before = digest(model)
    with pytest.raises(ValueError, match=r"label lies|weight is"):
        model.learn_one({"turns": 1.0}, y, w)
    assert digest(model) == before


@every_recipe
def test_soft_labels_are_learned_as_shares(name: str) -> None:
    model = RECIPES[name].build()
    for _ in range(600):
        model.learn_one({"turns": 1.0}, 0.3)
    assert model.predict_proba_one({"turns": 1.0})[True] == pytest.approx(0.3, abs=0.04)


@every_recipe
def test_memory_does_not_grow_with_the_number_of_words_met(name: str) -> None:
    model = RECIPES[name].build()
    for n in range(500):
        model.learn_one({f"user=old{n}_{k}": 1.0 for k in range(20)}, n % 3 == 0)
    before = model._raw_memory_usage
    for n in range(2000):
        model.learn_one({f"user=new{n}_{k}": 1.0 for k in range(20)}, n % 3 == 0)
    assert model._raw_memory_usage < before + 16_384


@every_recipe
def test_a_fresh_dump_is_small(name: str) -> None:
    _, arrays = RECIPES[name].build().dump()
    assert sum(array.nbytes for array in arrays.values()) < 4096


@every_recipe
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(max_size=6), st.floats(-1e6, 1e6), max_size=5),
            st.floats(0, 1),
            st.floats(0, 1e6),
        ),
        max_size=20,
    )
)
def test_whatever_is_learned_the_probability_stays_one(name: str, lessons: list[Lesson]) -> None:
    model = learned(name, lessons)
    for x, _, _ in lessons:
        found = model.predict_proba_one(x)
        assert 0.0 <= found[True] <= 1.0
        assert found[True] + found[False] == pytest.approx(1.0)


@every_recipe
def test_its_parameters_have_defaults_that_say_what_they_are(name: str) -> None:
    kind = type(RECIPES[name].build())
    for parameter in inspect.signature(kind).parameters:
        assert parameter in (kind.__doc__ or "")


# Recipes with parameters


def test_parameters_are_part_of_a_recipe_s_name_in_one_spelling() -> None:
    said = ("bayes-4?v0=.30,forgetting=0.0", "bayes-4?v0=3e-1", "bayes-4?forgetting=0,v0=0.3")
    assert {get_recipe(name).name for name in said} == {"bayes-4?v0=0.3"}
    assert get_recipe("bayes-4?v0=0.1").name == get_recipe("bayes-4?").name == "bayes-4"
    assert get_recipe("mixture-5?variances=.1:.3,rates=.05").name == (
        "mixture-5?variances=0.1:0.3,rates=0.05"
    )


@every_recipe
def test_every_parameter_reaches_the_estimator(name: str) -> None:
    recipe = RECIPES[name]
    numbers = {name: one for name, one in recipe.parameters.items() if isinstance(one, Parameter)}
    assert numbers
    for parameter, known in numbers.items():
        text = {"buckets": "16384", "held": "100", "visits": "2"}.get(parameter, "0.25")
        built = get_recipe(f"{name}?{parameter}={text}").build()
        assert getattr(built, parameter) == known.parse(text)
        assert getattr(recipe.build(), parameter) == known.default


def test_what_is_learned_with_parameters_is_another_model_and_survives_its_bytes() -> None:
    plain, other = ModelState(recipe="bayes-4"), ModelState(recipe="bayes-4?v0=.3")
    assert checkpoint.digest(plain) != checkpoint.digest(other)
    loaded = checkpoint.load(checkpoint.dump(other))
    assert loaded.recipe == "bayes-4?v0=0.3"
    assert checkpoint.digest(loaded) == checkpoint.digest(other)


@pytest.mark.parametrize(
    "name,said",
    [
        ("bayes-9", "there is no recipe 'bayes-9'; there are mixture-5, "),
        ("bayes-4?v1=2", "there is no parameter 'v1'; there are v0=0.1"),
        ("bayes-4?v0=x", "parameter v0 cannot be 'x'"),
        ("bayes-4?v0=nan", "parameter v0 cannot be 'nan' (from 1e-06 to 100)"),
        ("bayes-4?v0=-1", "parameter v0 cannot be '-1'"),
        ("bayes-4?v0=1,v0=2", "given twice"),
        ("bayes-4?buckets=0.5", "parameter buckets cannot be"),
        ("mixture-5?rates=1:1:1:1:1", "at most 4"),
    ],
)
def test_a_name_that_cannot_be_built_is_refused_with_what_can(name: str, said: str) -> None:
    with pytest.raises(UnknownRecipe, match=re.escape(said)):
        get_recipe(name)
