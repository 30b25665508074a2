"""Precision and coverage of rules, estimated from agents' verdicts, and suggested changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.estimation.rule_suggestions import (
    LabelledConversation,
    coverage,
    precision,
    suggest_rules,
    terms,
)
from service.store.reports import decision_history

CASES_MAX = 1500
"""Newest verdicts on handoffs, and on kept conversations, that are read."""

READ_MAX = 600
"""Of those without a rule, the newest of each whose text is read."""


def rule_report(connection: Connection, workspace: str, policy: Policy) -> dict[str, Any]:
    """Each rule's precision and coverage with intervals, and suggestions with their evidence, as
    JSON.
    """
    cases = list(_judged_conversations(connection, workspace))
    costs = policy.costs
    bar = costs.unneeded / (costs.unneeded + costs.missed)
    return {
        "rules": {
            rule.name: {
                "action": rule.action,
                "enabled": rule.enabled,
                "fired": sum(rule.name in case.rules for case in cases),
                "precision": asdict(precision(rule.name, cases)),
                "coverage": asdict(coverage(rule.name, cases)),
            }
            for rule in policy.rules
        },
        "suggestions": [
            asdict(suggestion) for suggestion in suggest_rules(policy.rules, cases, bar)
        ],
    }


def _judged_conversations(connection: Connection, workspace: str) -> Iterator[LabelledConversation]:
    handed_over = decision_history.judged_handoffs(connection, workspace, CASES_MAX)
    kept = decision_history.judged_kept(connection, workspace, CASES_MAX)
    triggers_by_id = _triggers_by_conversation(
        connection, workspace, [row.conversation_id for row in kept]
    )
    unruled = [row for row in handed_over if not _rule_names(row.triggers)][:READ_MAX]
    quiet = [row for row in kept if not _rule_names(triggers_by_id.get(row.conversation_id, []))][
        :READ_MAX
    ]
    texts_by_id = _customer_texts(
        connection, workspace, [row.conversation_id for row in (*unruled, *quiet)]
    )
    read = {row.conversation_id for row in (*unruled, *quiet)}
    for row in handed_over:
        texts = texts_by_id.get(row.conversation_id, ()) if row.conversation_id in read else ()
        yield LabelledConversation(
            row.verdict == "needed",
            _rule_names(row.triggers),
            any(trigger["kind"] == "model" for trigger in row.triggers),
            terms(text for seq, text in texts if row.begins <= seq <= row.seq),
        )
    for row in kept:
        triggers = triggers_by_id.get(row.conversation_id, [])
        texts = texts_by_id.get(row.conversation_id, ()) if row.conversation_id in read else ()
        yield LabelledConversation(
            row.verdict == "missed",
            _rule_names(triggers),
            any(trigger["kind"] == "model" for trigger in triggers),
            terms(text for _, text in texts),
            1 / row.propensity if row.propensity else 1.0,
        )


def _rule_names(triggers: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(trigger["name"] for trigger in triggers if trigger["kind"] != "model")


def _triggers_by_conversation(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, list[Mapping[str, Any]]]:
    triggers: dict[str, list[Mapping[str, Any]]] = {}
    for row in decision_history.triggers(connection, workspace, names):
        triggers.setdefault(row.conversation_id, []).extend(row.triggers)
    return triggers


def _customer_texts(
    connection: Connection, workspace: str, names: Sequence[str]
) -> dict[str, list[tuple[int, str]]]:
    texts: dict[str, list[tuple[int, str]]] = {}
    for row in decision_history.customer_messages(connection, workspace, names):
        texts.setdefault(row.conversation_id, []).append((row.seq, row.text))
    return texts
