"""Contests of two equal lines after needs have fallen: audits answered late, never, or short."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarks.guarantees.decision_contests import LEVEL
from experiments.benchmarks.guarantees.promise import Row, median, promise
from learning.decision.policy import Policy
from learning.decision.promotion_terms import PromotionTerms
from learning.estimation.audit_sampling import DISAGREEMENT, DailyBudget
from learning.estimation.decision_loss import ESCALATE, OFFER, DecisionLoss
from learning.monitoring.ordered_comparison import DifferingConversation, OrderedComparison
from learning.monitoring.promotion_evidence import FixedChallengerTest, LearningChallengerTest

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
PER_DAY, DAYS = 1000, 20
LOOK_EVERY, FIRST_LOOK = 100, 2000
NEVER = 10**9


@dataclass(frozen=True, slots=True)
class AnswerRegime:
    """How many conversations later an audit is answered, and how many reviews a day may have."""

    later: int = 0
    reviews: int = 100
    fallen: float = 1.0
    better: float = 0.0


@dataclass(frozen=True, slots=True)
class TwoLines:
    """What two lines would do in each conversation, and whether a person was needed."""

    champion: Integers
    challenger: Integers
    needed: NDArray[np.bool_]
    person: NDArray[np.bool_]

    @classmethod
    def draw(
        cls, random: np.random.Generator, loss: DecisionLoss, regime: AnswerRegime
    ) -> TwoLines:
        """Two noisy signals of one need, calibrated before the needs fell by so many log odds."""
        size = PER_DAY * DAYS
        need = random.normal(-1.5, 1.5, size)
        needed = random.random(size) < 1 / (1 + np.exp(-(need - regime.fallen)))
        noise = (1.2, 1.2 * (1 - regime.better))
        champion, challenger = (
            loss.levels(1 / (1 + np.exp(-(need + random.normal(0, spread, size)))))
            for spread in noise
        )
        accepted = random.random(size) < np.where(
            needed, loss.accepted_needed, loss.accepted_unneeded
        )
        person = (champion == ESCALATE) | ((champion == OFFER) & accepted)
        return cls(champion, challenger, needed, person)


def equal_lines(regime: AnswerRegime) -> Callable[[int], Row]:
    """A stream of two lines that are equally good: when each form of the test is proven."""

    def stream(seed: int) -> Row:
        random, loss = np.random.default_rng((11, seed)), DecisionLoss.of(Policy())
        lines = TwoLines.draw(random, loss, regime)
        frozen = OrderedComparison(FixedChallengerTest(DISAGREEMENT, 1.0))
        learning = OrderedComparison(LearningChallengerTest(1.0 / DISAGREEMENT, LEVEL))
        return _play(lines, loss, regime, random, {"frozen": frozen, "learning": learning})

    return stream


def _play(
    lines: TwoLines,
    loss: DecisionLoss,
    regime: AnswerRegime,
    random: np.random.Generator,
    comparisons: dict[str, OrderedComparison],
) -> Row:
    patience = PromotionTerms().unanswered_days * PER_DAY
    spent: deque[tuple[int, bool]] = deque()
    answers: deque[tuple[int, DifferingConversation, bool]] = deque()
    proven: dict[str, float] = dict.fromkeys(comparisons, np.inf)
    for n, coin in enumerate(random.random(lines.needed.size)):
        while spent and spent[0][0] <= n - PER_DAY:
            spent.popleft()
        disagreements = sum(disagrees for _, disagrees in spent)
        budget = DailyBudget(regime.reviews, 0.5, 1, len(spent) - disagreements, disagreements)
        while answers and answers[0][0] <= n:
            _, item, needed = answers.popleft()
            item.answered, item.needed = True, needed
        differs = lines.champion[n] != lines.challenger[n]
        chance = budget.disagreement if differs else 0.05 * budget.pace
        drawn = not lines.person[n] and coin < chance
        if drawn:
            spent.append((n, bool(differs)))
        for comparison in comparisons.values():
            if not budget.disagreement:
                comparison.out_of_budget += 1
            elif differs and (drawn or lines.person[n]):
                gains = loss.gains(int(lines.champion[n]), int(lines.challenger[n]))
                pi = 1.0 if lines.person[n] else chance
                item = DifferingConversation(str(n), str(n), n, 0, pi, *gains)
                comparison.differ(item)
                if lines.person[n]:
                    item.answered, item.needed = True, bool(lines.needed[n])
                else:
                    answers.append((n + regime.later, item, bool(lines.needed[n])))
            else:
                comparison.agree()
        if n >= FIRST_LOOK and n % LOOK_EVERY == 0:
            for name, comparison in comparisons.items():
                comparison.fold(n, patience, 0)
                test = comparison.evidence(n, patience)
                is_proven = (
                    test.proven(LEVEL) if isinstance(test, FixedChallengerTest) else test.proven()
                )
                if is_proven:
                    proven[name] = min(proven[name], n)
    return proven


REGIMES = {
    "audits 2000 late": AnswerRegime(2000),
    "nobody reviews": AnswerRegime(NEVER),
    "pace below 1": AnswerRegime(reviews=30),
}
"""The equal lines' cases, each for needs that fell by one in log odds."""


def summarise_equal(name: str) -> Callable[[Sequence[Row]], Iterator[Row]]:
    def summarise(rows: Sequence[Row]) -> Iterator[Row]:
        for form in ("frozen", "learning"):
            rate = float(np.mean([np.isfinite(row[form]) for row in rows]))
            label = f"equal lines after needs fell, {name}: proven, {form}"
            yield promise(label, f"<= {LEVEL}", rate, holds=rate <= LEVEL, of=len(rows))

    return summarise


BETTER = AnswerRegime(fallen=0.0, better=0.7)
BETTER_LATE = AnswerRegime(2000, fallen=0.0, better=0.7)


def clear_gain(seed: int) -> Row:
    """When a clearly better line is proven, with audits answered at once and 2000 later."""
    soon, late = (equal_lines(regime)(seed) for regime in (BETTER, BETTER_LATE))
    return {"soon": soon["learning"], "late": late["learning"]}


def summarise_gain(rows: Sequence[Row]) -> Iterator[Row]:
    power = float(np.mean(np.isfinite([row["late"] for row in rows])))
    label = f"clear gain, audits 2000 late: proven in {PER_DAY * DAYS}"
    yield promise(label, ">= 0.95", power, holds=power >= 0.95, of=len(rows))
    label = "its median number of conversations, audits at once"
    yield promise(label, "told", median(rows, "soon"), holds=True)
    yield promise("the same, audits 2000 late", "told", median(rows, "late"), holds=True)
