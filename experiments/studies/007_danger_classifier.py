"""Study 7, text classification: phrases, a classifier of n-grams, or both, for danger.

    python -m experiments.studies.007_danger_classifier [--write] [--measure FOLDER]
        [--cross-validate]

Trains logistic regression on hashed character and word n-grams for four topics (safety, security,
identity, legal), on the templates in `danger_text/` (written for this project; `(a|b)` is expanded
at random, seeded), with typing errors, missing accents and everyday sentences around. `--write`
rounds the weights to integers and writes `learning/text/topic_weights.json`. `--measure` reads
labelled sentences (`danger_*.jsonl`, `lookalikes_*.jsonl`) and prints counts by language and kind,
never a sentence: so inputs that are kept from the rules can be measured without being read.

Expected on inputs that nobody trained on: both together find more danger than either alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import tomllib
import zlib
from base64 import b85encode
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from learning.text import topic_classifier
from learning.text.lexicon.phrase_matcher import find
from learning.text.signals import read
from learning.text.tokens import tokens

TEXTS = Path(__file__).with_name("danger_text")
SENTENCES = Path(__file__).with_name("danger_sentences")
SENTENCE_WEIGHT = 3
FOLDS = 5
WEIGHTS = Path(topic_classifier.__file__).with_name("topic_weights.json")
TOPICS = ("safety", "security", "identity", "legal")
PHRASE_WORTH = {"safety": 500, "security": 800, "identity": 800, "legal": 400}
"""What a phrase of the lexicon adds to the log-odds, in hundredths."""
SHIFT = {"safety": -250, "security": -250, "identity": -150, "legal": -100}
"""What is added to each topic's offset: a missed danger costs more than a look-alike."""
BUCKETS = 1 << 16
SAMPLES = 10
SEED = 11
SCALE = 100
PENALTY = 1.0
_CHOICE = re.compile(r"\(([^()]*)\)")


def expand(template: str, chance: random.Random) -> str:
    text = _CHOICE.sub(lambda match: chance.choice(match[1].split("|")), template)
    return " ".join(text.split())


def misspell(text: str, chance: random.Random) -> str:
    """One letter left out or two swapped, as thumbs do."""
    if len(text) < 12:
        return text
    place = chance.randrange(1, len(text) - 2)
    if chance.random() < 0.5:
        return text[:place] + text[place + 1 :]
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def corpus() -> Iterator[tuple[str, str, bool]]:
    """Sentences with their topic and whether they are genuine."""
    for path in sorted(TEXTS.glob("*.toml")):
        chance = random.Random(f"{SEED} {path.stem}")
        table = tomllib.loads(path.read_text("utf-8"))
        everyday = table["everyday"]["no"].strip().splitlines()
        for topic, lists in table.items():
            for answer, lines in lists.items():
                for template in lines.strip().splitlines():
                    count = SAMPLES * (1 if topic in ("safety", "everyday") else 2)
                    count *= 2 if path.stem == "en" else 1
                    for text in sorted({expand(template, chance) for _ in range(count)}):
                        yield topic, _varied(text, everyday, chance), answer == "yes"


def _varied(text: str, everyday: Sequence[str], chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.15:
        text = f"{text}. {expand(chance.choice(everyday), chance)}"
    elif kind < 0.3:
        text = f"{expand(chance.choice(everyday), chance)}. {text}"
    return misspell(text, chance) if chance.random() < 0.2 else text


def features(text: str) -> list[int]:
    return [
        topic_classifier.bucket(n, BUCKETS) for n in topic_classifier.ngrams(tokens(text).words)
    ]


def labelled() -> list[tuple[str, str, bool]]:
    """Whole sentences that somebody wrote who did not see the rules: the half to make them on."""
    rows = []
    for path in sorted(SENTENCES.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            genuine = row["danger"] if "danger" in row else row["expect"] == "fire"
            rows.append((row.get("rule", "safety"), row["text"], genuine))
    return rows


def train(
    rows: Sequence[tuple[str, str, bool]], sentences: Sequence[tuple[str, str, bool]]
) -> dict[str, tuple[int, np.ndarray[Any, Any]]]:
    """Offset and weights by topic, as integers."""
    from sklearn.linear_model import LogisticRegression

    weights = np.array([1.0] * len(rows) + [float(SENTENCE_WEIGHT)] * len(sentences))
    rows = [*rows, *sentences]
    found = [features(text) for _, text, _ in rows]
    starts = np.cumsum([0, *map(len, found)])
    places = np.fromiter((place for row in found for place in row), dtype=np.int32)
    matrix = csr_matrix((np.ones(len(places)), places, starts), shape=(len(rows), BUCKETS))
    learned = {}
    for topic in TOPICS:
        chosen = [i for i, row in enumerate(rows) if row[0] == topic or not _ambiguous(topic, row)]
        labels = [rows[i][0] == topic and rows[i][2] for i in chosen]
        model = LogisticRegression(C=PENALTY, max_iter=150)
        model.fit(matrix[chosen], labels, sample_weight=weights[chosen])
        rounded = np.clip(np.rint(model.coef_[0] * SCALE), -127, 127).astype(np.int8)
        learned[topic] = (round(model.intercept_[0] * SCALE) + SHIFT[topic], rounded)
    return learned


def _ambiguous(topic: str, row: tuple[str, str, bool]) -> bool:
    """Genuine for another topic: it may well be of both."""
    return row[0] != topic and row[2]


def document(learned: dict[str, tuple[int, np.ndarray[Any, Any]]]) -> dict[str, Any]:
    packed = b"".join(column.tobytes() for _, column in learned.values())
    text = b85encode(zlib.compress(packed, 9)).decode()
    topics = {name: [bias, PHRASE_WORTH[name]] for name, (bias, _) in learned.items()}
    digest = hashlib.sha256((text + json.dumps(topics, sort_keys=True)).encode()).hexdigest()
    return {"sha256": digest, "topics": topics, "weights": text}


def cross_validate() -> dict[str, list[int]]:
    """Both together on the sentences, each by weights that were learned without it."""
    rows, sentences = list(corpus()), labelled()
    order = list(range(len(sentences)))
    random.Random(SEED).shuffle(order)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for fold in range(FOLDS):
        held = set(order[fold::FOLDS])
        known = [row for place, row in enumerate(sentences) if place not in held]
        book = topic_classifier.parse(document(train(rows, known)))
        for topic, text, genuine in (sentences[place] for place in held):
            points = topic_classifier.total(tokens(text).words, book)[book.topics.index(topic)]
            worth = PHRASE_WORTH[topic] if by_phrases(text, topic) else 0
            cell = counts[f"{topic} {'genuine' if genuine else 'harmless'}"]
            cell[0] += points + worth >= 0
            cell[1] += 1
    return dict(counts)


# -- measuring ------------------------------------------------------------------------------------


def by_phrases(text: str, topic: str) -> bool:
    return any(match.signal == topic for match in find(text))


def by_classifier(text: str, topic: str) -> bool:
    return topic_classifier.score(tokens(text).words).scores[topic] >= 0


def by_both(text: str, topic: str) -> bool:
    return topic in read(text).topics


def measure(folder: Path, fires: Callable[[str, str], bool]) -> dict[str, list[int]]:
    """By set, language and kind: how many fired, and of how many."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path in sorted([*folder.glob("danger_*.jsonl"), *folder.glob("lookalikes_*.jsonl")]):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            topic = row.get("rule", "safety")
            genuine = row["danger"] if "danger" in row else row["expect"] == "fire"
            name = "genuine" if genuine else "harmless"
            one = fires(row["text"], topic)
            english = "en" if row["lang"] == "en" else "others"
            kind = row.get("kind") or row["expect"]
            for key in (
                f"{path.stem.split('_')[0]} {topic} {name} {english}",
                f"by language: {topic} {name} {row['lang']}",
                f"by kind: {topic} {name} {kind}",
            ):
                counts[key][0] += one
                counts[key][1] += 1
    return dict(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", type=Path)
    parser.add_argument("--cross-validate", action="store_true")
    asked = parser.parse_args()
    if asked.cross_validate:
        for key, (fired, of) in sorted(cross_validate().items()):
            print(f"{key:<52}{fired}/{of} {fired / of:.3f}")
    if asked.write:
        rows = list(corpus())
        WEIGHTS.write_text(json.dumps(document(train(rows, labelled()))) + "\n", encoding="utf-8")
        print(f"{len(rows)} sentences; {WEIGHTS.stat().st_size} bytes written")
    if asked.measure:
        ways = {"phrases": by_phrases, "classifier": by_classifier, "both": by_both}
        tables = {name: measure(asked.measure, fires) for name, fires in ways.items()}
        print(f"{'fired of all':<52}" + "".join(f"{name:>14}" for name in ways))
        for key in sorted(tables["both"]):
            cells = [f"{tables[name][key][0]}/{tables[name][key][1]}" for name in ways]
            print(f"{key:<52}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
