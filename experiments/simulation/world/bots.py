"""Simulated bot: guesses the intent with a confidence, answers, asks, and fails in several ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from experiments.simulation.world.intents import Intent, intents
from experiments.simulation.world.need import Need
from experiments.simulation.world.templates import data, fill, pick, templates
from learning.conversation.state import BotReport

HELPED, ASKED, FAILED, STEPPED = "helped", "asked", "failed", "stepped"
"""What a turn of the bot came to, as the customer sees it."""

SKILL_WHEN_NEEDED = 0.5
"""A bot answers this share of its skill well (or seems to) where a person is needed."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    report: BotReport
    came_to: str


@dataclass(slots=True)
class Bot:
    """The bot in one conversation. It remembers its steps and its last words, to repeat them."""

    rng: Random
    step: int = 0
    asked: bool = False
    last: str = ""

    def perplexed(self) -> BotReport:
        """Report on a request for a person: no intent that it knows."""
        return BotReport(intent="other", confidence=round(self.rng.uniform(0.3, 0.7), 3))

    def understand(self, intent: Intent, need: Need) -> BotReport:
        """Report on a message before the answer: less confident where a person is needed."""
        kind = need.draw((0.52, 0.31), (0.68, 0.23))
        if kind == 0:
            confidence = 0.62 + 0.38 * self.rng.random() ** 0.8
        elif kind == 1:
            confidence = self.rng.uniform(0.42, 0.75)
        else:
            confidence = self.rng.uniform(0.05, 0.42)
        guess = intent.name
        if self.rng.random() < (0.03, 0.15, 0.5)[kind]:
            guess = pick(tuple(intents()), self.rng)
        return BotReport(intent=guess, confidence=round(confidence, 3), fallback=kind == 2)

    def answer(
        self,
        slots: Mapping[str, str],
        intent: Intent,
        need: Need,
        heard: BotReport,
        skill: float,
    ) -> Answer:
        """The bot's next turn after `heard`, with its chance of success set to `skill`."""
        rng = self.rng
        if heard.intent == "other":
            return self._say(fill(templates("bot", "refuse"), rng, {}), "refuse", FAILED)
        if heard.fallback:
            return self._say(fill(templates("bot", "fallback"), rng, {}), "fallback", FAILED)
        if not self.asked and rng.random() < intent.asks:
            self.asked = True
            return self._say(fill(intent.ask, rng, slots), f"ask_{intent.wants}", ASKED)
        helps = need.draw((SKILL_WHEN_NEEDED * skill,), (skill,)) == 0
        if intent.steps and self.step < len(intent.steps):
            text = fill((intent.steps[self.step],), rng, slots)
            self.step += 1
            return self._say(text, f"step_{self.step}", HELPED if helps else STEPPED)
        if helps:
            return self._say(fill(intent.answer, rng, slots), intent.name, HELPED)
        return self._fail(slots, intent)

    def _fail(self, slots: Mapping[str, str], intent: Intent) -> Answer:
        rng = self.rng
        kind = rng.random()
        if kind < 0.22:
            error = pick(data("talk.toml")["bot"]["tools"], rng)
            text = fill(templates("bot", "tool_error"), rng, {})
            return Answer(text, BotReport(tool_error=error, attempt=intent.name), FAILED)
        if kind < 0.45 and self.last:
            return self._say(self.last, intent.name, FAILED)
        if kind < 0.8:
            return self._say(fill(intent.answer, rng, slots), intent.name, FAILED)
        return self._say(fill(templates("bot", "wrong"), rng, {}), "article", FAILED)

    def _say(self, text: str, attempt: str, came_to: str) -> Answer:
        if came_to != ASKED:
            self.last = text
        return Answer(text, BotReport(attempt=attempt), came_to)
