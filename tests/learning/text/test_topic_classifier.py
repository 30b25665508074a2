"""Danger, security, identity and legal, by language and kind; and the classifier itself."""

from __future__ import annotations

import importlib
import io
from collections import defaultdict
from importlib import resources

import numpy as np
import pytest

from learning.text.signals import read
from learning.text.topic_classifier import pack, parse, score, unpack, weights

study = importlib.import_module("experiments.studies.007_danger_classifier")

Counts = dict[str, tuple[int, int]]
"""How many sentences fired, and of how many, by language or kind."""


@pytest.fixture(scope="module")
def counts() -> Counts:
    return dict(study.measure(study.SENTENCES, study.by_both))


def shares(counts: Counts, words: str) -> dict[str, float]:
    """The share that fired, of the lines with these words."""
    found = {key: fired / of for key, (fired, of) in counts.items() if words in key}
    assert found
    return found


def test_danger_is_recognised_in_every_language_and_kind(counts: Counts) -> None:
    found = shares(counts, "safety genuine")
    assert {key: share for key, share in found.items() if share < 0.92} == {}


@pytest.mark.parametrize("topic", ["safety", "security", "identity", "legal"])
def test_harmless_look_alikes_rarely_fire_and_genuine_ones_do(topic: str, counts: Counts) -> None:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for key, (fired, of) in counts.items():
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
    data = (resources.files("learning.text") / "topic_weights.npz").read_bytes()
    assert parse(data) == weights()
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["weights"][0, 0] += 1
    changed = io.BytesIO()
    np.savez(changed, allow_pickle=False, **arrays)
    for damaged in (changed.getvalue(), data[:-100], b"{}"):
        with pytest.raises(ValueError, match="damaged"):
            parse(damaged)


def test_a_short_text_scores_the_sum_of_its_ngrams() -> None:
    for text in ("my account was hacked yesterday", "mein Konto wurde gehackt", "我要人工客服"):
        words = study.plain(text)
        assert tuple(score(words).scores.values()) == study.topic_classifier.total(words, weights())


def test_a_text_without_words_has_no_topic() -> None:
    assert score(study.plain("?!")).words == []
    assert read("?!").topics == ()


def test_requests_for_a_person_are_found_in_every_language() -> None:
    counts = study.measure(study.REQUESTS, study.by_both)
    found = shares(counts, "by language")
    genuine = {key: share for key, share in found.items() if "genuine" in key}
    assert {key: share for key, share in genuine.items() if share < 0.85} == {}
    assert {key: share for key, share in found.items() - genuine.items() if share > 0.07} == {}


@pytest.mark.parametrize(
    "language, text",
    [
        ("en", "for the love of god let me deal with an actual member of staff about my bill"),
        ("de", "also ich hätt das jetzt gern mit wem echten bequatscht, nicht mit ner Maschine"),
        ("sv", "kan inte någon av er bara ringa upp mig så vi kan prata"),
        ("id", "mbak tolong dong sambungin gue sama orang beneran"),
    ],
)
def test_the_words_of_a_request_are_its_evidence(language: str, text: str) -> None:
    request = read(text, language).request
    assert request is not None
    assert request in text


@pytest.mark.parametrize(
    "text",
    [
        "does the new Solvo air fryer use more power than the old one",
        "since you are here: our kettle switches itself off again, is that the guarantee",
        "my grandma's blood pressure tablets arrived a day late, thanks anyway",
        "nobody came on friday although the technician had promised, i am not amused",
        "der Mixer läuft wieder, danke. was kostet der passende Deckel",
        "le nouveau radiateur est-il plus silencieux que l'ancien",
    ],
)
def test_everyday_talk_of_devices_and_service_is_no_danger(text: str) -> None:
    found = read(text)
    assert found.request is None
    assert not {"safety", "security", "identity", "legal"} & set(found.topics)


@pytest.mark.parametrize(
    "language, text",
    [
        ("nl", "graag medewrker spreeken"),
        ("ru", "саедините миня с аператором пожалуста"),
        ("es", "quiero ablar con un ajente"),
        ("en", "pleese conect me to a humann ajent"),
    ],
)
def test_a_request_is_found_as_it_sounds(language: str, text: str) -> None:
    assert read(text, language).request is not None


def test_words_that_sound_alike_have_the_same_consonants() -> None:
    skeleton = study.topic_classifier.skeleton
    assert skeleton("persohn") == skeleton("person") == "prsn"
    assert skeleton("саедините") == skeleton("соедините")
    assert skeleton("a") == ""


def test_saying_for_the_third_time_asks_for_nobody_and_coming_on_a_day_is_no_anger() -> None:
    asked = read("this is the THIRD time I ask where my parcel is")
    assert asked.request is None
    assert "exasperation" in dict(asked.evidence)
    assert read("come on monday please").frustration == 0
    assert read("oh come on!").frustration > 0
