"""Coverage of the reported missed rate in conversations simulated through HTTP.

The simulation knows which of the kept conversations needed a person; Baton sees only what agents
say of handoffs, what reviewers say of the audits it drew, and what customers complain of, all of
it late. A run is good when every interval that `GET /v1/quality` gave held the true share.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from scipy.stats import binomtest

from experiments.replay.client import BatonClient, path_of, score_request, turn_json
from experiments.simulation.world import Agent, AgentBehaviour, Conversation, World, WorldSettings
from learning.conversation.state import Message

AT_ONCE = 24
"""Conversations that go on at the same time; their messages are scored in one request."""

OVERLOADED = 503
"""The status of an item that a busy service has refused."""

LATE_JUDGED, LATE_COMPLAINED = 40, 150
"""Mean delay of a verdict and of a complaint, in conversations that end meanwhile."""

JUDGE = Agent("judge", AgentBehaviour(wrong=0.0, misplaced=0.0), 0)
"""Truthful, if sometimes without an answer: no estimate can be better than its reviewers."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One run: its seed, how many conversations, and a look after every so many of them. `settings`
    say who the agents are, and what else may be set in the world.
    """

    seed: int
    conversations: int = 600
    every: int = 30
    base_rate: float = 0.25
    caught: float = 0.3
    uniform_share: float = 0.3
    settings: WorldSettings = WorldSettings()

    @property
    def world(self) -> World:
        return World(
            self.seed, replace(self.settings, base_rate=self.base_rate, caught=self.caught)
        )

    @property
    def audits(self) -> dict[str, Any]:
        """The policy's part about audits: no day or reviewer is so long as a run."""
        shares = {"uniform_share": self.uniform_share, "targeted_share": 0.05, "double_share": 0.05}
        return shares | {"per_day": 100_000, "per_reviewer_per_day": 10_000}


@dataclass(frozen=True, slots=True)
class Look:
    """True and reported missed rate of the kept, closed conversations so far."""

    kept: int
    missed: int
    reported: Mapping[str, Any]

    @property
    def truth(self) -> float:
        return self.missed / self.kept if self.kept else 0.0

    @property
    def covered(self) -> bool:
        low, high = self.reported["low"], self.reported["high"]
        return low is None or low - 1e-9 <= self.truth <= high + 1e-9

    @property
    def width_ratio(self) -> float:
        """The interval's width over that of an exact one for one look at as many audits."""
        n, s = self.reported["audits_answered"], self.reported["audits_found_missed"]
        low, high = binomtest(s, n).proportion_ci()
        sampled = 1 - self.reported["caught"] / self.reported["kept_conversations"]
        ratio: float = (self.reported["high"] - self.reported["low"]) / ((high - low) * sampled)
        return ratio


@dataclass(slots=True)
class ServiceRun:
    """One simulated customer service, played to its end and looked at on the way."""

    plan: ServicePlan
    callers: Mapping[str, BatonClient]
    draw: Callable[[], None]
    looks: list[Look] = field(default_factory=list)
    _ended: dict[str, Conversation] = field(default_factory=dict)
    _due: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _ticket: Any = field(default_factory=itertools.count)
    _rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Random(f"{self.plan.seed}/delays")
        policy = self.callers["engineer"].get("/v1/policy")
        audits = policy["audits"] | self.plan.audits
        self.callers["engineer"].put("/v1/policy", policy | {"audits": audits})

    def play(self) -> list[Look]:
        """All conversations, with a look after every so many and one at the very end.

        `draw` makes sure that coins were tossed for what ended a while ago: the clock's work.
        """
        world = self.plan.world
        fresh = iter(range(self.plan.conversations))
        playing: list[tuple[Conversation, tuple[Message, ...]]] = []
        looked = 0
        while True:
            for number in itertools.islice(fresh, AT_ONCE - len(playing)):
                conversation = world.conversation(number)
                playing.append((conversation, conversation.next()))
            if not playing:
                break
            playing = self._round(playing, world)
            while self._due and self._due[0][0] <= len(self._ended):
                heapq.heappop(self._due)[2]()
            if len(self._ended) - looked >= self.plan.every:
                looked = len(self._ended)
                self.draw()
                self._review(self._rng.randrange(2 * self.plan.every))
                self.look()
        while self._due:
            heapq.heappop(self._due)[2]()
        self.finish()
        return self.looks

    def finish(self) -> None:
        """Review all that is drawn by now, and look."""
        self.draw()
        self._review(self.plan.conversations)
        self.look()

    def look(self) -> None:
        """Ask for the missed rate, beside what is true at this moment."""
        by_bot = [case for case in self._ended.values() if not case.handed_over]
        reported = self.callers["engineer"].get("/v1/quality")["missed"]
        self.looks.append(Look(len(by_bot), sum(case.truth.needed for case in by_bot), reported))

    def _round(
        self, playing: list[tuple[Conversation, tuple[Message, ...]]], world: World
    ) -> list[tuple[Conversation, tuple[Message, ...]]]:
        """Score the newest message of every conversation, and hear what is said next."""
        items = [score_request(conversation.id, turns) for conversation, turns in playing]
        results = self._decisions(items)
        going_on = []
        for (conversation, _), decision in zip(playing, results, strict=True):
            turns = self._obey(conversation, decision)
            if not conversation.ended:
                going_on.append((conversation, turns))
                continue
            self._close(conversation, turns)
            if not conversation.handed_over:
                self._perhaps_complain(conversation, world)
        return going_on

    def _decisions(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The decisions of a batch; what a busy service has refused (503) is sent again."""
        results: list[dict[str, Any]] = []
        while len(results) < len(items):
            rest = items[len(results) :]
            told = self.callers["bot"].post("/v1/score/batch", {"items": rest})["results"]
            refused = [n for n, one in enumerate(told) if one.get("status") == OVERLOADED]
            results += told[: refused[0]] if refused else told
        return results

    def _obey(self, conversation: Conversation, decision: Mapping[str, Any]) -> tuple[Message, ...]:
        handoff = decision["handoff"]
        if decision["action"] == "offer":
            accepted = conversation.answer()
            if accepted is not None:
                path = path_of("decisions", decision["decision_id"], "answer")
                handoff = self.callers["bot"].post(path, {"accepted": accepted})["handoff"]
        if handoff is None:
            return conversation.next("continue")
        conversation.next("escalate")
        judge, agent = self._judge(conversation)
        verdict = judge.verdict(conversation).body()
        conversation.serve(judge.name)
        agent.post(path_of("handoffs", handoff["id"], "resolve"), {})
        path = path_of("handoffs", handoff["id"], "outcome")
        self._later(LATE_JUDGED, lambda: agent.post(path, verdict))
        return ()

    def _judge(self, conversation: Conversation) -> tuple[Agent, BatonClient]:
        """Who takes a handoff and says what was true of it: the world's agents, as far as they have
        keys, else one who is truthful.
        """
        turn = self.plan.world.agent(conversation.number)
        if turn.name in self.callers:
            return turn, self.callers[turn.name]
        return JUDGE, self.callers["agent"]

    def _close(self, conversation: Conversation, turns: tuple[Message, ...]) -> None:
        bot = self.callers["bot"]
        if turns:
            body = {"messages": [turn_json(turn) for turn in turns]}
            bot.post(path_of("conversations", conversation.id, "messages"), body)
        resolution = {"resolution": conversation.resolution}
        bot.post(path_of("conversations", conversation.id, "close"), resolution)
        self._ended[conversation.id] = conversation

    def _perhaps_complain(self, conversation: Conversation, world: World) -> None:
        complaint = world.complaint(conversation)
        if complaint is not None:
            path = path_of("conversations", conversation.id, "outcome")
            body = complaint.body()
            self._later(LATE_COMPLAINED, lambda: self.callers["bot"].post(path, body))

    def _later(self, mean: float, do: Callable[[], object]) -> None:
        due = len(self._ended) + self._rng.expovariate(1 / mean)
        heapq.heappush(self._due, (due, next(self._ticket), do))

    def _review(self, most: int) -> None:
        """Reviewers answer the oldest audits, at most so many; the others wait."""
        reviewer = self.callers["agent"]
        for _ in range(most):
            audit = reviewer.get("/v1/audits/next")["audit"]
            if audit is None:
                return
            verdict = JUDGE.review(self._ended[audit["conversation_id"]]).body()
            verdict.pop("team", None)
            reviewer.post(path_of("audits", audit["id"], "outcome"), verdict)
