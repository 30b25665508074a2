"""Closed-loop evaluation of the first month: what decisions cost from a fresh start on.

Conversations are played one after another against a decider; what it decides changes what comes
next, what is learned and what is seen. `baton` is the service itself (ledger, lessons, policy and
the tasks of `jobs`), in this process and without HTTP; others are measures beside it: the rules
alone, everybody handed over, nobody, the true probability under Baton's own policy (`oracle`), and
the true probability under the best fixed bars in hindsight (`oracle_best`).

A conversation costs what the default policy says: 4 where a person was needed and none came, 1 for
each handoff that nobody needed, .15 for each offer.
"""

from __future__ import annotations

import heapq
import itertools
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from experiments.benchmarks.harness.result_table import Progress, Row
from experiments.benchmarks.inputs.closed_loop import (
    ClosedLoop,
    Decision,
    FixedBars,
    Stateless,
)
from experiments.benchmarks.inputs.recorded_customers import RecordedWorld
from experiments.simulation.world import World, WorldSettings
from learning.conversation.state import Message
from learning.decision.policy import Costs, Policy

DECIDERS = ("baton", "rules", "hand_over_all", "never", "oracle", "oracle_best")
WINDOWS = ((0, 100), (100, 300), (300, 800))
BARS = tuple(itertools.product((0.15, 0.2, 0.3, 0.4), (0.5, 0.6, 0.75)))
"""Bars of an offer and of handing over that `oracle_best` may choose from."""

RETURNED, REVIEWED = 0.1, 0.15
"""Share of handoffs that are given back to the bot; of kept conversations that a colleague reads:
as in `baton demo`."""

COMPLAINT_SECONDS = 7200.0
JOBS_EVERY = 10
"""Conversations between two passes of `jobs`."""

DONOR_CONVERSATIONS = 300
"""As much has a donor learned."""

COSTS = Costs()
COLUMNS = {
    "decider": "decider",
    "seed": "seed",
    "cost": "cost",
    "cost_0_100": "0 to 100",
    "cost_100_300": "100 to 300",
    "cost_300_800": "300 to 800",
    "offered": "offered",
    "offers_per_message": "offers a message",
    "handed_over": "handed over",
    "false": "false",
    "found": "found",
    "delay": "delay",
}


@dataclass(frozen=True, slots=True)
class FirstMonthPlan:
    """What is played: a month for each seed and decider. `service` makes Baton in a folder.

    `donor` names whose month is played first, to start from its model. `adviser` is the standard
    deviation of the noise on the log odds of an adviser that knows the true probability.
    """

    service: Callable[..., ClosedLoop]
    seeds: tuple[int, ...]
    deciders: tuple[str, ...] = DECIDERS
    conversations: int = 800
    base_rate: float = 0.2
    acceptance: tuple[float, float] = (0.9, 0.25)
    stream: str | None = None
    adviser: float | None = None
    donor: str | None = None
    workers: int = 2

    def world(self, seed: int) -> World | RecordedWorld:
        """The customers of a seed."""
        return self._world(seed, self.stream)

    def donor_world(self) -> World | RecordedWorld:
        """The customers of the donor: a seed, or recorded talk."""
        if self.donor is None or self.donor.isdigit():
            return self._world(int(self.donor or 0), None)
        return self._world(0, self.donor)

    def _world(self, seed: int, stream: str | None) -> World | RecordedWorld:
        settings = WorldSettings(
            base_rate=self.base_rate,
            acceptance=self.acceptance,
            complaint_delay_seconds=COMPLAINT_SECONDS,
        )
        if stream is not None:
            return RecordedWorld.read(stream, seed, settings)
        return World(seed, settings)


def run(plan: FirstMonthPlan, progress: Progress) -> list[Row]:
    """A row for each decider and seed, then the mean over the seeds of each decider."""
    units = [(decider, seed) for decider in plan.deciders for seed in plan.seeds]
    rows: dict[tuple[str, int], Row] = {}
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(plan.workers, mp_context=spawning) as pool:
        futures = {pool.submit(month, plan, *unit): unit for unit in units}
        progress("first month", 0, len(units))
        for future in as_completed(futures):
            rows[futures[future]] = future.result()
            progress(" ".join(map(str, futures[future])), len(rows), len(units))
    return [rows[unit] for unit in units]


def means(rows: Sequence[Row]) -> list[Row]:
    """The mean of each decider over its seeds."""
    by_decider: dict[str, list[Row]] = {}
    for row in rows:
        by_decider.setdefault(row["decider"], []).append(row)
    return [
        {"decider": decider, "seed": "mean"}
        | {
            name: statistics.fmean(values)
            for name in COLUMNS
            if name not in ("decider", "seed")
            and (values := [row[name] for row in group if row[name] is not None])
        }
        for decider, group in by_decider.items()
    ]


def month(plan: FirstMonthPlan, decider: str, seed: int) -> Row:
    """One decider's month of one seed."""
    world = plan.world(seed)
    count = _length(world, plan.conversations)
    if decider == "oracle_best":
        months = [
            Month(world, count, Stateless(FixedBars(offer=offer, escalate=escalate))).play()
            for offer, escalate in BARS
        ]
        best = min(months, key=lambda tally: sum(tally.cost))
        return {"decider": decider, "seed": seed} | best.row()
    if decider in ("baton", "oracle"):
        with tempfile.TemporaryDirectory(prefix="baton-month-") as folder:
            tally = _service_month(plan, Path(folder), world, decider)
        return {"decider": decider, "seed": seed} | tally.row()
    tally = Month(world, count, Stateless(always=_ALWAYS[decider])).play()
    return {"decider": decider, "seed": seed} | tally.row()


def _length(world: World | RecordedWorld, most: int) -> int:
    return min(most, len(world)) if isinstance(world, RecordedWorld) else most


def _service_month(
    plan: FirstMonthPlan, folder: Path, world: World | RecordedWorld, decider: str
) -> Tally:
    """The month of a service in a folder, started from a donor's where the plan names one."""
    start_from = None
    if plan.donor is not None and decider == "baton":
        donor, donor_world = plan.service(folder, name="donor"), plan.donor_world()
        Month(donor_world, _length(donor_world, DONOR_CONVERSATIONS), donor).play()
        start_from = donor
    service = plan.service(
        folder, oracle=decider == "oracle", adviser=plan.adviser, start_from=start_from
    )
    try:
        return Month(world, _length(world, plan.conversations), service).play()
    finally:
        service.close()


_ALWAYS: Mapping[str, str | None] = {
    "rules": None,
    "hand_over_all": "escalate",
    "never": "continue",
}


YARDSTICKS: Mapping[str, Callable[[], Stateless]] = {
    "rules only": Stateless,
    "everybody handed over": partial(Stateless, always="escalate"),
    "the true probability": lambda: Stateless(Policy(lost=0.5)),
}
"""Deciders that learn nothing, to compare a play of the same world with."""


def yardstick_cost(name: str, settings: WorldSettings, seed: int, conversations: int) -> float:
    """What a yardstick's decisions cost a conversation of a simulated world."""
    tally = Month(World(seed, settings), conversations, YARDSTICKS[name]()).play()
    return statistics.fmean(tally.cost)


def yardstick_costs(settings: WorldSettings, seed: int, conversations: int) -> dict[str, float]:
    """The costs of all yardsticks, each played in a process of its own."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawning) as pool:
        futures = {
            name: pool.submit(yardstick_cost, name, settings, seed, conversations)
            for name in YARDSTICKS
        }
        return {name: future.result() for name, future in futures.items()}


@dataclass(slots=True)
class Tally:
    """What happened, by conversation; delays are in messages of the customer."""

    cost: list[float]
    offered: set[int] = field(default_factory=set)
    handed_over: set[int] = field(default_factory=set)
    needy: set[int] = field(default_factory=set)
    found: set[int] = field(default_factory=set)
    missed: set[int] = field(default_factory=set)
    messages: int = 0
    offers: int = 0
    handoffs: int = 0
    needless: int = 0
    delays: list[int] = field(default_factory=list)

    def add_offer(self, number: int) -> None:
        self.offers += 1
        self.offered.add(number)
        self.cost[number] += COSTS.ask

    def add_handoff(self, conversation: Any) -> None:
        number, truth = conversation.number, conversation.truth
        self.handoffs += 1
        self.handed_over.add(number)
        if not truth.needed:
            self.needless += 1
            self.cost[number] += COSTS.unneeded
            return
        self.needy.add(number)
        self.found.add(number)
        places = list(conversation.labels)
        self.delays.append(len(places) - 1 - places.index(truth.first_needed_message_id))

    def add_kept(self, conversation: Any) -> None:
        number = conversation.number
        if conversation.truth.needed and number not in self.missed:
            self.needy.add(number)
            self.missed.add(number)
            self.cost[number] += COSTS.missed

    def row(self) -> Row:
        count = len(self.cost)
        windows = {
            f"cost_{low}_{high}": statistics.fmean(part) if (part := self.cost[low:high]) else None
            for low, high in WINDOWS
        }
        return {
            "cost": statistics.fmean(self.cost),
            **windows,
            "offered": len(self.offered) / count,
            "offers_per_message": self.offers / self.messages,
            "handed_over": len(self.handed_over) / count,
            "false": self.needless / self.handoffs if self.handoffs else None,
            "found": len(self.found - self.missed) / len(self.needy) if self.needy else None,
            "delay": statistics.fmean(self.delays) if self.delays else None,
        }


class Month:
    """The conversations of one world, in their order, and what people say of them later."""

    def __init__(self, world: Any, conversations: int, service: ClosedLoop) -> None:
        self._world = world
        self._service = service
        self._count = conversations
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self._ended: dict[str, Any] = {}
        self._now = world.began(0)
        self.tally = Tally([0.0] * conversations)

    def play(self) -> Tally:
        for number in range(self._count):
            self._advance(self._world.began(number))
            conversation = self._world.conversation(number)
            self._converse(conversation, conversation.next())
            if number % JOBS_EVERY == JOBS_EVERY - 1:
                self._run_jobs()
        self._advance(float("inf"))
        return self.tally

    def _advance(self, until: float) -> None:
        """What is due by then: verdicts, complaints, customers who come back."""
        while self._due and self._due[0][0] <= until:
            self._now, _, do = heapq.heappop(self._due)
            do()
        self._now = self._now if until == float("inf") else until

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._now + seconds, next(self._ticket), do))

    def _run_jobs(self) -> None:
        self._service.run_jobs(self._now)
        for audit, name in self._service.audits(self._now):
            conversation = self._ended[name]
            review = self._world.agent(conversation.number).review(conversation)
            self._service.answer_audit(audit, review.body(), self._now)

    def _converse(self, conversation: Any, turns: Sequence[Message]) -> None:
        with self._service.turn(self._now):
            while not conversation.ended:
                decision = self._service.decide(
                    conversation.id, turns, conversation.beliefs[turns[-1].id]
                )
                self.tally.messages += 1
                handoff = self._handoff(conversation, decision)
                if handoff is None:
                    turns = conversation.next("continue")
                    continue
                conversation.next("escalate")
                self.tally.add_handoff(conversation)
                turns = self._serve(conversation, handoff)
            self._end(conversation, turns)

    def _handoff(self, conversation: Any, decision: Decision) -> str | None:
        """The handoff that follows a decision and the customer's answer to an offer, if any."""
        if decision.action != "offer":
            return decision.handoff
        self.tally.add_offer(conversation.number)
        accepted = conversation.answer()
        if accepted is None:
            return None
        return self._service.answer(decision, accepted)

    def _serve(self, conversation: Any, handoff: str) -> tuple[Message, ...]:
        agent = self._world.agent(conversation.number)
        verdict = agent.verdict(conversation)
        key = f"{self._world.seed}/return/{conversation.id}/{len(conversation.labels)}"
        turns = conversation.serve(agent.name, returned=Random(key).random() < RETURNED)
        said = [turn for turn in turns if turn.author == "agent"]
        returned = not conversation.ended
        self._service.end_handoff(conversation.id, handoff, agent.name, said, returned=returned)
        self._later(
            verdict.delay_seconds,
            lambda: self._service.judge(handoff, verdict.body(), agent.name, self._now),
        )
        return turns[-1:] if returned else ()

    def _end(self, conversation: Any, turns: Sequence[Message]) -> None:
        """The conversation is over; perhaps it is complained of, read over, or taken up again."""
        self._service.end(conversation.id, turns, conversation.resolution)
        self._ended[conversation.id] = conversation
        if conversation.handed_over:
            return
        self.tally.add_kept(conversation)
        after = self._world.comes_back_after(conversation)
        complaint = self._world.complaint(conversation)
        if after is not None:
            self._later(after, lambda: self._converse(conversation, conversation.come_back(after)))
        elif complaint is not None:
            self._outcome_later(conversation, complaint.body(), complaint.delay_seconds, "bot")
        elif Random(f"{self._world.seed}/read/{conversation.id}").random() < REVIEWED:
            agent = self._world.agent(conversation.number)
            review = agent.review(conversation)
            body = review.body() | {"source": "agent"}
            self._outcome_later(conversation, body, review.delay_seconds, agent.name)

    def _outcome_later(
        self, conversation: Any, body: Mapping[str, str], seconds: float, who: str
    ) -> None:
        self._later(seconds, lambda: self._service.record(conversation.id, body, who, self._now))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as they are written in `--seeds 0,1,2`. ValueError for others."""
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"seeds are whole numbers with commas between, not {text!r}")
    return tuple(dict.fromkeys(map(int, parts)))


def parse_deciders(text: str) -> tuple[str, ...]:
    """Deciders by name, all for an empty text. ValueError for an unknown one."""
    names = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if unknown := sorted(set(names) - set(DECIDERS)):
        raise ValueError(f"there is no decider {unknown[0]!r}; use {', '.join(DECIDERS)}")
    return names or DECIDERS


def parse_acceptance(text: str) -> tuple[float, float]:
    """The shares that accept an offer, when a person is needed and when not. ValueError."""
    try:
        needed, unneeded = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"acceptance is two numbers, as 0.9,0.25, not {text!r}") from error
    if not (0 <= needed <= 1 and 0 <= unneeded <= 1):
        raise ValueError(f"shares lie between 0 and 1, not {text!r}")
    return needed, unneeded
