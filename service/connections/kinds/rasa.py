"""Rasa: Baton is an action server. At every turn Rasa calls the action that fills the slot
`baton_action`; a rule on the slot runs the action that pauses.

Once paused, Rasa goes on when its tracker hears `resume`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from learning.conversation.state import BotReport
from service.connections.kinds.contract import (
    Arrival,
    Arrived,
    Call,
    Command,
    GiveBack,
    Headers,
    Kind,
    KindConfig,
    MessageAdded,
    NotUnderstoodError,
    Reading,
    kept_text,
    mapping,
    safe_id,
    word,
)
from service.connections.kinds.signatures import (
    hashed_key,
    header,
    json_object,
    require_equal,
    seconds,
)

SCORE, HANDOFF, SLOT = "action_baton_score", "action_baton_handoff", "baton_action"
HEADER = "x-baton-secret"
TURNS_MAX = 40
"""The newest turns of the tracker that are read: what came before is known."""

INFLATED_BYTES_MAX = 4 * 2**20
FALLBACKS = frozenset({"nlu_fallback", "out_of_scope"})


class RasaConfig(KindConfig):
    """Rasa's own address, where the bot is to go on after a person; without it nothing is sent."""


def verify(
    headers: Headers, raw: bytes, secrets: Sequence[str], now: float, config: RasaConfig
) -> dict[str, Any]:
    """The body, if it carries the secret; deflated or not. Raises NotVerifiedError."""
    require_equal(header(headers, HEADER), secrets)
    if header(headers, "content-encoding") == "deflate":
        try:
            inflating = zlib.decompressobj()
            raw = inflating.decompress(raw, INFLATED_BYTES_MAX)
        except zlib.error as error:
            raise NotUnderstoodError("the body is not deflated") from error
        if inflating.unconsumed_tail:
            raise NotUnderstoodError("the body is too large")
    return json_object(raw)


def arrive(body: Mapping[str, Any], config: RasaConfig) -> Arrived:
    tracker = mapping(body.get("tracker"))
    sender = body.get("sender_id") or tracker.get("sender_id")
    events = tracker.get("events")
    events = events[-4 * TURNS_MAX :] if isinstance(events, list) else []
    latest = mapping(tracker.get("latest_message"))
    kept = {"action": body.get("next_action"), "events": events, "latest": dict(latest)}
    key = hashed_key(body.get("next_action"), sender, latest.get("message_id"))
    return Arrived([Arrival(key, safe_id(sender), kept)] if sender is not None else [])


def read(event: Mapping[str, Any], link: Mapping[str, Any], config: RasaConfig) -> Reading:
    """The turns up to the customer's newest, which is decided about; none for other actions."""
    if event.get("action") != SCORE:
        return Reading((), link)
    turns = _turns([mapping(one) for one in event.get("events") or ()])
    latest = mapping(event.get("latest"))
    text, name = kept_text(latest.get("text")), latest.get("message_id")
    is_heard = any(turn.author == "user" and turn.id == safe_id(name) for turn in turns)
    if name is not None and text.strip() and not is_heard:
        turns.append(_customer(name, text, latest, None))
    last = max((n for n, turn in enumerate(turns) if turn.author == "user"), default=-1)
    return Reading(turns[max(0, last + 1 - TURNS_MAX) : last + 1], link)


def _turns(events: Sequence[Mapping[str, Any]]) -> list[MessageAdded]:
    """The turns of a tracker, from a message of the customer's on. A bot's has no id of its own: it
    is named by the message before it and its place after that.
    """
    turns: dict[str, MessageAdded] = {}
    customer, place = "", 0
    for one in events:
        at, text = seconds(one.get("timestamp")), kept_text(one.get("text"))
        if one.get("event") == "user" and one.get("message_id") is not None and text.strip():
            turn = _customer(one["message_id"], text, mapping(one.get("parse_data")), at)
            customer, place = turn.id, 0
        elif one.get("event") == "bot" and customer and text.strip():
            place += 1
            turn = MessageAdded(safe_id(f"bot-{customer}-{place}"), "bot", text, at=at)
        else:
            continue
        turns.setdefault(turn.id, turn)
    return list(turns.values())


def _customer(name: Any, text: str, parsed: Mapping[str, Any], at: float | None) -> MessageAdded:
    intent = mapping(parsed.get("intent"))
    label, confidence = intent.get("name"), intent.get("confidence")
    is_share = isinstance(confidence, int | float) and 0 <= confidence <= 1
    report = BotReport(
        intent=kept_text(label)[:200] or None,
        confidence=float(confidence) if is_share else None,  # type: ignore[arg-type]
        fallback=word(label) in FALLBACKS,
    )
    return MessageAdded(safe_id(name), "user", text, at=at, bot=report)


def respond(
    event: Mapping[str, Any], decision: Mapping[str, Any] | None
) -> tuple[int, Mapping[str, Any]]:
    """Slots and words for the bot; nothing where there is no decision, for the bot has to go on."""
    action = event.get("action")
    if action == HANDOFF:
        return 200, {"events": [{"event": "pause"}], "responses": []}
    if action != SCORE:
        name = kept_text(action)[:200]
        return 404, {"error": f"no action {name!r}", "action_name": name}
    if decision is None:
        return 200, {"events": [], "responses": []}
    slot = {"event": "slot", "name": SLOT, "value": decision["action"]}
    say = decision.get("say")
    words = [{"text": say["text"]}] if say and decision["action"] != "human_active" else []
    return 200, {"events": [slot], "responses": words}


def write(
    command: Command, conversation: str, link: Mapping[str, Any], config: RasaConfig
) -> list[Call]:
    """The bot goes on when a person gave it back; all else is said in the answer to a turn."""
    if not isinstance(command, GiveBack) or not config.base_url:
        return []
    path = f"/conversations/{quote(conversation, safe='')}/tracker/events"
    return [Call("status", path, {"event": "resume"}, "natural")]


def authorize(secrets: Mapping[str, str], config: RasaConfig) -> dict[str, str]:
    token = secrets.get("jwt")
    return {} if token is None else {"authorization": f"Bearer {token}"}


RASA = Kind(
    "rasa",
    RasaConfig,
    verify,
    arrive,
    read,
    write,
    authorize,
    inbound="secret",
    outbound=("jwt",),
    makes_secret=True,
    respond=respond,
)
