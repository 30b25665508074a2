"""Simulated customers: intent, temper, language and style of writing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from experiments.simulation.world.intents import Intent, intents, shares
from experiments.simulation.world.templates import data, fill, pick, templates

LANGUAGES = (("en", 0.93), ("de", 0.96), ("fr", 0.98), ("es", 1.0))
"""Cumulative shares of the languages."""

ANGER_MAX = 2
TONES = ("calm", "irritated", "angry")
"""The name of each level of anger."""

PLAIN, LOWER, LOUD = "plain", "lower", "loud"


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer. `anger` is theirs at the start, `short_fuse` the chance that a failed answer
    raises it, `patience` the failed answers they bear before they think of leaving, `typos` the
    chance that a longer word is mistyped, `habit` that they ask for a person whatever it is about.
    """

    intent: Intent
    language: str
    product: str
    anger: int
    short_fuse: float
    patience: int
    style: str
    typos: float
    habit: bool
    channel: str
    slots: Mapping[str, str]


def customer(rng: Random, intent: str | None = None, product: str | None = None) -> Customer:
    """Draw a customer, with a given intent or product where named."""
    names, cumulative = shares()
    its_intent = intents()[intent or rng.choices(names, cum_weights=cumulative)[0]]
    slots = _slots(rng, product)
    spot, hot = rng.random(), rng.random()
    return Customer(
        intent=its_intent,
        language=next(name for name, share in LANGUAGES if spot < share),
        product=slots["product"],
        anger=(1 + (rng.random() < 0.5)) if hot < 0.1 else int(hot > 0.93),
        short_fuse=0.7 if hot < 0.1 else pick((0.15, 0.35, 0.55), rng),
        patience=pick((1, 2, 2, 3, 4), rng),
        style=pick((PLAIN, PLAIN, PLAIN, LOWER, LOWER, LOUD), rng),
        typos=pick((0.0, 0.0, 0.0, 0.03, 0.09), rng),
        habit=rng.random() < 0.015,
        channel=pick(("app", "web", "web"), rng),
        slots=slots,
    )


def _slots(rng: Random, product: str | None) -> Mapping[str, str]:
    values_by_slot: Mapping[str, tuple[str, ...]] = data("talk.toml")["slots"]
    slots = {name: pick(values, rng) for name, values in values_by_slot.items()}
    if product:
        slots["product"] = product
    number = rng.randrange(10_000, 99_999)
    return slots | {
        "order": f"NH-{number}",
        "code": f"GIFT{number % 997}",
        "amount": f"{rng.randrange(4, 480)}.{pick(('00', '50', '90', '99'), rng)}",
        "n": str(rng.randrange(2, 10)),
        "product2": pick(values_by_slot["product"], rng),
        "mail": f"{pick(_NAMES, rng)}{number % 89}@mail.example",
        "birthday": f"{number % 28 + 1}.{number % 12 + 1}.{1950 + number % 55}",
    }


_NAMES = ("mara", "joel", "tomas", "ines", "petra", "yusuf", "lena", "kofi", "anouk", "bram")


_ALPHABET = "abcdefghijklmnoprstuvwy"


def write_text(parts: list[str], who: Customer, anger: int, rng: Random) -> str:
    """The parts as this customer would write them: sentences, or all lower case, or shouted."""
    sentences = [part for part in parts if part]
    if who.style == PLAIN:
        text = " ".join(_sentence(part) for part in sentences)
    else:
        text = _run_on(sentences, pick((",", "", "."), rng))
        text = text.lower() if who.style == LOWER else text
    if who.typos:
        text = " ".join(_mistyped(word, who.typos, rng) for word in text.split(" "))
    if anger and who.style != LOWER:
        if rng.random() < (0.5 if who.style == LOUD else 0.12) * (anger - 0.5):
            text = text.upper()
        if rng.random() < 0.3 * anger:
            text = text.rstrip(".") + pick(("!", "!!", "!!!", "?!"), rng)
    return text


def _sentence(part: str) -> str:
    part = part[0].upper() + part[1:]
    return part if part[-1] in ".?!:," else part + "."


def _run_on(sentences: list[str], mark: str) -> str:
    return " ".join(part if part[-1] in ".?!:," else part + mark for part in sentences).rstrip(",")


def _mistyped(word: str, rate: float, rng: Random) -> str:
    if len(word) < 4 or rng.random() >= rate or not word.isalpha():
        return word
    place = rng.randrange(1, len(word) - 1)
    kind = rng.random()
    if kind < 0.4:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind < 0.7:
        return word[:place] + word[place + 1 :]
    return word[:place] + pick(_ALPHABET, rng) + word[place + 1 :]


def about(who: Customer, intent: Intent, rng: Random) -> str:
    """Statement of the intent, in the customer's language."""
    if who.language == "en":
        return fill(intent.open, rng, who.slots)
    topic = data("talk.toml")["lang"][who.language]["topics"][intent.name].format_map(who.slots)
    return fill(templates("lang", who.language, "open"), rng, {**who.slots, "topic": topic})


def cue(who: Customer, intent: Intent, kind: str, rng: Random) -> str:
    """Words that tell an eye for it whether a person is needed (`hard`) or not (`easy`)."""
    if who.language != "en":
        return fill(templates("lang", who.language, kind), rng, who.slots)
    cues = intent.hard if kind == "hard" else intent.easy
    if rng.random() < 0.2:
        cues = templates("cues", kind)
    return fill(cues, rng, who.slots)


def request(who: Customer, rng: Random) -> str:
    """A request for a person: direct, indirect, or in their language."""
    if who.language != "en":
        return fill(templates("lang", who.language, "request"), rng, who.slots)
    return fill(templates("request", "direct" if rng.random() < 0.7 else "indirect"), rng, {})


def reply(who: Customer, anger: int, stepped: bool, rng: Random) -> str:
    """Reply to an answer that failed; `stepped` if it was a step of troubleshooting."""
    if who.language != "en":
        kind = "angry" if anger == ANGER_MAX else "failed"
        return fill(templates("lang", who.language, kind), rng, {})
    return fill(templates("step_failed" if stepped else "failed", TONES[anger]), rng, {})


def thanks(who: Customer, rng: Random) -> str:
    if who.language != "en":
        return fill(templates("lang", who.language, "thanks"), rng, {})
    return fill(templates("thanks", "any"), rng, {})
