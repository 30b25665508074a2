"""Dialogflow CX: a webhook that is called at each turn and answers with a session parameter, and
with a handoff to an agent where one is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from learning.conversation.state import BotReport
from service.connections.kinds.contract import (
    Arrival,
    Arrived,
    Call,
    Command,
    Headers,
    Kind,
    KindConfig,
    MessageAdded,
    Reading,
    kept_text,
    mapping,
    safe_id,
)
from service.connections.kinds.signatures import hashed_key, header, json_object, require_equal

HEADER = "x-baton-secret"
PARAMETER = "baton_action"
NO_MATCH = ("sys.no-match", "sys.no-input")


class DialogflowConfig(KindConfig):
    """Nothing is sent to Dialogflow, so it takes no address."""


def verify(
    headers: Headers, raw: bytes, secrets: Sequence[str], now: float, config: DialogflowConfig
) -> dict[str, Any]:
    """The body, if it carries the secret in the configured header. Raises NotVerifiedError."""
    require_equal(header(headers, HEADER), secrets)
    return json_object(raw)


def arrive(body: Mapping[str, Any], config: DialogflowConfig) -> Arrived:
    session = mapping(body.get("sessionInfo")).get("session")
    name = body.get("detectIntentResponseId")
    if not isinstance(session, str) or not isinstance(name, str):
        return Arrived()
    native = safe_id(session.rpartition("/")[2])
    return Arrived([Arrival(hashed_key(name), native, dict(body))])


def read(event: Mapping[str, Any], link: Mapping[str, Any], config: DialogflowConfig) -> Reading:
    text = kept_text(event.get("text") or event.get("transcript"))
    if not text.strip():
        return Reading((), link)
    intent = mapping(event.get("intentInfo"))
    confidence = intent.get("confidence")
    is_share = isinstance(confidence, int | float) and 0 <= confidence <= 1
    tag = str(mapping(event.get("fulfillmentInfo")).get("tag") or "")
    trigger = str(event.get("triggerEvent") or "")
    label = kept_text(intent.get("displayName"))[:200] or None
    report = BotReport(
        intent=label,
        confidence=float(confidence) if is_share else None,  # type: ignore[arg-type]
        fallback=trigger.startswith(NO_MATCH) or "no-match" in tag,
    )
    code = event.get("languageCode")
    language = code if isinstance(code, str) and 2 <= len(code) <= 35 else None
    name = safe_id(event.get("detectIntentResponseId"))
    return Reading([MessageAdded(name, "user", text, language=language, bot=report)], link)


def respond(
    event: Mapping[str, Any], decision: Mapping[str, Any] | None
) -> tuple[int, Mapping[str, Any]]:
    """The parameter, the words to say, and where a person is called the handoff; else nothing."""
    if decision is None:
        return 200, {}
    messages: list[dict[str, Any]] = []
    say, handoff = decision.get("say"), decision.get("handoff")
    if say and decision["action"] != "human_active":
        messages.append({"text": {"text": [say["text"]]}})
    if decision["action"] == "escalate" and handoff:
        metadata = {"handoff_id": handoff["id"], "team": handoff["team"]}
        metadata["priority"] = handoff["priority"]
        messages.append({"liveAgentHandoff": {"metadata": metadata}})
    answer: dict[str, Any] = {"sessionInfo": {"parameters": {PARAMETER: decision["action"]}}}
    if messages:
        answer["fulfillmentResponse"] = {"messages": messages, "mergeBehavior": "APPEND"}
    return 200, answer


def write(
    command: Command, conversation: str, link: Mapping[str, Any], config: DialogflowConfig
) -> list[Call]:
    return []


def authorize(secrets: Mapping[str, str], config: DialogflowConfig) -> dict[str, str]:
    return {}


DIALOGFLOW = Kind(
    "dialogflow",
    DialogflowConfig,
    verify,
    arrive,
    read,
    write,
    authorize,
    inbound="secret",
    makes_secret=True,
    respond=respond,
)
