"""Study 2, routing: does the model learn the right team from late and noisy labels?

    python -m experiments.studies.002_team_routing [CONVERSATIONS] [SEEDS]

A simulated customer service with nine teams: a bot, the default recipe and policy deciding and
learning, and three rules that name teams (identity and security, legal, frustration). Half of the
agents name the team, one in twenty of them a wrong one; of the others, half move a handoff that
came to the wrong team, and half leave it where it is. Each handoff is routed before anything of it
is learned and compared with the truth, which only the simulation knows: by rules, model and default
team, as the policy has it; by the model's first choice; by rules alone; and always to the team most
often learned so far.

Expected: from the 500th handoff on the policy's routing is right in at least 80 of 100, the model
names a team for at least half of the handoffs, and where it does it is right in at least 85 of 100.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import numpy as np

from experiments.simulation.world import Conversation, World, WorldSettings
from experiments.simulation.world.intents import intents
from learning.conversation.state import EMPTY, State, step
from learning.decision.policy import Policy, Rule, decide, default_rules, route_for_state
from learning.decision.teams.opening_hours import Team
from learning.decision.teams.routing import Route
from learning.ledger.model_state import Entry, ModelState, Turn, replay_entries
from learning.models.recipes import DEFAULT

NAMED, WRONG, MOVED = 0.5, 0.05, 0.5
SINCE = 500
DELAY = 20
"""Conversations that begin before an outcome is learned."""

TEAMS = tuple(sorted({intent.team for intent in intents().values()}))
_TEAMS = {"identity": "security", "security": "security", "legal": "legal", "frustration": "care"}


def policy() -> Policy:
    """A policy whose rules know this company's teams, and its most frequent one is the default."""
    rules = tuple(
        Rule(**{**rule.model_dump(), "team": _TEAMS.get(rule.name)}) for rule in default_rules()
    )
    teams = tuple(Team(name=name) for name in TEAMS)
    return Policy(rules=rules, default_team="technical", teams=teams)


@dataclass(slots=True)
class Play:
    """One seed: conversations one after another, outcomes learned late, in order."""

    world: World
    model_state: ModelState
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    hits: list[tuple[bool, bool, bool, bool, bool, bool]] = field(default_factory=list)
    teams: Counter[str] = field(default_factory=Counter)

    def run(self, conversations: int) -> None:
        self.model_state.policy = policy()
        for number in range(conversations):
            self._converse(self.world.conversation(number))
            while len(self.waiting) > DELAY:
                self._learn(self.waiting.pop(0))

    def _converse(self, conversation: Conversation) -> None:
        turns: list[Turn] = []
        state, fresh = EMPTY, conversation.next()
        while not conversation.ended:
            for message in fresh:
                state = step(state, message)
                turns.append(Turn(message, message.author == "user"))
            probability = self.model_state.score(state).probability
            suggest = partial(self.model_state.router.suggest, state, TEAMS)
            choice = decide(self.model_state.policy, state, probability, suggest)
            offered = choice.action == "offer" and conversation.accepts()
            if choice.action == "escalate" or offered:
                conversation.next("escalate")
                self._hand_over(conversation, state, turns, choice.route)
                return
            fresh = conversation.next("continue")

    def _hand_over(
        self, conversation: Conversation, state: State, turns: list[Turn], route: Route
    ) -> None:
        truth, suggestion = conversation.team, route.suggested
        self.teams[truth] += 1
        by_rules = route_for_state(self.model_state.policy, state, None).team
        self.hits.append(
            (
                route.team == truth,
                suggestion is not None and suggestion.team == truth,
                by_rules == truth,
                self.model_state.router.frequent == truth,
                route.by == "model",
                route.by == "model" and route.team == truth,
            )
        )
        verdict = self.world.agent(conversation.number).verdict(conversation)
        self.turns[conversation.id] = turns
        self.waiting.append(
            {
                "outcome_id": conversation.id,
                "conversation_id": conversation.id,
                "verdict": verdict.verdict,
                "begins": 1,
                "covers": len(turns),
                "escalated": len(turns),
                "since": None,
                "labels": [],
                "source": "agent",
                "agent": "ada",
                "propensity": 1.0,
                "by_rule": route.rule is not None,
            }
            | self._team_label(conversation, route, verdict.verdict)
        )

    def _team_label(self, conversation: Conversation, route: Route, verdict: str) -> dict[str, str]:
        """The team label that comes to be known, and its source."""
        rng = Random(f"{self.world.seed}/team/{conversation.id}")
        if verdict != "needed":
            return {}
        if rng.random() < NAMED:
            others = sorted(self.teams)
            wrong = rng.random() < WRONG
            return {
                "team": others[rng.randrange(len(others))] if wrong else conversation.team,
                "team_by": "agent",
            }
        if route.team != conversation.team and rng.random() < MOVED:
            return {"team": conversation.team, "team_by": "transfer"}
        return {"team": route.team, "team_by": "stayed"}

    def _learn(self, body: dict[str, Any]) -> None:
        entry = Entry(self.model_state.position + 1, "outcome", body, "test", 0.0)
        replay_entries(self.model_state, [entry], lambda name, until: self.turns.pop(name)[:until])


def main(conversations: int, seeds: int) -> None:
    hits = []
    for seed in range(seeds):
        play = Play(World(seed, WorldSettings(base_rate=0.3)), ModelState(recipe=DEFAULT))
        play.run(conversations)
        hits.append(np.array(play.hits, float))
        print(f"seed {seed}: {len(play.hits)} handoffs, {dict(play.teams)}", file=sys.stderr)
    parts = {"first 100": (0, 100), "100 to 500": (100, SINCE), f"from {SINCE}": (SINCE, 1 << 30)}
    report = {name: _shares([rows[a:b] for rows in hits]) for name, (a, b) in parts.items()}
    print(json.dumps({"seeds": seeds, "handoffs": sum(map(len, hits))} | report, indent=2))


def _shares(parts: list[np.ndarray]) -> dict[str, list[float] | float]:
    """Mean over seeds, with least and greatest, of each way; and how often the model decided."""
    names = ("route", "model", "rules", "frequent", "model_decides")
    rates: dict[str, list[float] | float] = {}
    for place, name in enumerate(names):
        means = [float(rows[:, place].mean()) for rows in parts]
        rates[name] = [round(x, 4) for x in (sum(means) / len(means), min(means), max(means))]
    decided = sum(float(rows[:, 4].sum()) for rows in parts)
    right = sum(float(rows[:, 5].sum()) for rows in parts)
    rates["right_where_model_decides"] = round(right / decided, 4) if decided else 0.0
    return rates


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]] + [4000, 5][len(sys.argv) - 1 :]
    main(*given)
