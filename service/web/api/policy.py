"""Policy routes: costs, rules and waiting times in force, and off-policy preview of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.decision.teams import opening_hours
from learning.decision.words.own_phrases import Phrase
from learning.text.signals import TOPICS
from service.policy import preview
from service.privacy.originals import require_key
from service.runtime.errors import Contradiction, Invalid
from service.store.conversations.batch import Batch
from service.store.ledger import entries
from service.web.access.keys import Principal
from service.web.api.quality_schemas import Estimate
from service.web.error_responses import ERRORS, validation_error
from service.web.request_context import AppDependency, AppState, Engineer
from service.web.schemas import about, moment

router = APIRouter(tags=["policy"], responses=ERRORS)


class ActionCounts(BaseModel):
    """Decisions by action."""

    model_config = {"populate_by_name": True}
    go_on: Annotated[int, Field(alias="continue", description="The bot goes on.", examples=[900])]
    offer: Annotated[int, about("A person is offered.", 60)]
    escalate: Annotated[int, about("A person is called.", 40)]


class DecisionChanges(BaseModel):
    """Decisions as they were made, and as this policy makes them."""

    as_made: Annotated[ActionCounts, about("As they were made.")]
    under_this_policy: Annotated[ActionCounts, about("Under this policy.")]
    all: Annotated[int, about("All of them.", 1000)]
    changed: Annotated[int, about("Those that would differ.", 35)]


class TriggerChange(BaseModel):
    """How often a trigger fires."""

    as_made: Annotated[int, about("As it was.", 12)]
    under_this_policy: Annotated[int, about("Under this policy.", 20)]


class CaughtMessage(BaseModel):
    """A message in which a phrase stands."""

    conversation_id: Annotated[str, about("Its conversation.", "c-17")]
    message_id: Annotated[str, about("The message.", "m-3")]
    quote: Annotated[str, about("The customer's own words.", "please ring me back")]


class PhraseCatch(Phrase):
    """One of the policy's own phrases, and what it would have caught."""

    messages: Annotated[int, about("Messages in which it stands.", 12)]
    examples: Annotated[list[CaughtMessage], about("The newest of them, at most five.")]


class ConversationChanges(BaseModel):
    """Conversations that would go another way."""

    looked_at: Annotated[int, about("Conversations with a decision in that time.", 500)]
    not_over_yet: Annotated[int, about("Those whose truth cannot be known yet.", 40)]
    without_text: Annotated[int, about("Those whose text was removed.", 0)]
    no_longer_escalated: Annotated[int, about("Those that a person would not get.", 5)]
    newly_escalated: Annotated[int, about("Those that a person would get.", 12)]


class PolicyValueResponse(BaseModel):
    """What a policy comes to (off-policy estimate)."""

    conversations: Annotated[int, about("Conversations that are over.", 460)]
    kept: Annotated[int, about("Kept by the bot.", 380)]
    offered: Annotated[int, about("Offered a person.", 40)]
    escalated: Annotated[int, about("Escalated.", 40)]
    missed: Annotated[Estimate, about("Missed conversations.")]
    missed_rate: Annotated[Estimate, about("Of those not escalated, the share missed.")]
    unneeded: Annotated[Estimate, about("Escalated for nothing.")]
    false_escalation_rate: Annotated[Estimate, about("Of those escalated, the unneeded share.")]
    cost_per_conversation: Annotated[Estimate, about("What mistakes cost.")]


class PolicyPreview(BaseModel):
    """What the last days would have been under a policy."""

    since: Annotated[datetime, about("From when on.", "2026-11-21T09:30:00+00:00")]
    until: Annotated[datetime, about("Until when.", "2026-11-28T09:30:00+00:00")]
    cut: Annotated[
        str | None,
        about("What bounded the work.", "only the newest 3000 decisions were made again"),
    ]
    decisions: Annotated[DecisionChanges, about("Decisions.")]
    by_trigger: Annotated[dict[str, TriggerChange], about("By what fires.")]
    phrases: Annotated[list[PhraseCatch], about("What each of its own phrases would have caught.")]
    conversations: Annotated[ConversationChanges, about("Conversations.")]
    as_made: Annotated[PolicyValueResponse, about("What it was.")]
    under_this_policy: Annotated[PolicyValueResponse, about("What it would have been.")]
    cannot_know: Annotated[
        list[str], about("What nobody can know of it.", ["how a capacity's price would have moved"])
    ]


IfMatch = Annotated[
    str,
    Header(max_length=100, description="ETag of the policy that is changed: its position."),
]
JOBS = "jobs"
"""The actor of the policy entries that move `price`, `lost` and `offers.floor`."""


@router.get("/policy", response_model=Policy)
async def get_policy(baton: AppDependency, principal: Engineer) -> Any:
    """The policy in force. Its ETag changes with what people set, not with what `jobs` move."""

    def look(connection: Connection) -> tuple[Mapping[str, Any], str]:
        body = entries.newest_policy(connection, principal.workspace)
        etag = _etag(connection, principal.workspace)
        return Policy.from_ledger(body).model_dump(mode="json"), etag

    body, etag = await baton.read(look)
    return JSONResponse(dict(body), headers={"ETag": etag})


@router.put("/policy", response_model=Policy)
async def put_policy(
    asked: Policy, baton: AppDependency, principal: Engineer, if_match: IfMatch = ""
) -> Any:
    """Set the policy as a whole: a new ledger entry, in force from the next message on.

    `price`, `lost` and `offers.floor` are moved by `jobs` and stay as they are. With `If-Match`,
    409 where somebody else set it meanwhile.
    """
    _require_readable(asked)
    return await _set_policy(baton, principal, lambda _: asked, if_match)


@router.patch("/policy", response_model=Policy)
async def patch_policy(
    asked: Annotated[
        dict[str, Any],
        Body(
            description="JSON merge patch (RFC 7396): null removes a value, which falls back to "
            "its default; a list replaces the whole list.",
            examples=[{"costs": {"missed": 8}}],
        ),
    ],
    baton: AppDependency,
    principal: Engineer,
    if_match: IfMatch = "",
) -> Any:
    """Change parts of the policy; all else stays as it is. With `If-Match` as for PUT."""

    def change(current: Policy) -> Policy:
        merged = _merge(current.model_dump(mode="json"), asked)
        try:
            policy = Policy.model_validate(merged)
        except ValidationError as error:
            raise validation_error(error.errors(include_url=False)) from error
        _require_readable(policy)
        return policy

    return await _set_policy(baton, principal, change, if_match)


def _merge(value: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, part in patch.items():
        if part is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), part)
    return merged


async def _set_policy(
    baton: AppState, principal: Principal, change: Callable[[Policy], Policy], if_match: str
) -> JSONResponse:
    workspace = principal.workspace

    def append(batch: Batch) -> tuple[Mapping[str, Any], str]:
        entries.lock_head(batch.connection, workspace)
        etag = _etag(batch.connection, workspace)
        tags = [tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(",")]
        if if_match not in ("", "*") and etag.strip('"') not in tags:
            raise Contradiction(
                "policy_changed",
                "somebody set the policy since you read it",
                field="If-Match",
                hint="read it again with GET /v1/policy, whose ETag goes into If-Match",
            )
        current = entries.newest_policy(batch.connection, workspace)
        in_force = Policy.from_ledger(current)
        policy = change(in_force).with_moves_of(in_force)
        if policy.redaction != in_force.redaction:
            require_key(policy, baton.settings)
        body = policy.model_dump(mode="json")
        if current != body:
            entries.append(batch.connection, workspace, "policy", body, principal.name)
        return body, _etag(batch.connection, workspace)

    body, etag = await baton.engine.run(workspace, append)
    return JSONResponse(dict(body), headers={"ETag": etag})


def _etag(connection: Connection, workspace: str) -> str:
    """The ledger position of the newest policy that was not moved by `jobs`."""
    return f'"{entries.newest_policy_position(connection, workspace, without=JOBS)}"'


@router.post("/policy/preview", response_model=PolicyPreview)
async def preview_policy(
    asked: Policy,
    baton: AppDependency,
    principal: Engineer,
    days: Annotated[float, Query(gt=0, le=90, description="How many days to look back.")] = 7.0,
) -> Any:
    """What the last days would have been under this policy, and what nobody can know of it."""
    _require_readable(asked)
    report = await baton.read(
        lambda connection: preview.preview(connection, principal.workspace, asked, days)
    )
    times = {name: moment(report[name]) for name in ("since", "until")}
    return JSONResponse(report | times)


def _require_readable(policy: Policy) -> None:
    """A rule that watches a topic which is never read would never fire, and a zone that is none
    would be read as UTC. Ledgers may hold those of other builds, so this is asked of new policies.
    """
    for number, rule in enumerate(policy.rules):
        kind, _, topic = rule.watches.partition(":")
        if kind == "topic" and topic not in TOPICS:
            raise Invalid(
                "unknown_topic",
                f"rule {rule.name!r} watches the topic {topic!r}, which is never read",
                field=f"rules.{number}.watches",
                hint=f"topics are {', '.join(TOPICS)}",
            )
    for number, team in enumerate(policy.teams):
        if team.zone is not None and opening_hours.get_zone(team.zone) is None:
            raise Invalid(
                "unknown_zone",
                f"team {team.name!r} is in the time zone {team.zone!r}, which is not known",
                field=f"teams.{number}.zone",
                hint="name a zone such as Europe/Berlin, or give utc_offset_minutes",
            )
