"""The packaged prior: what is known before the first lesson, and where it comes from."""

from __future__ import annotations

import importlib
from importlib import resources

import pytest

from learning.conversation.features import CONTEXT
from learning.models.hashed_features import RESERVED
from learning.models.mixture.expert_mixture import Mixture
from learning.models.mixture.packaged_prior import BIAS, prior


def test_it_is_what_the_simulator_teaches_to_the_last_digit() -> None:
    """So nobody's text is in it, and whoever doubts it makes it again."""
    packaged = importlib.import_module("experiments.studies.003_packaged_prior")
    text = (resources.files("learning.models.mixture") / "prior.toml").read_text(encoding="utf-8")
    assert packaged.made() == text
    assert len(text) < 4096


def test_it_weighs_context_and_no_words() -> None:
    names = dict.fromkeys((BIAS, *CONTEXT))
    text = (resources.files("learning.models.mixture") / "prior.toml").read_text(encoding="utf-8")
    named = [line.split(" = ")[0] for line in text.splitlines() if " = " in line]
    assert set(named) <= names.keys()
    assert not any(name.startswith("reply_") for name in named), "it knows nothing of the bot's own"
    assert all(0 <= place < RESERVED for place in prior())


@pytest.mark.parametrize("worse", [{"failures": 1.0}, {"request": 1.0}, {"gloom": -1.0}])
def test_a_fresh_model_already_knows_what_bodes_ill(worse: dict[str, float]) -> None:
    fresh, empty = Mixture(), Mixture(start=0.0)
    assert fresh.assess_one({"turns": 0.1, **worse})[0] > fresh.assess_one({"turns": 0.1})[0]
    assert empty.assess_one({"turns": 0.1, **worse})[0] == 0.5


def test_a_few_labels_overrule_it() -> None:
    model = Mixture()
    for n in range(60):
        model.learn_one({"failures": float(n % 2)}, n % 2 == 0)
    assert model.assess_one({"failures": 1.0})[0] < model.assess_one({"failures": 0.0})[0]
