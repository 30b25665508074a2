"""Settings of a simulated world, and its conversations, agents and drifts by number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from experiments.datasets.episode import Episode
from experiments.simulation.world.agents import Agent, AgentBehaviour, Complaint, complaint
from experiments.simulation.world.conversations import Conversation, Setting
from experiments.simulation.world.customers import customer
from experiments.simulation.world.need import offset

BEGAN = 1_767_225_600.0
"""When the first conversation begins: 2026-01-01T00:00:00Z, in seconds since the epoch."""

BETWEEN_SECONDS = 90.0
"""From the beginning of one conversation to that of the next."""

NEW_PRODUCT = "Zephyr Z1 doorbell"
NEW_PRODUCT_SHARE = 0.12
NEW_PRODUCT_RISK = 3.0
HARMLESS_INTENT = "refund"
HARMLESS = -3.5
DRIFTS = ("new_product", "harmless_intent", "base_rate")


@dataclass(frozen=True, slots=True)
class Drift:
    """From conversation `at` on, one thing changes for good.

    new_product: one in eight conversations is about a product never named before, which fails.
    harmless_intent: refunds, until then often a person's work, hardly need one any more.
    base_rate: needing a person becomes `times` as frequent. ValueError for any other kind.
    """

    kind: str
    at: int
    times: float = 3.6

    def __post_init__(self) -> None:
        if self.kind not in DRIFTS:
            raise ValueError(f"drift {self.kind!r} is unknown; use one of {', '.join(DRIFTS)}")


@dataclass(frozen=True, slots=True)
class Forgery:
    """Adversarial labels: of conversations `first` to `last` one in `every`, if handed over, is
    judged by an agent of this manner: hostile (inverts the truth) or careless.
    """

    first: int
    last: int
    name: str = "mallory"
    manner: str = "hostile"
    every: int = 1

    def judges(self, number: int) -> bool:
        return self.first <= number <= self.last and number % self.every == 0


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Settings of a world.

    base_rate: share of conversations that come to need a person when the bot is left alone
      (.0098 to .767), own requests for one aside. caught: share of the missed ones that a
      complaint or the like tells of.
    acceptance: shares that accept an offered person, when one is needed and when not; ignoring:
      share of the others who do not answer it. unsettled_return, settled_return: shares
      of those left to the bot who come back later, when a person was needed and when not.
    complaint_delay_seconds: its mean delay after the conversation. behaviours: of each agent by
      name; agents take turns in this order. drifts, forgeries: see there.
    """

    base_rate: float = 0.2
    acceptance: tuple[float, float] = (0.9, 0.25)
    ignoring: float = 0.4
    unsettled_return: float = 0.25
    settled_return: float = 0.06
    caught: float = 0.3
    complaint_delay_seconds: float = 86_400.0
    behaviours: tuple[tuple[str, AgentBehaviour], ...] = (
        ("ada", AgentBehaviour()),
        ("ben", AgentBehaviour(wrong=0.03, vague=0.35)),
        ("cleo", AgentBehaviour(wrong=0.08, vague=0.15)),
    )
    drifts: tuple[Drift, ...] = ()
    forgeries: tuple[Forgery, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """Customers, bots and agents of one seed. The same seed and settings give the same texts,
    truths and verdicts, in any process and order: each conversation has its own random stream, and
    depends only on its number and on what was decided in it.
    """

    seed: int = 0
    settings: WorldSettings = field(default_factory=WorldSettings)

    def __post_init__(self) -> None:
        offset(self._rate(1 << 60))

    def conversation(self, number: int) -> Conversation:
        """Conversation `number` (from 0), before its first message."""
        rng = Random(f"{self.seed}/conversation/{number}")
        setting = self._setting(number)
        intent = product = None
        if setting.new_product and rng.random() < NEW_PRODUCT_SHARE:
            product = NEW_PRODUCT
            intent = ("broken_device", "warranty", "product_question")[rng.randrange(3)]
        who = customer(rng, intent, product)
        began = self.began(number)
        return Conversation(f"sim-{self.seed}-{number}", number, who, setting, began, rng)

    def began(self, number: int) -> float:
        """When conversation `number` begins, in seconds since the epoch."""
        return BEGAN + number * BETWEEN_SECONDS

    def agents(self) -> tuple[Agent, ...]:
        """The honest and less honest agents who take turns; forgers are not among them."""
        return tuple(
            Agent(name, behaviour, self.seed) for name, behaviour in self.settings.behaviours
        )

    def agent(self, number: int) -> Agent:
        """The agent who judges the handoff of conversation `number`."""
        for forgery in self.settings.forgeries:
            if forgery.judges(number):
                behaviour = AgentBehaviour(
                    manner=forgery.manner, unknowable=0.0, delay_seconds=30.0
                )
                return Agent(forgery.name, behaviour, self.seed)
        agents = self.agents()
        return agents[number % len(agents)]

    def complaint(self, conversation: Conversation) -> Complaint | None:
        """Complaint about a conversation that ended without a person, if any."""
        settings = self.settings
        return complaint(conversation, self.seed, settings.caught, settings.complaint_delay_seconds)

    def comes_back_after(self, conversation: Conversation) -> float | None:
        """Seconds until the customer of an ended conversation comes back to it; None for never."""
        if not conversation.may_come_back:
            return None
        rng = Random(f"{self.seed}/back/{conversation.id}")
        settings = self.settings
        needed = conversation.truth.needed
        share = settings.unsettled_return if needed else settings.settled_return
        return rng.uniform(1800.0, 86_400.0) if rng.random() < share else None

    def _rate(self, number: int) -> float:
        rate = self.settings.base_rate
        for drift in self.settings.drifts:
            if drift.kind == "base_rate" and number >= drift.at:
                rate *= drift.times
        return rate

    def _setting(self, number: int) -> Setting:
        kinds = {drift.kind for drift in self.settings.drifts if number >= drift.at}
        return Setting(
            offset=offset(self._rate(number)),
            acceptance=self.settings.acceptance,
            ignoring=self.settings.ignoring,
            new_product="new_product" in kinds,
            easier=((HARMLESS_INTENT, HARMLESS),) if "harmless_intent" in kinds else (),
            riskier=((NEW_PRODUCT, NEW_PRODUCT_RISK),) if "new_product" in kinds else (),
        )


def episodes(seed: int, count: int, settings: WorldSettings | None = None) -> Iterator[Episode]:
    """Complete conversations with the bot left alone, each message of the customer labelled with
    the truth (1 from the message on that needed a person): for offline benches and for a prior.
    """
    world = World(seed, settings or WorldSettings())
    for number in range(count):
        conversation = world.conversation(number)
        while not conversation.ended:
            conversation.next()
        yield conversation.episode()
