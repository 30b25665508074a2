"""Simulated conversation, played turn by turn: what comes next depends on the decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from experiments.datasets.episode import Episode
from experiments.simulation.world import customers
from experiments.simulation.world.bots import ASKED, FAILED, HELPED, STEPPED, Bot
from experiments.simulation.world.customers import ANGER_MAX, TONES, Customer, customer, write_text
from experiments.simulation.world.intents import Intent
from experiments.simulation.world.need import Need
from experiments.simulation.world.templates import data, fill, templates
from learning.conversation.state import BotReport, Message

USER_TURNS_MAX = 10
"""After so many messages a customer gives up."""

SILENT_SHARE = 0.25
"""Share of customers who, helped, leave without a word."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The world as it is at one conversation: log odds added to all, to intents, to products; who
    accepts an offered person, and what share of the others does not answer.
    """

    offset: float = 0.0
    acceptance: tuple[float, float] = (0.9, 0.25)
    ignoring: float = 0.4
    new_product: bool = False
    easier: tuple[tuple[str, float], ...] = ()
    riskier: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Truth:
    """Whether a person was needed since the last return, and from which message on.

    Who asks for a person needs one from then on, whatever it is about.
    """

    needed: bool
    first_needed_message_id: str | None


@dataclass(slots=True)
class Conversation:
    """Play it with `next` until it has `ended`; meanwhile and afterwards its truth can be read.

    `messages` are all so far. `labels` and `beliefs` are of the customer's, by message id: whether
    a person was needed then, and the best probability that anyone could give (see `need`).
    `resolution` is what the bot would say when it closes the conversation; `begins` counts the
    labels from before the last return, which the truth no longer speaks of.
    """

    id: str
    number: int
    customer: Customer
    setting: Setting
    at: float
    rng: Random
    messages: list[Message] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    beliefs: dict[str, float] = field(default_factory=dict)
    ended: bool = False
    handed_over: bool = False
    resolution: str = "unknown"
    requests: int = 0
    begins: int = 0
    _first: str | None = None
    _failures: int = 0
    _anger: int = 0
    _second: bool = False
    _thanked: bool = False
    _asked: bool = False
    _back: bool = False
    _intent: Intent = field(init=False)
    _need: Need = field(init=False)
    _bot: Bot = field(init=False)
    _user_turns: int = 0
    _plea: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._intent = self.customer.intent
        self._need = Need(self.rng)
        self._bot = Bot(self.rng)
        self._anger = self.customer.anger

    @property
    def truth(self) -> Truth:
        return Truth(self._first is not None, self._first)

    @property
    def hard(self) -> bool:
        """Whether the matter itself needs a person, asked for or not."""
        return self._need.now

    @property
    def team(self) -> str:
        """Whose work it is, when it needs a person."""
        return self._intent.team

    def next(self, action: str = "continue") -> tuple[Message, ...]:
        """The new messages after a decision, oldest first; the last one is the customer's, to be
        scored, unless the conversation `ended`.

        The first call opens it and heeds no action. "continue": the bot answers. "offer": the same,
        for a client that asks with `accepts` first. "escalate" and "human_active": no bot speaks,
        the conversation waits for a person (`serve`). ValueError for other actions, or at the end.
        """
        if self.ended or self.handed_over:
            raise ValueError(f"conversation {self.id} waits for a person or has ended")
        before = len(self.messages)
        if not before:
            self._open()
        elif action in ("escalate", "human_active"):
            self.handed_over = True
        elif action in ("continue", "offer"):
            self._go_on()
        else:
            raise ValueError(f"action {action!r} is unknown; use a decision's action")
        return tuple(self.messages[before:])

    def accepts(self) -> bool:
        """Whether the customer, offered a person now, would like one."""
        return self.answer() is True

    def answer(self) -> bool | None:
        """The customer's answer to an offer of a person: accepted, declined, or ignored (None)."""
        (a1, a0), stays = self.setting.acceptance, 1.0 - self.setting.ignoring
        a0 = a1 if self._asked else a0
        return (True, False, None)[self._need.draw((a1, (1 - a1) * stays), (a0, (1 - a0) * stays))]

    @property
    def may_come_back(self) -> bool:
        """Whether the customer, left to the bot, may still come back: once, within patience."""
        return (
            self.ended
            and not self.handed_over
            and not self._back
            and self._user_turns < USER_TURNS_MAX
        )

    def come_back(self, after_seconds: float) -> tuple[Message, ...]:
        """The customer comes back: with the same matter where it is unsettled, else with another.

        ValueError where they may not.
        """
        if not self.may_come_back:
            raise ValueError(f"conversation {self.id} is not over, or came back before")
        before = len(self.messages)
        self.ended, self.resolution, self._back = False, "unknown", True
        self._thanked, self._second = False, True
        self.at += after_seconds
        if self.truth.needed:
            lead = fill(templates("back", "any"), self.rng, {}) if self._english else ""
            about = customers.about(self.customer, self._intent, self.rng)
            self._speak([f"{lead} {about}".strip()])
        else:
            self._failures = self._anger = 0
            self._ask_another()
        return tuple(self.messages[before:])

    def serve(self, agent: str, returned: bool = False) -> tuple[Message, ...]:
        """The turns with the person who takes over.

        Afterwards the conversation has ended, or, if it is `returned` to the bot, goes on with a
        new question of the customer, the last message, to be scored.
        """
        if not self.handed_over or self.ended:
            raise ValueError(f"conversation {self.id} was not handed over, or has ended")
        before = len(self.messages)
        slots = {"agent": agent.capitalize(), "team": self.team}
        self._say("agent", fill(templates("agent", "hello"), self.rng, slots), 120.0)
        done = "solved" if self.truth.needed else "needless"
        self._say("agent", fill(templates("agent", done), self.rng, slots), 180.0)
        if returned:
            self.handed_over, self._first, self._failures = False, None, 0
            self._thanked, self._second, self._asked = False, True, False
            self._need.settle()
            self.begins = len(self.labels)
            self._anger = 0
            self._ask_another()
        else:
            self.ended, self.resolution = True, "resolved"
        return tuple(self.messages[before:])

    def episode(self) -> Episode:
        """The conversation so far as a recorded one, labelled with the truth."""
        places = [(place, m.id) for place, m in enumerate(self.messages) if m.author == "user"]
        labels = tuple((place, float(self.labels[message_id])) for place, message_id in places)
        return Episode(self.id, tuple(self.messages), labels, tuple(p for p, _ in places))

    def _open(self) -> None:
        self._arise(self._intent.base)
        if self.customer.habit and self._english:
            self._ask_for_person([fill(templates("request", "habit"), self.rng, {})])
        else:
            self._speak([customers.about(self.customer, self._intent, self.rng)], greets=True)

    def _go_on(self) -> None:
        heard = self.messages[-1].bot or BotReport()
        if self._thanked:
            self._say("bot", fill(templates("bot", "welcome"), self.rng, {}), 1.0)
            self.ended, self.resolution = True, "resolved"
            return
        skill = self._intent.skill
        answer = self._bot.answer(self.customer.slots, self._intent, self._need, heard, skill)
        self._say("bot", answer.text, 2.0, answer.report)
        if answer.came_to == ASKED:
            slot = self.customer.slots[self._intent.wants]
            replies = (slot, f"it is {slot}", f"{slot}, as I said", f"{slot} I think")
            self._speak([replies[self.rng.randrange(4)]], cues=False)
        elif answer.came_to == HELPED:
            self._helped()
        else:
            self._failed(answer.came_to)

    def _helped(self) -> None:
        if not self._second and self.rng.random() < 0.2:
            self._second = True
            self._failures = 0
            self._ask_another()
        elif self.rng.random() < SILENT_SHARE:
            self.ended, self.resolution = True, "unknown"
        else:
            self._thanked = True
            self._anger = 0
            self._hear([customers.thanks(self.customer, self.rng)], BotReport("thanks", 0.9))

    def _ask_another(self) -> None:
        # A new customer's intent, not their temper: it is the same person who asks.
        self._intent = customer(self.rng).intent
        self._bot = Bot(self.rng)
        self._arise(self._intent.base)
        lead = fill(templates("another", "any"), self.rng, {}) if self._english else ""
        self._speak([f"{lead} {customers.about(self.customer, self._intent, self.rng)}".strip()])

    def _failed(self, came_to: str) -> None:
        self._failures += 1
        if self._anger < ANGER_MAX and self.rng.random() < self.customer.short_fuse:
            self._anger += 1
        beyond = self._failures - self.customer.patience
        leaves = self.rng.random() < (0.05 if beyond < 0 else 0.15 + 0.15 * beyond)
        if leaves or self._user_turns >= USER_TURNS_MAX:
            self.ended, self.resolution = True, "abandoned"
            return
        harder = 0.35 * (self._failures - 1) + 0.3 * self._anger
        self._arise(self._intent.per_failure + harder - 0.6)
        sentences = [customers.reply(self.customer, self._anger, came_to == STEPPED, self.rng)]
        if self._user_turns == 1 and self.customer.habit:
            sentences = [customers.about(self.customer, self._intent, self.rng)]
        elif self._plea and self._need.draw((0.16,), (0.09,)) == 0:
            self._hear(list(self._plea))
            return
        elif came_to == FAILED and self.rng.random() < 0.5:
            sentences.append(customers.about(self.customer, self._intent, self.rng))
        self._speak(sentences)

    @property
    def _english(self) -> bool:
        return self.customer.language == "en"

    def _arise(self, log_odds: float) -> None:
        risks = data("talk.toml")["product_risk"]
        log_odds += self.setting.offset + dict(self.setting.easier).get(self._intent.name, 0.0)
        if self._intent.needs_product:
            product = self.customer.product
            log_odds += risks.get(product, 0.0) + dict(self.setting.riskier).get(product, 0.0)
        if self._need.arise(log_odds):
            self._first = self._first or f"u{self._user_turns + 1}"

    def _ask_for_person(self, sentences: list[str]) -> None:
        """The customer's own request: a person is needed from this message on."""
        self.requests += 1
        self._asked = True
        self._first = self._first or f"u{self._user_turns + 1}"
        self._hear(sentences, self._bot.perplexed())

    def _speak(self, sentences: list[str], greets: bool = False, cues: bool = True) -> None:
        """The customer's message: what they say, the words that tell, and perhaps a request."""
        who, rng, anger = self.customer, self.rng, self._anger
        if cues:
            kind = self._need.draw((0.36, 0.15), (0.09, 0.28))
            if kind < 2:
                sentences.append(customers.cue(who, self._intent, ("hard", "easy")[kind], rng))
            worn = 0.05 * min(self._failures, 3) + 0.04 * anger
            if self._need.draw((0.04 + 1.2 * worn,), (0.005 + 0.15 * worn,)) == 0:
                self._ask_for_person([sentences[0], customers.request(who, rng)])
                return
            if self._english and self._need.draw((0.002,), (0.012,)) == 0:
                sentences.append(fill(templates("request", "negated"), rng, {}))
        self._plea = tuple(sentences) if greets else self._plea
        if self._english:
            if greets:
                sentences.insert(0, fill(templates("greeting", TONES[anger]), rng, {}))
            if greets or (anger and rng.random() < 0.5):
                sentences.append(fill(templates("closing", TONES[anger]), rng, {}))
        self._hear(sentences)

    def _hear(self, sentences: list[str], report: BotReport | None = None) -> None:
        self._user_turns += 1
        message_id = f"u{self._user_turns}"
        report = report or self._bot.understand(self._intent, self._need)
        text = write_text(sentences, self.customer, self._anger, self.rng)
        self._say("user", text, 20.0 + 40.0 * self.rng.random(), report, message_id)
        self.labels[message_id] = int(self._asked or self._need.now)
        self.beliefs[message_id] = 1.0 if self._asked else self._need.belief

    def _say(
        self,
        author: str,
        text: str,
        after_seconds: float,
        report: BotReport | None = None,
        message_id: str | None = None,
    ) -> None:
        self.at += after_seconds
        first = author == "user" and self._user_turns == 1
        self.messages.append(
            Message(
                id=message_id or f"{author[0]}{len(self.messages) + 1}",
                author=author,
                text=text,
                at=self.at,
                language=self.customer.language if author == "user" else None,
                bot=report,
                attributes=(("channel", self.customer.channel),) if first else (),
            )
        )
