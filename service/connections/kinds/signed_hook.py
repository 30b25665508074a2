"""Generic signed hook: any system that sends JSON or forms, by a mapping of its fields.

A rule says of which events it speaks (`when`: values at paths) and where the parts of a domain
event stand; calls are templates with the placeholders {conversation}, {team}, {priority}, {note},
{text}, {agent} and {delivery}. A path is names and numbers with dots between: `data.item.id`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote

from pydantic import BaseModel, ConfigDict, Field

from service.connections.kinds.contract import (
    AgentJoined,
    AgentLeft,
    Arrival,
    Arrived,
    Call,
    Command,
    ConversationEnded,
    ConversationRated,
    DeliveryEchoed,
    DomainEvent,
    HandOver,
    Headers,
    Kind,
    KindConfig,
    MessageAdded,
    MessageEdited,
    MessageRemoved,
    NotVerifiedError,
    Reading,
    Say,
    VerdictGiven,
    delivery_id,
    kept_text,
    safe_id,
)
from service.connections.kinds.signatures import (
    LATEST_SECONDS,
    hashed_key,
    header,
    json_object,
    require_equal,
    require_recent,
    seconds,
)

Path = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignatureConfig(_Strict):
    """How requests are proven. `standard`: Standard Webhooks; `hmac`: a digest in a header;
    `token`: the secret itself in a header; `twilio`: its digest of the public URL and the form.
    """

    scheme: Literal["standard", "hmac", "token", "twilio"] = "standard"
    header: str = "x-signature"
    algorithm: Literal["sha256", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    timestamp_header: str | None = None
    public_url: str = ""


class EventRule(_Strict):
    """Which event becomes which: `when` maps paths to a value, or to several of which one holds."""

    when: dict[Path, Any] = {}
    event: Literal[
        "message", "edit", "removal", "joined", "left", "ended", "rating", "verdict", "echo"
    ]
    author: Literal["user", "bot", "agent", "system"] = "user"
    id: Path | None = None
    text: Path | None = None
    format: Literal["text", "html", "markdown", "email"] | None = None
    language: Path | None = None
    agent: Path | None = None
    at: Path | None = None
    by: Literal["agent", "bot", "customer", "clock", "unknown"] = "unknown"
    rating: Path | None = None
    verdict: Literal["needed", "not_needed", "unknowable"] | None = None
    delivery: Path | None = None


class CallTemplate(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z_]{1,30}$")]
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: Annotated[str, Field(pattern=r"^/[^\s]{0,500}$")]
    body: Any = None
    repeat: Literal["natural", "marked", "once"] = "natural"


class HookConfig(KindConfig):
    """The mapping of one system."""

    signature: SignatureConfig = SignatureConfig()
    conversation: Path
    key: Path | None = None
    occurred_at: Path | None = None
    rules: Annotated[list[EventRule], Field(max_length=50)]
    hand_over: Annotated[list[CallTemplate], Field(max_length=10)] = []
    say: Annotated[list[CallTemplate], Field(max_length=3)] = []
    give_back: Annotated[list[CallTemplate], Field(max_length=10)] = []
    auth_header: str = "authorization"
    auth_prefix: str = "Bearer "


def verify(
    headers: Headers, raw: bytes, secrets: Sequence[str], now: float, config: HookConfig
) -> dict[str, Any]:
    """The body, a JSON object or a form, if it is proven. Raises NotVerifiedError."""
    signature = config.signature
    if signature.scheme == "standard":
        _require_standard(headers, raw, secrets, now)
    elif signature.scheme == "token":
        given = header(headers, signature.header.lower())
        require_equal(given, [signature.prefix + one for one in secrets])
    elif signature.scheme == "twilio":
        form = sorted(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
        text = signature.public_url + "".join(name + value for name, value in form)
        digests = [_digest(one.encode(), text.encode(), "sha1", "base64") for one in secrets]
        require_equal(header(headers, "x-twilio-signature"), digests)
    else:
        _require_hmac(headers, raw, secrets, now, signature)
    if header(headers, "content-type").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    return json_object(raw)


def _require_hmac(
    headers: Headers, raw: bytes, secrets: Sequence[str], now: float, signature: SignatureConfig
) -> None:
    signed = raw
    if signature.timestamp_header is not None:
        timestamp = header(headers, signature.timestamp_header.lower())
        require_recent(timestamp, now, LATEST_SECONDS)
        signed = timestamp.encode() + b"." + raw
    given = header(headers, signature.header.lower())
    wanted = [
        signature.prefix + _digest(one.encode(), signed, signature.algorithm, signature.encoding)
        for one in secrets
    ]
    require_equal(given, wanted)


def _require_standard(headers: Headers, raw: bytes, secrets: Sequence[str], now: float) -> None:
    name, timestamp = header(headers, "webhook-id"), header(headers, "webhook-timestamp")
    require_recent(timestamp, now, LATEST_SECONDS)
    signed = f"{name}.{timestamp}.".encode() + raw
    wanted = []
    for one in secrets:
        try:
            key = base64.b64decode(one.removeprefix("whsec_"), validate=True)
        except (ValueError, binascii.Error):
            key = one.encode()
        wanted.append("v1," + _digest(key, signed, "sha256", "base64"))
    for given in header(headers, "webhook-signature").split(" ")[:5]:
        try:
            require_equal(given, wanted)
        except NotVerifiedError:
            continue
        return
    raise NotVerifiedError("the signature is wrong")


def _digest(key: bytes, signed: bytes, algorithm: str, encoding: str) -> str:
    made = hmac.new(key, signed, algorithm).digest()
    return made.hex() if encoding == "hex" else base64.b64encode(made).decode()


def arrive(body: Mapping[str, Any], config: HookConfig) -> Arrived:
    """The event, where a rule speaks of it."""
    native = at_path(body, config.conversation)
    if native is None or not any(_applies(rule, body) for rule in config.rules):
        return Arrived()
    key = at_path(body, config.key) if config.key is not None else None
    if key is None:
        text = repr(sorted(body.items(), key=lambda pair: pair[0]))
        key = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    at = seconds(at_path(body, config.occurred_at)) if config.occurred_at else None
    return Arrived([Arrival(hashed_key(key), safe_id(native), body, at)])


def at_path(body: Any, path: str) -> Any:
    """What stands at a path; None where nothing does."""
    for part in path.split("."):
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and part.removeprefix("-").isdecimal():
            place = int(part)
            body = body[place] if -len(body) <= place < len(body) else None
        else:
            return None
    return body


def _applies(rule: EventRule, body: Mapping[str, Any]) -> bool:
    return all(
        at_path(body, path) in (wanted if isinstance(wanted, list) else [wanted])
        for path, wanted in rule.when.items()
    )


def read(event: Mapping[str, Any], link: Mapping[str, Any], config: HookConfig) -> Reading:
    """The domain event of every rule that speaks of it."""
    found = [_read(rule, event) for rule in config.rules if _applies(rule, event)]
    return Reading([one for one in found if one is not None], link)


def _read(rule: EventRule, body: Mapping[str, Any]) -> DomainEvent | None:
    agent = _text_at(body, rule.agent) or None
    if rule.event in ("message", "edit"):
        name, text = at_path(body, rule.id or ""), _text_at(body, rule.text, whole=True)
        if name is None or not text:
            return None
        message = MessageAdded(
            safe_id(name),
            rule.author,
            text,
            agent=agent if rule.author == "agent" else None,
            at=seconds(at_path(body, rule.at)) if rule.at else None,
            language=_language(body, rule),
            format=rule.format,
        )
        return message if rule.event == "message" else MessageEdited(message)
    if rule.event == "removal":
        name = at_path(body, rule.id or "")
        return None if name is None else MessageRemoved(safe_id(name))
    return _read_other(rule, body, agent)


def _read_other(rule: EventRule, body: Mapping[str, Any], agent: str | None) -> DomainEvent | None:
    if rule.event == "joined":
        return AgentJoined(agent, "opened" if agent is None else "assigned")
    if rule.event == "left":
        return AgentLeft("bot")
    if rule.event == "ended":
        return ConversationEnded(rule.by)
    if rule.event == "rating":
        rating = at_path(body, rule.rating or "")
        is_rating = isinstance(rating, int) and not isinstance(rating, bool) and 1 <= rating <= 5
        return ConversationRated(rating) if is_rating else None
    if rule.event == "echo":
        delivery = at_path(body, rule.delivery or "")
        return DeliveryEchoed(delivery) if isinstance(delivery, str) else None
    return None if rule.verdict is None else VerdictGiven(rule.verdict, "event", agent)


def _text_at(body: Mapping[str, Any], path: str | None, *, whole: bool = False) -> str:
    text = kept_text(at_path(body, path)) if path else ""
    return text if whole else text.strip()[:200]


def _language(body: Mapping[str, Any], rule: EventRule) -> str | None:
    given = at_path(body, rule.language) if rule.language else None
    return given if isinstance(given, str) and 2 <= len(given) <= 35 and given.isascii() else None


def write(
    command: Command, conversation: str, link: Mapping[str, Any], config: HookConfig
) -> list[Call]:
    """The calls of a command, in the order of its templates."""
    values: dict[str, Any] = {"conversation": conversation}
    if isinstance(command, HandOver):
        templates = [*config.hand_over]
        packet = command.packet
        values |= {"team": command.team, "priority": command.priority}
        values["note"] = "" if packet is None else packet.text
        if packet is None:
            templates = [one for one in templates if one.repeat == "natural"]
    elif isinstance(command, Say):
        templates = config.say
        values |= {"text": command.text, "agent": command.agent}
    else:
        templates = config.give_back
    return [
        Call(
            one.name,
            _filled_path(one.path, values),
            _filled(one.body, values | {"delivery": delivery_id(command.cause, one.name)}),
            "once" if isinstance(command, Say) else one.repeat,
            one.method,
        )
        for one in templates
    ]


def _filled_path(path: str, values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
    return path


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    """A template with its placeholders filled; one that stands alone keeps its type."""
    if isinstance(template, dict):
        return {name: _filled(part, values) for name, part in template.items()}
    if isinstance(template, list):
        return [_filled(part, values) for part in template]
    if not isinstance(template, str):
        return template
    for name, value in values.items():
        if template == f"{{{name}}}":
            return value
    pieces = template.split("{")
    return pieces[0] + "".join(_filled_piece(piece, values) for piece in pieces[1:])


def _filled_piece(piece: str, values: Mapping[str, Any]) -> str:
    """What stands after a brace: a placeholder, or as it was. What was filled in is not read."""
    name, closed, rest = piece.partition("}")
    if not closed or name not in values:
        return "{" + piece
    value = values[name]
    return ("" if value is None else str(value)) + rest


def authorize(secrets: Mapping[str, str], config: HookConfig) -> dict[str, str]:
    token = secrets.get("token")
    return {} if token is None else {config.auth_header: config.auth_prefix + token}


SIGNED_HOOK = Kind(
    "hook",
    HookConfig,
    verify,
    arrive,
    read,
    write,
    authorize,
    inbound="secret",
    outbound=("token",),
    makes_secret=True,
)
