"""VowpalWabbit learners and their input format, in the default and four other settings.

On Baton's features it is told the very rows that Baton learns; on its own it cuts the words of the
message and of the turn before it, with pairs of words. The best setting is known in hindsight only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from experiments.benchmarks.inputs.feature_rows import FeatureRows
from learning.models.hashed_features import Row
from learning.text.similarity import words

OPTIONS = "--quiet --loss_function logistic --link logistic -b 18 --random_seed 1"
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "default": "",
        "rate .1": "-l 0.1",
        "rate 2": "-l 2",
        "coin betting": "--coin",
        "FTRL": "--ftrl --ftrl_alpha 0.1",
    }
)
PAIRS = " --ngram u2 --ngram b2 --ngram o2"
INPUTS = ("features", "words")


class Vowpal:
    """One workspace. `given` is one of INPUTS, `setting` one of SETTINGS."""

    def __init__(self, inputs: str, setting: str) -> None:
        from vowpalwabbit import Workspace  # type: ignore[import-untyped]

        options = f"{OPTIONS} {SETTINGS[setting]}" + (PAIRS if inputs == "words" else "")
        self._workspace = Workspace(options, enable_logging=False)

    def score(self, examples: Sequence[str]) -> list[float]:
        return [float(self._workspace.predict(example)) for example in examples]

    def learn(self, examples: Sequence[str], labels: Sequence[float]) -> None:
        """A label between 0 and 1 is two lessons that share its weight."""
        for example, label in zip(examples, labels, strict=True):
            if label > 0.0:
                self._workspace.learn(f"1 {label:.6g} {example}")
            if label < 1.0:
                self._workspace.learn(f"-1 {1.0 - label:.6g} {example}")

    def end(self) -> None:
        self._workspace.finish()


def examples(talk: FeatureRows, inputs: str) -> list[str]:
    """A conversation's messages as VowpalWabbit reads them."""
    if inputs == "features":
        return [_row(row) for row in talk.rows]
    both = zip(talk.texts, talk.texts_before, talk.bot, strict=True)
    return [
        f"|{'b' if bot else 'u'} {_tokens(message)} |o {_tokens(turn_before)}"
        for message, turn_before, bot in both
    ]


def _row(row: Row) -> str:
    pairs = zip(row.index[1:].tolist(), row.value[1:].tolist(), strict=True)
    return "|f " + " ".join([f"{index}:{value:.6g}" for index, value in pairs])


def _tokens(text: str) -> str:
    return " ".join(words(text)).replace(":", "").replace("|", "")


def play(
    talks: Sequence[FeatureRows], lines_of: Sequence[Sequence[str]], inputs: str, setting: str
) -> list[float]:
    """Test, then learn at the end of each conversation; the probability of every message.

    `made` are the `examples` of each of the talks.
    """
    vowpal, scores = Vowpal(inputs, setting), []
    for talk, lines in zip(talks, lines_of, strict=True):
        scores += vowpal.score(lines)
        vowpal.learn(lines, talk.labels)
    vowpal.end()
    return scores
