"""Study 7, text classification: phrases, a classifier of n-grams, or both, for danger and requests.

    python -m experiments.studies.007_danger_classifier [--write] [--measure FOLDER [--kept]]
        [--cross-validate]

Trains logistic regression on hashed character and word n-grams for five topics: safety, security,
identity, legal (templates in `danger_text/`, fifteen languages), requests for a person
(`request_text/`, 34 languages), and all of them with everyday talk (`further_text/`). All were
written for this project; `(a|b)` is expanded at random, seeded, `{name}` is one of a list, `@` a
name that nobody has heard, with typing errors and everyday sentences around. Sentences that
somebody else labelled (`danger_sentences/`, `request_sentences/`) count several times. `--write`
rounds the weights to integers and writes `learning/text/topic_weights.npz`. `--measure` reads
labelled sentences (`danger_*.jsonl`, `lookalikes_*.jsonl`, `requests_*.jsonl`) and prints counts by
language and kind, never a sentence: so inputs that are kept from the rules can be measured without
being read; with `--kept` of the half alone that nothing was made on. `--cross-validate` prints what
each threshold finds on sentences held out in folds.

Expected on inputs that nobody trained on: both together find more than either alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from learning.text import topic_classifier
from learning.text.lexicon.phrase_matcher import FULL, find
from learning.text.signals import read
from learning.text.tokens import tokens

FURTHER = "further_text"
"""Text for `mixture-5`: all topics in one file a language."""
TEXTS = [Path(__file__).with_name(name) for name in ("danger_text", "request_text", FURTHER)]
SENTENCES = Path(__file__).with_name("danger_sentences")
REQUESTS = Path(__file__).with_name("request_sentences")
SENTENCE_WEIGHT = 10
FOLDS = 3
WEIGHTS = Path(topic_classifier.__file__).with_name("topic_weights.npz")
TOPICS = ("safety", "security", "identity", "legal", "request")
PHRASE_WORTH = {"safety": 250, "security": 300, "identity": 420, "legal": 420, "request": 420}
"""What a phrase of the lexicon adds to the log-odds, in hundredths."""
SHIFT = {"safety": -50, "security": -150, "identity": -80, "legal": -100, "request": -200}
"""What is added to each topic's offset: a missed danger costs more than a look-alike."""
BUCKETS = 1 << 19
SAMPLES = {"safety": 10, "everyday": 10, "request yes": 30, "request no": 20}
"""How often a template is expanded; others 20 times, English ones twice as often."""
FURTHER_SAMPLES = {"everyday no": 40, "safety yes": 40, "request yes": 40}
"""The same in `FURTHER`, whose templates have more choices."""
MISSPELT = {"request": 0.4}
"""The share of texts that are misspelt; others .2."""
REQUESTS_TELL = 0.3
"""What a message about people and bots weighs as one that speaks of no danger."""
SMALL_TALK = "small_talk"
"""The file of everyday sentences, which are most of what is ever read: expanded more often."""
SEED = 11
SCALE = 100
PENALTY = 0.3
_CHOICE = re.compile(r"\(([^()]*)\)")
_TAIL = re.compile("[,،、，][^,،、，]*$")
"""What follows the last comma: a denial is one without its reason, too."""
_LIST = re.compile(r"\{(\w+)\}")

Row = tuple[str, str, bool]
"""A topic, a text, and whether it is genuine."""


def templates(lines: str, lists: Mapping[str, str]) -> list[str]:
    """The templates of a row of lines, with the lists that they name."""
    filled = _LIST.sub(lambda match: f"({lists[match[1]]})", lines)
    return filled.strip().splitlines()


def expand(template: str, chance: random.Random) -> str:
    """One text of a template: innermost choices first."""
    text = template
    while "(" in text:
        chosen = _CHOICE.sub(lambda match: chance.choice(match[1].split("|")), text)
        if chosen == text:
            break
        text = chosen
    while "@" in text:
        text = text.replace("@", made_up(chance), 1)
    return " ".join(text.split()).strip(" ,")


_SOUNDS = (
    "aeiouy", "ckq", "sz", "bpv", "dt", "gj", "mn", "fv", "lr", "оа", "еиэ", "ыи", "тд", "сз", "бп",
)  # fmt: skip
"""Letters that are written for one another."""


def misspell(text: str, chance: random.Random) -> str:
    """One letter in twenty left out, doubled, swapped with the next, or written by its sound, or a
    blank left out, as thumbs do, and people who learned a language by ear.
    """
    if len(text) < 12:
        return text
    for _ in range(chance.randint(1, max(1, len(text) // 20))):
        place = chance.randrange(1, len(text) - 2)
        letter = text[place]
        alike = "".join(row for row in _SOUNDS if letter in row) or letter
        written = chance.choice(("", letter * 2, text[place + 1] + letter, chance.choice(alike)))
        text = text[:place] + written + text[place + 1 + (written == text[place + 1] + letter) :]
    return text


_SYLLABLES = [first + second for first in "bdfgjklmnprstvz" for second in "aeiou"]
_ENDINGS = ["", "", "n", "r", "l", "x", "s", "ra", "do"]
_ENDINGS += [" 2", " 4", " pro", " mini", " max", " 300"]


def made_up(chance: random.Random) -> str:
    """A product's name that nobody has heard: an unknown word is no danger."""
    name = "".join(chance.choice(_SYLLABLES) for _ in range(chance.choice((2, 2, 3))))
    return name[chance.random() < 0.2 :] + chance.choice(_ENDINGS)


def corpus() -> Iterator[Row]:
    """Sentences with their topic and whether they are genuine."""
    for path in [path for folder in TEXTS for path in sorted(folder.glob("*.toml"))]:
        chance = random.Random(f"{SEED} {path.parent.name} {path.stem}")
        table = tomllib.loads(path.read_text("utf-8"))
        lists = table.pop("lists", {})
        harmless = table["everyday"]["no"] if "everyday" in table else table["request"]["no"]
        everyday = templates(harmless, lists)[-12:]
        for topic, answers in table.items():
            for answer, lines in answers.items():
                count = SAMPLES.get(topic, SAMPLES.get(f"{topic} {answer}", 20))
                if path.parent.name == FURTHER:
                    count = FURTHER_SAMPLES.get(f"{topic} {answer}", 20)
                count *= {"en": 2, SMALL_TALK: 10}.get(path.stem, 1)
                for template in templates(lines, lists):
                    for text in sorted({expand(template, chance) for _ in range(count)}):
                        short = (topic, answer) == ("request", "no") and chance.random() < 0.4
                        whole = _TAIL.sub("", text) if short else text
                        varied = _varied(whole, everyday, chance, MISSPELT.get(topic, 0.2))
                        yield topic, varied, answer == "yes"


def _varied(text: str, everyday: Sequence[str], chance: random.Random, misspelt: float) -> str:
    """A text as people write it: often with sentences around it that say nothing, or misspelt."""
    kind = chance.random()
    if kind < 0.12:
        text = f"{text}. {expand(chance.choice(everyday), chance)}"
    elif kind < 0.36:
        before = [expand(chance.choice(everyday), chance) for _ in range(chance.choice((1, 1, 2)))]
        text = ". ".join([*before, text])
    return misspell(text, chance) if chance.random() < misspelt else text


def plain(text: str) -> list[str]:
    """The words of a text, without marks."""
    return [word for word in tokens(text).words if word not in ".,"]


def features(text: str) -> list[int]:
    return [topic_classifier.bucket(n, BUCKETS) for n in topic_classifier.ngrams(plain(text))]


def matrix(texts: Sequence[str]) -> csr_matrix:
    rows = [features(text) for text in texts]
    starts = np.cumsum([0, *map(len, rows)])
    places = np.fromiter((place for row in rows for place in row), dtype=np.int32)
    made = csr_matrix((np.ones(len(places)), places, starts), shape=(len(rows), BUCKETS))
    made.sum_duplicates()
    return made


def labelled() -> list[Row]:
    """Whole sentences that somebody wrote who did not see the rules: the half to make them on."""
    return [row for row, _ in _sentences()]


def _sentences() -> Iterator[tuple[Row, str]]:
    """The same, with the language of each."""
    for path in [*sorted(SENTENCES.glob("*.jsonl")), *sorted(REQUESTS.glob("*.jsonl"))]:
        for line in path.read_text("utf-8").splitlines():
            yield _labels(json.loads(line))


def _labels(row: dict[str, Any]) -> tuple[Row, str]:
    if "request" in row:
        return ("request", row["text"], row["request"]), row["lang"]
    genuine = row["danger"] if "danger" in row else row["expect"] == "fire"
    return (row.get("rule", "safety"), row["text"], genuine), row.get("lang", "en")


def train(
    rows: Sequence[Row], made: csr_matrix, importance: np.ndarray[Any, Any]
) -> dict[str, tuple[int, np.ndarray[Any, Any]]]:
    """Offset and weights by topic, as integers, of rows and their features."""
    from sklearn.linear_model import LogisticRegression

    learned = {}
    for topic in TOPICS:
        tells = np.array([_tells(topic, row) for row in rows])
        chosen = np.flatnonzero(tells).tolist()
        labels = [rows[i][0] == topic and rows[i][2] for i in chosen]
        model = LogisticRegression(C=PENALTY, max_iter=100)
        model.fit(made[chosen], labels, sample_weight=(importance * tells)[chosen])
        rounded = np.clip(np.rint(model.coef_[0] * SCALE), -127, 127).astype(np.int8)
        learned[topic] = (round(model.intercept_[0] * SCALE), rounded)
    return learned


def _tells(topic: str, row: Row) -> float:
    """How much a row says of a topic. Genuine for another, it may well be of both; and words about
    people and bots are weak look-alikes of danger (at their full weight less of it is found).
    """
    if row[0] == topic or (row[0] == "everyday" and not row[2]):
        return 1.0
    if row[0] == "request":
        return REQUESTS_TELL
    return 0.0 if row[2] or topic == "request" else 1.0


def learn(rows: Sequence[Row], sentences: Sequence[Row]) -> bytes:
    """The file of weights that templates' and people's sentences give."""
    every = [*rows, *sentences]
    importance = np.array([1.0] * len(rows) + [float(SENTENCE_WEIGHT)] * len(sentences))
    learned = train(every, matrix([text for _, text, _ in every]), importance)
    topics = {name: (bias + SHIFT[name], PHRASE_WORTH[name]) for name, (bias, _) in learned.items()}
    return topic_classifier.dump(topics, [column for _, column in learned.values()])


def cross_validate() -> list[str]:
    """For each topic, what a phrase is worth and each threshold: what is found on held-out
    sentences, of the genuine ones and of the harmless ones, in English and elsewhere.
    """
    rows, labels = list(corpus()), list(_sentences())
    sentences = [row for row, _ in labels]
    every = [*rows, *sentences]
    made = matrix([text for _, text, _ in every])
    order = list(range(len(sentences)))
    random.Random(SEED).shuffle(order)
    points = np.zeros(len(sentences))
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        importance = np.array([1.0] * len(rows) + [float(SENTENCE_WEIGHT)] * len(sentences))
        importance[[len(rows) + place for place in held]] = 0.0
        learned = train(every, made, importance)
        for place in held:
            bias, column = learned[sentences[place][0]]
            points[place] = bias + made[len(rows) + place].dot(column)[0]
    return list(_operating_points(labels, points))


def _operating_points(
    labels: Sequence[tuple[Row, str]], points: np.ndarray[Any, Any]
) -> Iterator[str]:
    phrases = np.array([by_phrases(row[1], row[0], language) for row, language in labels])
    groups = [(row[0], row[2], _group(row[0], language)) for row, language in labels]
    for topic in TOPICS:
        for worth in (0, 200, 300, 400, 500, 800):
            for shift in (0, -50, -100, -150, -200, -250, -300):
                fires = points + worth * phrases + shift >= 0
                yield f"{topic:<9} worth {worth} shift {shift:>5}: " + "  ".join(
                    f"{name} {'genuine' if genuine else 'harmless'} {fires[chosen].mean():.3f}"
                    for name, genuine in product(_GROUPS[topic == "request"], (True, False))
                    if any(
                        chosen := np.array([group == (topic, genuine, name) for group in groups])
                    )
                )


_GROUPS = (("en", "others"), ("fifteen", "nineteen"))


def _group(topic: str, language: str) -> str:
    if topic == "request":
        return "fifteen" if language in FULL else "nineteen"
    return "en" if language == "en" else "others"


# -- measuring ------------------------------------------------------------------------------------


def by_phrases(text: str, topic: str, language: str | None = None) -> bool:
    return any(match.signal == topic for match in find(text, None, language))


def by_classifier(text: str, topic: str, _language: str | None = None) -> bool:
    return topic_classifier.score(plain(text)).scores[topic] >= 0


def by_both(text: str, topic: str, language: str | None = None) -> bool:
    signals = read(text, language)
    return signals.request is not None if topic == "request" else topic in signals.topics


def is_kept(text: str) -> bool:
    """Whether a sentence is of the half that nothing was made or chosen on."""
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 1


def measure(
    folder: Path, fires: Callable[[str, str, str], bool], kept: bool = False
) -> dict[str, list[int]]:
    """By set, language and kind: how many fired, and of how many; of the kept half alone."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    names = ("danger_*.jsonl", "lookalikes_*.jsonl", "requests_*.jsonl")
    for path in sorted(path for name in names for path in folder.glob(name)):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            (topic, text, genuine), language = _labels(row)
            if kept and not is_kept(text):
                continue
            name = "genuine" if genuine else "harmless"
            one = fires(text, topic, language)
            kind = row.get("kind") or row.get("style") or row["expect"]
            for key in (
                f"{path.stem.split('_')[0]} {topic} {name} {_group(topic, language)}",
                f"by language: {topic} {name} {language}",
                f"by kind: {topic} {name} {kind}",
            ):
                counts[key][0] += one
                counts[key][1] += 1
    return dict(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", type=Path)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--cross-validate", action="store_true")
    asked = parser.parse_args()
    if asked.cross_validate:
        print("\n".join(cross_validate()))
    if asked.write:
        rows = list(corpus())
        WEIGHTS.write_bytes(learn(rows, labelled()))
        print(f"{len(rows)} sentences; {WEIGHTS.stat().st_size} bytes written")
    if asked.measure:
        ways = {"phrases": by_phrases, "classifier": by_classifier, "both": by_both}
        tables = {name: measure(asked.measure, fires, asked.kept) for name, fires in ways.items()}
        print(f"{'fired of all':<52}" + "".join(f"{name:>14}" for name in ways))
        for key in sorted(tables["both"]):
            cells = [f"{tables[name][key][0]}/{tables[name][key][1]}" for name in ways]
            print(f"{key:<52}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
