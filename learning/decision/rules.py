"""Escalation rules: what they watch in a conversation state, when they fire, and their sentences.

A rule speaks of the newest message; those named in `PROTECTED` always escalate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from learning.conversation.state import State
from learning.decision.policy_document import PolicyDocument
from learning.decision.words.own_phrases import OWN
from learning.text.lexicon.settled import says_settled
from learning.text.lexicon.upset import upset_words
from learning.text.similarity import words

PROTECTED = ("request", "identity", "security", "safety")
"""Rules that always escalate: no model, cool-down, capacity or hour holds them back."""

URGENT = ("security", "safety")
"""Protected rules that raise an open handoff, and pass by a team that is closed."""

WITHOUT_COOLDOWN = (*PROTECTED, "legal")
"""Rules that no cool-down holds back; legal threats wait for opening hours all the same."""


class Rule(PolicyDocument):
    """Fires when what it `watches` reads `at_least` so much in the newest message's state.

    One that names no `team` leaves it to the other rules, the model and the default team.
    """

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[a-z][a-z0-9_-]*$",
            description="The rule's name.",
            examples=["cancellation"],
        ),
    ]
    watches: Annotated[
        str,
        Field(
            max_length=64,
            description="What it reads: request, topic:<name>, says:<words>, repeats, ...",
            examples=["topic:cancellation"],
        ),
    ]
    at_least: Annotated[
        float, Field(gt=0, le=1000, description="From which reading on it fires.")
    ] = 1.0
    action: Annotated[Literal["offer", "escalate"], Field(description="What it asks for.")] = (
        "escalate"
    )
    team: Annotated[
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(description="Whose work it is; null: the others say.", examples=["retention"]),
    ] = None
    priority: Annotated[int, Field(ge=1, le=4, description="1 is served first")] = 3
    enabled: Annotated[bool, Field(description="Whether it is on.")] = True

    @model_validator(mode="after")
    def _can_be_read(self) -> Rule:
        if self.watches not in READINGS and not self.watches.startswith(("topic:", "says:")):
            readings = ", ".join(sorted(READINGS))
            raise ValueError(f"watches must be topic:<name>, says:<words> or one of: {readings}")
        if self.watches.startswith("says:") and not words(self.watches[5:]):
            raise ValueError("says: names no word")
        if self.name in PROTECTED and (not self.enabled or self.action != "escalate"):
            raise ValueError(f"rule {self.name} always escalates; it can be neither off nor softer")
        return self


def default_rules() -> tuple[Rule, ...]:
    return (
        Rule(name="request", watches="request", priority=2),
        Rule(name="identity", watches="topic:identity", team="identity", priority=2),
        Rule(name="security", watches="topic:security", team="security", priority=1),
        Rule(name="safety", watches="topic:safety", team="safety", priority=1),
        Rule(name="legal", watches="topic:legal", team="legal", priority=2),
        Rule(name="identity_mention", watches="topic:identity_mention", action="offer", priority=3),
        Rule(name="legal_mention", watches="topic:legal_mention", action="offer", priority=3),
        Rule(name="repeated_by_customer", watches="repeats", at_least=3),
        Rule(name="repeated_briefly", watches="short_repeats", at_least=4, action="offer"),
        Rule(name="failed_automation", watches="failures", at_least=3),
        Rule(name="repeated_by_bot", watches="bot_repeats", at_least=3, action="offer"),
        Rule(name="frustration", watches="frustration", at_least=0.6, action="offer"),
        Rule(name="upset", watches="upset", action="offer"),
        Rule(name="complaint", watches="topic:complaint", action="offer"),
    )


def with_protected_rules(rules: Sequence[Any]) -> list[Any]:
    """Rules of a policy that was stored, each protected one as it has to be."""
    defaults = {rule.name: rule.model_dump() for rule in default_rules() if rule.name in PROTECTED}
    kept = [
        rule
        for rule in rules
        if not isinstance(rule, Mapping) or rule.get("name") not in defaults or _is_protecting(rule)
    ]
    names = {rule.get("name") for rule in kept if isinstance(rule, Mapping)}
    return [*kept, *(rule for name, rule in defaults.items() if name not in names)]


def _is_protecting(rule: Mapping[str, Any]) -> bool:
    """Whether a protected rule is on, escalates, and watches what it is there for."""
    return (
        rule.get("watches") == PROTECTED_WATCH[rule["name"]]
        and rule.get("at_least", 1.0) <= 1
        and rule.get("action", "escalate") == "escalate"
        and rule.get("enabled", True) is True
    )


def _of_newest_message(read: Callable[[State], float]) -> Callable[[State], float]:
    """Only when the newest message is the one that shows it."""
    return lambda state: read(state) if state.signals_id == state.message_id else 0.0


READINGS: Mapping[str, Callable[[State], float]] = {
    "request": _of_newest_message(lambda state: float(state.signals.request is not None)),
    "frustration": _of_newest_message(lambda state: state.signals.frustration),
    "urgency": _of_newest_message(lambda state: state.signals.urgency),
    "complexity": _of_newest_message(lambda state: state.signals.complexity),
    "anger": _of_newest_message(lambda state: max(0.0, -state.signals.sentiment)),
    "upset": _of_newest_message(lambda state: float(upset_words(state.user.words) is not None)),
    "questions": _of_newest_message(lambda state: float(state.signals.questions)),
    "repeats": _of_newest_message(lambda state: float(state.repeats)),
    "short_repeats": _of_newest_message(lambda state: float(state.short_repeats)),
    "failures": lambda state: float(state.failures),
    "bot_repeats": lambda state: float(state.bot_repeats),
    "unanswered": _of_newest_message(lambda state: float(state.unanswered)),
}
PROTECTED_WATCH: Mapping[str, str] = {
    "request": "request",
    "identity": "topic:identity",
    "security": "topic:security",
    "safety": "topic:safety",
}
UNANSWERED = Rule(name="unanswered", watches="unanswered", action="offer", priority=2)
"""In force under every policy: a person was promised, and nobody came in time."""


NOTABLE_READINGS: Mapping[str, float] = {
    "failures": 1,
    "repeats": 2,
    "short_repeats": 3,
    "bot_repeats": 2,
    "frustration": 0.4,
    "anger": 0.4,
    "urgency": 0.5,
    "complexity": 0.5,
    "topic:refund": 1,
    "topic:cancellation": 1,
    "topic:complaint": 1,
    "topic:technical": 1,
}
"""From where on a reading is worth a sentence beside what the model says, without a rule."""


def reading(state: State, watches: str) -> float:
    """What a rule that `watches` this reads in a state; topics and words read 0 or 1."""
    kind, _, what = watches.partition(":")
    if not what:
        return READINGS[watches](state)
    if state.signals_id != state.message_id:
        return 0.0
    if kind == "topic":
        return float(what in state.signals.topics)
    return float(_contains_phrase(words(what), state.user.words))


def _contains_phrase(phrase: tuple[str, ...], tokens: tuple[str, ...]) -> bool:
    starts = [place for place, word in enumerate(tokens) if word == phrase[0]]
    return any(tokens[place : place + len(phrase)] == phrase for place in starts)


SETTLED = ("settled", "the customer says that all is well")
"""Why nobody is offered to who just said that all is well, as a code and in words."""


def is_settled(state: State) -> bool:
    """Whether the newest message is the customer's, and says only that all is well."""
    newest = state.author == "user" and state.signals_id == state.message_id
    return newest and says_settled(state.user.words)


def cooldown_cause(state: State) -> tuple[str, str]:
    """What began the cool-down, as a code and in words; of two things the later."""
    if state.user_since_decline is not None and (
        state.user_since_return is None or state.declined_at >= state.returned_at
    ):
        return "declined", "the customer has just not taken the offer of a person"
    return "returned", "a person has just given the conversation back"


def _times(count: float) -> str:
    return {1: "once", 2: "twice", 3: "three times"}.get(int(count), f"{int(count)} times")


def sentence(watches: str, state: State) -> str:
    """What a reading says, in words; the matched words where there are any."""
    evidence = dict(state.signals.evidence)
    phrase = evidence.get(OWN + watches.removeprefix("topic:"))
    own = f" (your phrase “{phrase}”)" if phrase else ""
    if watches == "request":
        return f"asks for a person: “{state.signals.request}”{own}"
    if watches == "repeats":
        return f"asked nearly the same thing {_times(state.repeats)}"
    if watches == "short_repeats":
        return f"said the same few words {_times(state.short_repeats)}"
    if watches == "bot_repeats":
        return f"the bot gave nearly the same answer {_times(state.bot_repeats)}"
    if watches == "unanswered":
        return "a person was asked for, and nobody came in time"
    if watches == "failures":
        return f"automation failed {_times(state.failures)}"
    if watches.startswith("topic:"):
        topic = watches[6:]
        quote = f": “{evidence[topic]}”" if topic in evidence else ""
        after = f" after automation failed {_times(state.failures)}" if state.failures else ""
        return f"speaks of {topic}{quote}{own}{after}"
    if watches.startswith("says:"):
        return f"says “{watches[5:]}”"
    if watches == "upset":
        return f"is upset: “{upset_words(state.user.words)}”"
    matched = evidence.get(watches)
    return f"shows {watches}" + (f": “{matched}”" if matched else "")


def reason_params(watches: str, state: State) -> dict[str, Any]:
    """What a reading's sentence was made of, for whoever words it anew."""
    kind, _, what = watches.partition(":")
    params: dict[str, Any] = {"watches": watches}
    evidence = dict(state.signals.evidence)
    quote = evidence.get(what or watches)
    if watches == "request":
        quote = state.signals.request
    elif watches == "upset":
        quote = upset_words(state.user.words)
    if what:
        params[kind] = what
    if quote:
        params["quote"] = quote
    if phrase := evidence.get(OWN + (what or watches)):
        params["phrase"] = phrase
    if watches in ("repeats", "short_repeats", "bot_repeats", "failures"):
        params["times"] = int(reading(state, watches))
    return params


@dataclass(frozen=True, slots=True)
class Reason:
    """An explanation for people: a sentence, and how much it weighed (0 to 1).

    `code` says what kind of reason it is, and `params` what the sentence was made of, so that
    another program can word it in its own language.
    """

    text: str
    weight: float
    code: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """As plain JSON, for a decision's record."""
        return {
            "code": self.code,
            "params": dict(self.params),
            "text": self.text,
            "weight": self.weight,
        }


def reading_reason(watches: str, state: State, weight: float) -> Reason:
    """The reason that a reading gives, with its weight."""
    code = watches.partition(":")[0]
    return Reason(sentence(watches, state), weight, code, reason_params(watches, state))
