"""What is asked of a conversation in the very batch of its first message finds none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from learning.decision.policy_parts import BotOutcomes
from service.outcomes import record_outcome
from service.outcomes.verdict import Verdict
from service.runtime.errors import NotFound
from service.store.conversations.batch import Batch, StateCache
from tests.service_in_process import Place, serving

VERDICT = Verdict("missed", "complaint", "bot")
ASKED: dict[str, Callable[[Batch, str], Any]] = {
    "a bot's outcome": lambda batch, place: record_outcome.record_by_bot(
        batch, place, "new", VERDICT, BotOutcomes()
    ),
    "an outcome": lambda batch, place: record_outcome.record_for_conversation(
        batch, place, "new", VERDICT
    ),
    "a close, or a handover": lambda batch, place: batch.require_started(place, "new"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with serving(tmp_path_factory.mktemp("empty")) as running:
        yield running.workspace()


@pytest.mark.parametrize("what", ASKED)
def test_what_comes_before_the_first_message_of_its_batch_finds_no_conversation(
    place: Place, what: str
) -> None:
    """The batch has made the conversation's row before any of its requests runs."""
    with place.service.baton.store.write() as connection:
        batch = Batch(connection, StateCache())
        batch.open(place.name, {"new": ["m"]})
        with pytest.raises(NotFound, match="new"):
            ASKED[what](batch, place.name)
        batch.flush()
        batch.remove_unused_conversations()
    assert place.ledger() == []
    assert place.agent.get("/v1/conversations/new").status_code == 404
