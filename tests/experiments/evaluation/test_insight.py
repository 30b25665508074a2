"""What a model goes by is told by name, and no name can be traced to few people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.evaluation.attribution import WORD_CONVERSATIONS, FeatureInfluence, InfluenceSample
from learning.models.recipes import RECIPES, get_recipe


def told(recipe: str = "bayes-4", users: int = WORD_CONVERSATIONS) -> dict[str, FeatureInfluence]:
    """A model that learned from `users` conversations that "refund" needs a person, and from as
    many that "thanks" needs none.
    """
    model, seen = get_recipe(recipe).build(), InfluenceSample()
    for number in range(users):
        for word, label in (("refund", 1.0), ("thanks", 0.0)):
            x = {f"user={word}": 1.0, f"user=order_{number}": 1.0, "turns": 0.5}
            seen.add([x, x])
            model.learn_one(x, label)
    return {one.name: one for one in seen.influences(model)}


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_what_moves_a_model_is_told_with_its_direction(recipe: str) -> None:
    found = told(recipe)
    assert found["user=refund"].effect > 0 > found["user=thanks"].effect
    assert found["turns"].value == 0.5
    assert found["turns"].share == 1.0
    assert found["user=refund"].share == 0.5
    assert all(one.spread >= 0 for one in found.values())


def test_the_more_was_learned_the_surer_it_is() -> None:
    few, many = told(users=20)["user=refund"], told(users=200)["user=refund"]
    assert 0 < many.spread < few.spread


@given(st.integers(1, 2 * WORD_CONVERSATIONS))
def test_a_word_is_told_only_if_as_many_conversations_used_it(users: int) -> None:
    found = told(users=users)
    assert ("user=refund" in found) == (users >= WORD_CONVERSATIONS)
    assert not [name for name in found if name.startswith("user=order_")]
    assert "turns" in found


def test_one_conversation_that_says_a_word_often_is_one_conversation() -> None:
    seen, model = InfluenceSample(), get_recipe("bayes-4").build()
    seen.add([{"user=secret": 1.0}] * 100)
    assert seen.influences(model) == []
