"""Study 6, label noise attacks: detection delay and damage of careless, hostile, forged labels.

    python -m experiments.studies.006_adversarial_labels [SEEDS] [FIRST SEED]

Simulated customer services, each in a workspace of its own of one Baton (API and jobs as processes,
all through HTTP, default recipe and policy): 1200 conversations, the model learning from three
honest agents (3 to 8 % of their verdicts wrong). From conversation 300 on mallory judges: a third
of the handoffs carelessly ("needed" nine times in ten, unread), a third against the truth, or all
of 150 conversations against the truth (a burst); or nobody. That for three shares of conversations
that come to need a person. After every 50 conversations the engineer looks at
`GET /v1/quality/agents`; where mallory is suspected, her key is taken away, and one
`POST /v1/rollback` with `without` lets a version from before her serve and asks for the ledger
learned without her, which is promoted once it is built. Undetected to the end, the same is done
there, so what repair is worth is known of each. Verdicts come as fast as the machine plays, so
nobody's speed gives them away here.

Damage is the log loss of 100 conversations that nobody tells the truth of: before mallory, when she
is found, rolled back, and repaired.

Expected: in no more than 5 of 100 services is anybody honest suspected; careless and hostile ones
are found within 160 of their verdicts where a person is needed in 6 of 10; where it is 1 of 10,
hardly anybody is, for few verdicts come; and repair leaves no more loss than before mallory.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.benchmarks.harness.processes import ServerProcess, baton, jobs, key, running
from experiments.replay.client import BatonClient, path_of, score_request
from experiments.simulation.world import AgentBehaviour, Forgery, World, WorldSettings
from experiments.studies.simulated_rates import ServicePlan, ServiceRun

STAFF = (
    ("ada", AgentBehaviour()),
    ("ben", AgentBehaviour(wrong=0.03)),
    ("cleo", AgentBehaviour(wrong=0.08)),
)
MALLORY = "mallory"
CONVERSATIONS, SINCE, BURST, EVERY = 1200, 300, 150, 50
EVER = 1_000_000
ATTACKS = {
    "nobody": (),
    "careless": (Forgery(SINCE, EVER, manner="careless", every=3),),
    "hostile": (Forgery(SINCE, EVER, every=3),),
    "burst": (Forgery(SINCE, SINCE + BURST - 1),),
}
RATES = (0.1, 0.3, 0.6)
PROBED, PROBE_SEED, AT_ONCE = 100, 977, 50
SERVICES_AT_ONCE = 12
WAIT_SECONDS_MAX = 60.0
CHECKPOINT = {"BATON_CHECKPOINT_ENTRIES": "25", "BATON_CHECKPOINT_SECONDS": "2"}


@dataclass(slots=True)
class Attack:
    """One service, and what was seen of it."""

    name: str
    rate: float
    seed: int
    callers: dict[str, BatonClient]
    ended: int = 0
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def engineer(self) -> BatonClient:
        return self.callers["engineer"]

    def play(self) -> dict[str, Any]:
        settings = WorldSettings(behaviours=STAFF, forgeries=ATTACKS[self.name])
        plan = ServicePlan(self.seed, CONVERSATIONS, EVERY, self.rate, settings=settings)
        self.figures |= {"attack": self.name, "rate": self.rate, "seed": self.seed}
        self.figures |= {"accused": [], "found": False, "verdicts": None, "conversations": None}
        ServiceRun(plan, self.callers, self.look).play()
        if "repaired" not in self.figures and MALLORY in self._agents():
            self.act()
        self.figures["at_the_end"] = self.loss("at the end")
        return self.figures

    def look(self) -> None:
        """What an engineer does after every so many conversations."""
        self.ended += EVERY
        if self.ended < SINCE:
            return
        if self.ended == SINCE:
            self.figures["before"] = self.loss("before")
            return
        for name, agent in self._agents().items():
            if not agent["suspected"]:
                continue
            if name != MALLORY and name not in self.figures["accused"]:
                self.figures["accused"].append(name)
            if name == MALLORY and "repaired" not in self.figures:
                self.figures["found"] = True
                self.figures["verdicts"] = agent["suspected"]["after_verdicts"]
                self.figures["conversations"] = self.ended - SINCE
                self.act()

    def act(self) -> None:
        """Undo what mallory did, at once and then exactly, and measure both."""
        self.callers.pop(MALLORY, None)
        self.figures["learned"] = self._agents()[MALLORY]["verdicts"]
        self.figures["attacked"] = self.loss("attacked")
        body = {"reason": "mallory's labels are doubted", "without": {"agent": MALLORY}}
        back = self.engineer.post("/v1/rollback", body)
        self.figures["rolled_back"] = self.loss("rolled back")
        began = time.monotonic()
        built = self._built(back["challenger"]["id"])
        self.figures["built_seconds"] = time.monotonic() - began
        path = path_of("versions", str(built["version"]), "promote")
        self.engineer.post(path, {"reason": "the exact repair"})
        self.figures["repaired"] = self.loss("repaired")

    def _built(self, name: str) -> dict[str, Any]:
        give_up = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < give_up:
            for challenger in self.engineer.get("/v1/versions")["challengers"]:
                if challenger["id"] == name and challenger["status"] != "asked":
                    return dict(challenger)
            time.sleep(0.2)
        raise TimeoutError(f"challenger {name} was not built within {WAIT_SECONDS_MAX:g} s")

    def _agents(self) -> Mapping[str, Any]:
        """The review of agents, once jobs have taken in all there is."""
        give_up = time.monotonic() + WAIT_SECONDS_MAX
        head = self.engineer.get("/v1/standing")["position"]
        while time.monotonic() < give_up:
            review = self.engineer.get("/v1/quality/agents")
            if review["position"] >= head:
                return {agent["agent"]: agent for agent in review["agents"]}
            time.sleep(0.2)
        raise TimeoutError(f"jobs did not come to position {head} in {WAIT_SECONDS_MAX:g} s")

    def loss(self, stage: str) -> float:
        """Mean log loss over the messages of conversations that nobody tells the truth of."""
        mode = f"/v1/workspaces/{workspace(self.name, self.rate, self.seed)}/mode"
        self.callers["admin"].put(mode, {"mode": "shadow"})
        world = World(PROBE_SEED, WorldSettings(base_rate=self.rate))
        losses: list[float] = []
        for start in range(0, PROBED, AT_ONCE):
            waiting = [world.conversation(number) for number in range(start, start + AT_ONCE)]
            while waiting:
                turns = [(conversation, conversation.next()) for conversation in waiting]
                turns = [
                    (conversation, messages)
                    for conversation, messages in turns
                    if not conversation.ended
                ]
                items = [
                    score_request(f"{stage} {conversation.id}", messages)
                    | {"attributes": dict(messages[-1].attributes)}
                    for conversation, messages in turns
                ]
                if items:
                    body = {"items": items}
                    decisions = self.callers["bot"].post("/v1/score/batch", body)["results"]
                    for (conversation, messages), decision in zip(turns, decisions, strict=True):
                        truth = conversation.labels[messages[-1].id]
                        p = decision["probability"]
                        losses.append(-math.log(p if truth else 1 - p))
                waiting = [conversation for conversation, _ in turns]
        self.callers["admin"].put(mode, {"mode": "live"})
        return statistics.fmean(losses)


def workspace(attack: str, rate: float, seed: int) -> str:
    return f"{attack}-{round(100 * rate)}-{seed}"


def one(service: ServerProcess, attack: str, rate: float, seed: int) -> dict[str, Any]:
    """One service in a fresh workspace, from its first conversation to its last."""
    with ExitStack() as open_:
        admin = open_.enter_context(BatonClient(service.url, key(service.folder, "admin")))
        body = {"id": workspace(attack, rate, seed), "mode": "live"}
        keys = admin.post("/v1/workspaces", body)["keys"]
        clients = {r: open_.enter_context(BatonClient(service.url, k)) for r, k in keys.items()}
        for name in (*(name for name, _ in STAFF), MALLORY):
            issued = clients["admin"].post("/v1/keys", {"role": "agent", "name": name})
            clients[name] = open_.enter_context(BatonClient(service.url, issued["key"]))
        return Attack(attack, rate, seed, clients).play()


def main(seeds: int = 4, first: int = 0) -> None:
    cells = [(a, r, s) for s in range(first, first + seeds) for r in RATES for a in ATTACKS]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        server = baton(Path(folder))
        server.environment = dict(server.environment) | CHECKPOINT
        with (
            running(server) as service,
            running(jobs(service)),
            ThreadPoolExecutor(SERVICES_AT_ONCE) as pool,
        ):
            waiting = [pool.submit(one, service, *what) for what in cells]
            for done in as_completed(waiting):
                results.append(done.result())
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(table(results))


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row for each attack and rate, medians over seeds with least and greatest."""
    rows = [
        "| mallory | need | found | after verdicts | learned | after conversations "
        "| honest accused | before | attacked | rolled back | repaired | at the end |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for attack in ATTACKS:
        for rate in RATES:
            these = [one for one in results if (one["attack"], one["rate"]) == (attack, rate)]
            caught = sum(one["found"] for one in these)
            share_found = "-" if attack == "nobody" else f"{caught} of {len(these)}"
            count_names = ("verdicts", "learned", "conversations")
            counts = [_three(these, what, "{:g}") for what in count_names]
            accused = sum(len(one["accused"]) for one in these)
            stages = ("before", "attacked", "rolled_back", "repaired", "at_the_end")
            losses = [_three(these, stage, "{:.3f}") for stage in stages]
            cells = (attack, f"{rate:g}", share_found, *counts, str(accused), *losses)
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _three(results: list[dict[str, Any]], name: str, shape: str) -> str:
    values = [result[name] for result in results if result.get(name) is not None]
    if not values:
        return "-"
    middle, ends = statistics.median(values), (min(values), max(values))
    if ends[0] == ends[1]:
        return shape.format(middle)
    return f"{shape.format(middle)} ({shape.format(ends[0])} to {shape.format(ends[1])})"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
