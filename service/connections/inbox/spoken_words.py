"""Baton's own words to a customer (an offer, a callback, in a crisis), where a connection says
them, and the customer's answer to an offer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from learning.conversation.state import Message
from learning.decision.policy import Policy
from service.handoffs import lifecycle
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, OpenConversation
from service.store.ledger import outbox_rows

_YES = """
    yes yeah yep sure ok okay please yes-please yes-sure sure-please ok-please do please-do
    ja ja-bitte ja-gerne gerne bitte oui oui-svp oui-merci d'accord sí si sí-por-favor
    si-por-favor claro vale sim sim-por-favor sì sì-grazie si-grazie va-bene ja-graag graag tak
    tak-proszę ja-tack ja-takk evet evet-lütfen да да-пожалуйста так так-будь-ласка はい
    お願いします 是 好 好的 نعم हाँ हां
"""
_NO = """
    no nope no-thanks no-thank-you not-now nein nein-danke non non-merci no-gracias não não-obrigado
    nao no-grazie nee nee-bedankt nie nie-dziękuję nej nej-tack nei nei-takk hayır нет нет-спасибо
    ні いいえ 不 不用 不用了 لا नहीं
"""
ANSWERS: Mapping[str, bool] = {word.replace("-", " "): True for word in _YES.split()} | {
    word.replace("-", " "): False for word in _NO.split()
}
_SIGNS = re.compile(r"[^\w\s']+")


def read_answer(text: str) -> bool | None:
    """Whether a text is a plain yes or no; None where it is anything more: that is decided about,
    and a longer yes is a request.
    """
    return ANSWERS.get(" ".join(_SIGNS.sub(" ", text.lower()).split()))


def answer_offer(
    batch: Batch, conversation: OpenConversation, text: str, policy: Policy, *, live: bool
) -> None:
    """Record a plain yes or no to the offer that waits, as a bot would tell it."""
    accepted = read_answer(text) if conversation.offer_id is not None else None
    if accepted is None:
        return
    batch.flush()
    row = conversation_rows.decision(
        batch.connection, conversation.workspace, conversation.offer_id or ""
    )
    if row is not None:
        lifecycle.answer_offer(
            batch, conversation.workspace, row._asdict(), accepted, live=live, policy=policy
        )


def say(
    batch: Batch, conversation: OpenConversation, decision: Mapping[str, Any], connection_id: str
) -> None:
    """Have the connection say the words of a decision, once; they are the bot's turn."""
    words = decision["say"]
    if words is None:
        return
    name = f"baton:words:{decision['decision_id']}"
    batch.open(conversation.workspace, {conversation.id: [name]})
    if name in conversation.messages:
        return
    batch.require_room(conversation, 1)
    seq = batch.append(conversation, Message(name, "bot", words["text"], batch.now))
    outbox_rows.add(
        batch.connection,
        conversation.workspace,
        outbox_rows.WORDS,
        {"decision_id": decision["decision_id"], "connection_id": connection_id},
        conversation=conversation.id,
        seq=seq,
    )
