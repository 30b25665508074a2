"""Danger, security, identity and legal, by language and kind; and the classifier itself."""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from importlib import resources

import pytest

from learning.text.signals import read
from learning.text.tokens import tokens
from learning.text.topic_classifier import pack, parse, score, unpack, weights

study = importlib.import_module("experiments.studies.007_danger_classifier")
COUNTS = study.measure(study.SENTENCES, study.by_both)


@pytest.mark.parametrize("key", [key for key in COUNTS if "safety genuine" in key])
def test_danger_is_recognised_in_every_language_and_kind(key: str) -> None:
    fired, of = COUNTS[key]
    assert fired / of >= 0.92, key


@pytest.mark.parametrize("topic", ["safety", "security", "identity", "legal"])
def test_harmless_look_alikes_rarely_fire_and_genuine_ones_do(topic: str) -> None:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for key, (fired, of) in COUNTS.items():
        if key.startswith(f"by language: {topic}"):
            answer = sums[key.split()[3]]
            answer[0], answer[1] = answer[0] + fired, answer[1] + of
    assert sums["harmless"][0] / sums["harmless"][1] <= 0.10
    assert sums["genuine"][0] / sums["genuine"][1] >= 0.90


def test_the_words_that_weighed_most_are_the_evidence() -> None:
    text = "hello, about my booking: thick black smoke is pouring out of the dryer, what do i do"
    words = dict(read(text).evidence)["safety"]
    assert words in text
    assert "smoke" in words


def test_danger_is_found_anywhere_in_a_long_text() -> None:
    filler = "The parcel with the blue lamp arrived on Tuesday and the invoice is right. " * 60
    middle = "My husband beats me and locked me in, please help me. "
    assert "safety" not in read(filler).topics
    assert "safety" in read(filler + middle + filler).topics


def test_a_mere_mention_is_told_apart() -> None:
    assert "legal" not in read("My brother is a lawyer and likes your plan").topics
    assert "legal_mention" in read("My brother is a lawyer and likes your plan").topics


def test_packed_integers_add_up_and_come_apart() -> None:
    assert unpack(pack([-3, 5, -100]) + pack([1, -7, 40]), 3) == [-2, -2, -60]


def test_a_damaged_file_is_refused() -> None:
    text = (resources.files("learning.text") / "topic_weights.json").read_text("utf-8")
    document = json.loads(text)
    assert parse(document) == weights()
    with pytest.raises(ValueError, match="damaged"):
        parse({**document, "sha256": "0" * 64})


def test_a_text_without_words_has_no_topic() -> None:
    assert score(tokens("?!").words).places == ()
    assert read("?!").topics == ()
