"""The workspace's policy: costs, rules and waiting times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from learning.decision import opening_hours
from learning.decision.policy import Policy
from learning.text.signals import TOPICS
from service.policy import preview
from service.runtime.errors import Invalid
from service.store.conversations.batch import Batch
from service.store.ledger import entries
from service.web.request_context import ERRORS, AppDependency, Engineer
from service.web.schemas import moment

router = APIRouter(tags=["policy"], responses=ERRORS)


@router.get("/policy", response_model=Policy)
async def policy(baton: AppDependency, principal: Engineer) -> Any:
    """The policy in force."""

    def look(connection: Any) -> Mapping[str, Any]:
        return entries.newest_policy(connection, principal.workspace)

    return JSONResponse(dict(await baton.read(look)))


@router.put("/policy", response_model=Policy)
async def put(asked: Policy, baton: AppDependency, principal: Engineer) -> Any:
    """Set the policy: a new ledger entry, in force from the next message on."""
    _can_be_read(asked)
    workspace, body = principal.workspace, asked.model_dump(mode="json")

    def do(batch: Batch) -> Mapping[str, Any]:
        entries.lock_head(batch.connection, workspace)
        if entries.newest_policy(batch.connection, workspace) != body:
            entries.append(batch.connection, workspace, "policy", body, principal.name)
        return body

    return JSONResponse(dict(await baton.engine.run(workspace, do)))


@router.post("/policy/preview")
async def previewed(
    asked: Policy,
    baton: AppDependency,
    principal: Engineer,
    days: Annotated[float, Query(gt=0, le=90)] = 7.0,
) -> Any:
    """What the last days would have been under this policy, and what nobody can know of it."""
    _can_be_read(asked)
    found = await baton.read(
        lambda connection: preview.preview(connection, principal.workspace, asked, days)
    )
    times = {name: moment(found[name]) for name in ("since", "until")}
    return JSONResponse(found | times)


def _can_be_read(policy: Policy) -> None:
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
