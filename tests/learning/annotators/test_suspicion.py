"""Suspicion is evidence: it seldom errs, however often one looks, and finds who forges."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.annotators.annotator import Verdict
from learning.annotators.betting_martingale import Martingale, two_sample_ratio
from learning.annotators.panel import AnnotatorPanel

CHANCES = st.floats(0.02, 0.98)
COUNTS = st.integers(1, 4)


@given(COUNTS, COUNTS, CHANCES, CHANCES, CHANCES, st.floats(-0.1, 0.1))
def test_two_that_differ_no_more_than_allowed_are_never_likelier_to_differ(
    n: int, m: int, one: float, other: float, true: float, apart: float
) -> None:
    """The mean of the ratio over all that may be seen, for any two chances within the tolerance."""
    beside = min(1.0, max(0.0, true + apart))
    mean = sum(
        math.comb(n, s)
        * beside**s
        * (1 - beside) ** (n - s)
        * math.comb(m, t)
        * true**t
        * (1 - true) ** (m - t)
        * two_sample_ratio((n, s), (m, t), (one, other), 0.1)
        for s in range(n + 1)
        for t in range(m + 1)
    )
    assert mean <= 1 + 1e-6


def test_no_more_than_the_whole_stake_is_ever_laid_out() -> None:
    bet = Martingale()
    for at in range(20_000):
        bet.multiply(1.0, at)
    assert 0 < bet.reserve < 0.2
    assert bet.worth == pytest.approx(1.0)


@dataclass(frozen=True)
class Bench:
    """Agents who take turns at cases of known truth, of which the model knows a little."""

    seed: int
    agents: int = 4
    manner: str = "careful"
    bad: int = 1
    since: int = 0
    skewed: float = 0.0
    timed: bool = True

    def play(self, verdicts: int) -> tuple[AnnotatorPanel, dict[str, int]]:
        """The raters at the end, and after how many of their verdicts agents were suspected."""
        rng, raters, found = Random(self.seed), AnnotatorPanel(), {}
        wrong = [rng.uniform(0.02, 0.08) for _ in range(self.agents)]
        for at in range(verdicts):
            who = at % self.agents
            name, review = f"agent {who}", rng.random() < 0.3
            chance = rng.betavariate(1, 8) if review else rng.betavariate(4, 2)
            truth = rng.random() < chance
            said, seconds = self._said(name, at, truth, wrong[who], rng)
            odds = math.log(chance / (1 - chance)) + self.skewed + rng.gauss(0, 0.5)
            work, kind = ("review", "") if review else ("handoff", "support")
            expected = 1 / (1 + math.exp(-odds))
            verdict = Verdict(name, work, kind, expected, said, seconds if self.timed else None, at)
            if raters.learn(verdict):
                found[name] = raters.by_name[name].judged
            if review and self.agents > 1 and rng.random() < 0.1:
                beside = rng.choice([n for n in range(self.agents) if n != who])
                again, _ = self._said(f"agent {beside}", at, truth, wrong[beside], rng)
                second = Verdict(f"agent {beside}", work, kind, expected, again, None, at)
                for one in raters.pair(verdict, second):
                    found[one] = raters.by_name[one].judged
        return raters, found

    def _said(
        self, name: str, at: int, truth: bool, wrong: float, rng: Random
    ) -> tuple[bool, float]:
        bad = name == f"agent {self.bad}" and at >= self.since
        manner = self.manner if bad else "careful"
        if manner == "careless":
            return rng.random() < 0.9, rng.uniform(5, 20)
        if manner == "hostile":
            return not truth, rng.expovariate(1 / 900)
        return truth != (rng.random() < wrong), rng.expovariate(1 / 900)


@pytest.mark.long
def test_honest_agents_are_not_accused_even_where_the_model_errs() -> None:
    """Bounded by 5 in 100 services, ever, whatever the number of agents and of looks."""
    accused = 0
    for seed in range(40):
        skewed = (-1.5, 0.0, 1.5)[seed % 3]
        _, found = Bench(seed, agents=3 + seed % 4, skewed=skewed).play(800)
        accused += bool(found)
    assert accused <= 2


@pytest.mark.parametrize("since", [pytest.param(0, marks=pytest.mark.long), 800])
@pytest.mark.parametrize(
    "manner, timed, within",
    [("careless", True, 30), ("careless", False, 160), ("hostile", False, 130)],
)
def test_who_judges_carelessly_or_against_the_truth_is_found_and_nobody_else(
    manner: str, timed: bool, within: int, since: int
) -> None:
    """From the first day, or after two hundred honest verdicts of their own: a stolen key."""
    for seed in range(6):
        bench = Bench(seed, manner=manner, since=since, timed=timed)
        raters, found = bench.play(since + 800)
        assert list(found) == ["agent 1"], seed
        assert found["agent 1"] - since // 4 <= within
        suspected = raters.by_name["agent 1"]
        _, began = suspected.leading
        assert began >= since - 250, "when it began is told within some verdicts"
        assert suspected.evidence >= suspected.bar


def test_of_two_who_disagree_the_model_tells_who_errs() -> None:
    for seed in range(5):
        raters, found = Bench(seed, agents=2, manner="hostile").play(600)
        assert list(found) == ["agent 1"]
        assert raters.by_name["agent 0"].evidence < 1


def test_an_agent_alone_is_accused_of_nothing() -> None:
    """There is nobody to compare with; a model that this agent taught is no judge."""
    for manner in ("careless", "hostile"):
        _, found = Bench(1, agents=1, manner=manner, bad=0).play(400)
        assert found == {}


def test_agents_of_teams_with_other_cases_are_not_compared() -> None:
    """All that the lawyers get needs them; of the rest little does; the model knows nothing."""
    rng, raters = Random(5), AnnotatorPanel()
    for at in range(1500):
        lawyer = at % 3 == 0
        name, kind = ("lawyer" if lawyer else f"agent {at % 3}"), ("legal" if lawyer else "support")
        needed = rng.random() < (0.97 if lawyer else 0.2)
        assert not raters.learn(
            Verdict(name, "handoff", kind, 0.2, needed, rng.expovariate(1 / 600), at)
        )


def test_what_was_kept_goes_on_where_it_stopped() -> None:
    bench = Bench(2, manner="hostile", since=100)
    raters, _ = bench.play(300)
    state = json.loads(json.dumps(raters.dump()))
    again = AnnotatorPanel.load(state)
    assert again.dump() == state
    more = [
        Verdict("agent 2", "handoff", "support", 0.3, bool(n % 2), 50.0, 400 + n) for n in range(40)
    ]
    for verdict in more:
        assert raters.learn(verdict) == again.learn(verdict)
    assert raters.dump() == again.dump() != state
