"""Words for the bot to show with a decision: in a crisis, for an offer, for a callback."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from learning.decision.policy import Policy
from learning.decision.words_to_show import Kind
from service.handoffs.lifecycle import estimated_start
from service.store.conversations.batch import Batch, OpenConversation
from service.store.handoffs import handoff_rows


def bot_words(
    batch: Batch, conversation: OpenConversation, decision: Mapping[str, Any], policy: Policy
) -> dict[str, Any] | None:
    """The words of a decision, in the customer's language as far as it is known; None where the bot
    speaks for itself, or a person is there to speak.
    """
    kind: Kind
    promised = (decision["handoff"] or {}).get("promised_at")
    action = decision["action"]
    if any(trigger["name"] == "safety" for trigger in decision["triggers"]):
        if _is_claimed(batch, conversation):
            return None
        kind, promised = "crisis", None
    elif action == "offer":
        at = estimated_start(
            batch.connection,
            conversation.workspace,
            decision["team"],
            policy,
            conversation.state.at,
        )
        promised = None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
        kind = "offer" if promised is None else "callback"
    elif action == "escalate" and promised is not None:
        kind = "callback"
    else:
        return None
    language = conversation.state.language or decision["language"]["code"]
    words = {"kind": kind, "text": policy.say.text(kind, language)}
    return words | ({} if promised is None else {"promised_at": promised})


def _is_claimed(batch: Batch, conversation: OpenConversation) -> bool:
    if conversation.handoff_id is None:
        return False
    row = handoff_rows.handoff(batch.connection, conversation.workspace, conversation.handoff_id)
    return row is not None and row.status == "claimed"
