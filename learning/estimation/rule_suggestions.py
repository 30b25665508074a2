"""Rule evaluation and suggestions: precision and coverage of each rule, and what to change.

Every case is a conversation whose truth is known, with the weight of those it stands for (the
inverse of the probability that it was looked at). A rule is worth having while a person is needed
at least as often as costs ask for; a suggestion is made only where the whole interval says so,
at every look, over all that is suggested. Nothing is applied: an engineer reads the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from learning.decision.rules import PROTECTED, Rule
from learning.estimation.rate_intervals import ALPHA, Rate, evidence_under_drift, under_drift
from learning.text.similarity import words

JUDGED_MIN = 20
"""A rule judged less often is not spoken of."""

CONVERSATIONS_MIN = 20
"""No word is named that fewer conversations used: nobody's own words are shown."""

TERMS_MAX = 10
_MARKS = frozenset({"?", "!", "...", "0", "00", "000", "0000"})


@dataclass(frozen=True, slots=True)
class LabelledConversation:
    """A conversation with its label: the rules that fired in it, whether the model spoke, and the
    words and pairs of words of its customer (empty where they are not needed).
    """

    needed: bool
    rules: frozenset[str] = frozenset()
    model: bool = False
    terms: frozenset[str] = frozenset()
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class RuleSuggestion:
    """Suggestion to retire, narrow or add a rule; `watches` is what an added one would watch."""

    kind: Literal["retire", "narrow", "add"]
    rule: str
    watches: str | None
    sentence: str
    evidence: Rate
    conversations: int


def terms(texts: Iterable[str]) -> frozenset[str]:
    """Unigrams and bigrams of some messages; no numbers, no punctuation."""
    ngrams: list[str] = []
    for text in texts:
        tokens = words(text)
        is_plain = [word not in _MARKS for word in tokens]
        ngrams += [word for word, is_word in zip(tokens, is_plain, strict=True) if is_word]
        pairs = zip(tokens, tokens[1:], is_plain, is_plain[1:], strict=False)
        ngrams += [f"{a} {b}" for a, b, first, second in pairs if first and second]
    return frozenset(ngrams)


def precision(rule: str, cases: Sequence[LabelledConversation], alpha: float = ALPHA) -> Rate:
    """Precision of a rule: share of its conversations that needed a person."""
    return _share([c for c in cases if rule in c.rules], lambda c: c.needed, alpha)


def coverage(rule: str, cases: Sequence[LabelledConversation], alpha: float = ALPHA) -> Rate:
    """Recall of a rule: of the conversations that needed a person, the share in which it fired."""
    return _share([c for c in cases if c.needed], lambda c: rule in c.rules, alpha)


def suggest_rules(
    rules: Sequence[Rule], cases: Sequence[LabelledConversation], bar: float
) -> tuple[RuleSuggestion, ...]:
    """Suggest changes to the rules. `bar`: the probability from which on a handoff pays."""
    return (*_suggest_removals(rules, cases, bar), *_suggest_additions(cases, bar))


def _suggest_removals(
    rules: Sequence[Rule], cases: Sequence[LabelledConversation], bar: float
) -> Iterable[RuleSuggestion]:
    removable = [rule for rule in rules if rule.enabled and rule.name not in PROTECTED]
    alpha = ALPHA / max(1, 2 * len(removable))
    for rule in removable:
        fired = [c for c in cases if rule.name in c.rules]
        alone = [c for c in fired if len(c.rules) == 1 and not c.model]
        for kind, covered, finding in (
            ("retire", fired, "it fires mostly where no person is needed"),
            ("narrow", alone, "where only it speaks, a person is mostly not needed"),
        ):
            rate = _share(covered, lambda c: c.needed, alpha)
            if len(covered) >= JUDGED_MIN and rate.high is not None and rate.high < bar:
                advice = {
                    "retire": "switch it off, or let it offer",
                    "narrow": f"raise its at_least above {rule.at_least:g}, or let it offer",
                }[kind]
                sentence = f"{finding}: {advice}"
                yield RuleSuggestion(kind, rule.name, rule.watches, sentence, rate, len(covered))  # type: ignore[arg-type]
                break


def _suggest_additions(cases: Sequence[LabelledConversation], bar: float) -> list[RuleSuggestion]:
    """Words that agents keep confirming where no rule fired, clearly more than other words."""
    uncovered = [c for c in cases if not c.rules]
    by_term: dict[str, list[LabelledConversation]] = {}
    for case in uncovered:
        for term in sorted(case.terms):
            by_term.setdefault(term, []).append(case)
    common = {
        term: conversations
        for term, conversations in by_term.items()
        if len(conversations) >= CONVERSATIONS_MIN
    }
    base_rate = _share(uncovered, lambda c: c.needed, ALPHA).rate or 0.0
    least = min(max(bar, base_rate), 1 - 1e-9)
    alpha = ALPHA / max(1, len(common))
    clear = []
    for term, conversations in common.items():
        share, size = _weighted_share(conversations, lambda c: c.needed)
        against = evidence_under_drift(share * size, size, least)
        if share > least and against >= math.log(1 / alpha):
            clear.append((term, under_drift(share * size, size, alpha)))
    clear.sort(key=lambda entry: (-(entry[1].low or 0.0), -len(entry[0]), entry[0]))
    return [
        RuleSuggestion(
            "add",
            _name(term),
            f"says:{term}",
            f"customers who say “{term}” mostly need a person, and no rule sees it",
            rate,
            len(common[term]),
        )
        for term, rate in clear[:TERMS_MAX]
    ]


def _name(term: str) -> str:
    """A name that a rule may have."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in term)
    return f"says-{plain}"[:64]


def _share(
    cases: Sequence[LabelledConversation],
    holds: Callable[[LabelledConversation], bool],
    alpha: float,
) -> Rate:
    share, size = _weighted_share(cases, holds)
    return under_drift(share * size, size, alpha) if size else Rate(0, 0, None, 0.0, 1.0)


def _weighted_share(
    cases: Sequence[LabelledConversation], holds: Callable[[LabelledConversation], bool]
) -> tuple[float, float]:
    """The weighted share of cases for which something holds, and Kish's effective number."""
    whole = sum(c.weight for c in cases)
    squares = sum(c.weight * c.weight for c in cases)
    if not whole:
        return 0.0, 0.0
    share = sum(c.weight for c in cases if holds(c)) / whole
    return min(share, 1.0), whole * whole / squares
