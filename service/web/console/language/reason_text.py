"""Reasons of decisions, worded from their codes and parameters.

A decision's record keeps the English sentence. In another language it is made anew, from the same
parts; a reason without them, of an older decision, stays as it was recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from service.web.console.language.names import N_, named
from service.web.console.language.sentences import worded
from service.web.console.language.translations import gettext, is_source

Params = Mapping[str, Any]
_FAILED = re.compile(r" after automation failed (?:once|twice|three times|(\d+) times)$")
_WORDS = {"once": 1, "twice": 2, "three times": 3}


def reason_text(reason: Mapping[str, Any]) -> str:
    """A reason in the language in force."""
    text: str = reason["text"]
    if is_source():
        return text
    try:
        return reworded(reason)
    except KeyError:
        return text


def reworded(reason: Mapping[str, Any]) -> str:
    """A reason made anew from its code and parameters; in English it is its text again. Raises
    KeyError where it has none.
    """
    return _WORDINGS[reason["code"]](reason["params"], reason["text"])


def _times(count: int) -> str:
    if count <= 3:
        return (gettext("once"), gettext("twice"), gettext("three times"))[max(1, count) - 1]
    return gettext("%(n)s times") % {"n": count}


def _own(params: Params) -> str:
    if "phrase" not in params:
        return ""
    return gettext(" (your phrase “%(phrase)s”)") % {"phrase": params["phrase"]}


def _share(share: float) -> str:
    return f"{share:.0%}"


def _request(params: Params, _text: str) -> str:
    return gettext("asks for a person: “%(quote)s”") % {"quote": params.get("quote", "")} + _own(
        params
    )


def _topic(params: Params, text: str) -> str:
    about = {"topic": named(params["topic"]), "quote": params.get("quote")}
    said = (
        gettext("speaks of %(topic)s: “%(quote)s”")
        if about["quote"]
        else gettext("speaks of %(topic)s")
    )
    failed = _FAILED.search(text)
    if failed is None:
        return said % about + _own(params)
    word = failed.group().removeprefix(" after automation failed ")
    times = _times(_WORDS.get(word) or int(failed.group(1)))
    return (
        said % about
        + _own(params)
        + gettext(" after automation failed %(times)s") % {"times": times}
    )


def _counted(message: str) -> Callable[[Params, str], str]:
    return lambda params, _text: gettext(message) % {"times": _times(params["times"])}


def _shown(params: Params, _text: str) -> str:
    shown = {"what": named(params["watches"]), "quote": params.get("quote")}
    if not shown["quote"]:
        return gettext("shows %(what)s") % shown
    return gettext("shows %(what)s: “%(quote)s”") % shown


def _model(begins: str) -> Callable[[Params, str], str]:
    def text(params: Params, _text: str) -> str:
        causes = ", ".join(map(worded, params["causes"]))
        what = (
            gettext("looks like: %(causes)s") % {"causes": causes}
            if causes
            else gettext("cases like this often need a person")
        )
        bar = {"share": _share(params["probability"]), "bar": _share(params["bar"])}
        return what + gettext(begins) % bar

    return text


def _held_back(params: Params, _text: str) -> str:
    if params["cause"] == "declined":
        return gettext("held back: the customer has just not taken the offer of a person")
    if params["cause"] == "holdout":
        return gettext("held back: rules alone decide here, drawn by lot to measure the model")
    if params["cause"] == "settled":
        return gettext("held back: the customer says that all is well")
    return gettext("held back: a person has just given the conversation back")


def _team_away(params: Params, _text: str) -> str:
    then = {
        "offer": gettext("a callback is offered"),
        "escalate": gettext("they take it then"),
    }
    return f"{worded(params['away'])}; {then[params['action']]}"


_WORDINGS: Mapping[str, Callable[[Params, str], str]] = {
    "request": _request,
    "topic": _topic,
    "says": lambda params, _text: gettext("says “%(words)s”") % {"words": params["says"]},
    **dict.fromkeys(("frustration", "urgency", "complexity", "anger", "questions"), _shown),
    "repeats": _counted(N_("asked nearly the same thing %(times)s")),
    "short_repeats": _counted(N_("said the same few words %(times)s")),
    "bot_repeats": _counted(N_("the bot gave nearly the same answer %(times)s")),
    "failures": _counted(N_("automation failed %(times)s")),
    "upset": lambda params, _text: gettext("is upset: “%(quote)s”") % {"quote": params["quote"]},
    "unanswered": lambda _params, _text: gettext("a person was asked for, and nobody came in time"),
    "model_offer": _model(N_(" (%(share)s, offers start at %(bar)s)")),
    "model_escalate": _model(N_(" (%(share)s, handing over starts at %(bar)s)")),
    "held_back": _held_back,
    "team_suggested": lambda params, _text: (
        gettext("sounds like work for team %(team)s (%(share)s)")
        % {"team": params["team"], "share": _share(params["probability"])}
    ),
    "on_call": lambda params, _text: (
        gettext("%(away)s; team %(team)s takes it at once")
        % {"away": worded(params["away"]), "team": params["team"]}
    ),
    "team_away": _team_away,
    "human_active": lambda _params, _text: gettext(
        "a person has this conversation; the bot stays silent"
    ),
}
