"""What a text shows by itself, and what it does not show."""

from __future__ import annotations

import pytest

from learning.signals import QUIET, read


@pytest.mark.parametrize(
    "text",
    [
        "talk to a human",
        "AGENT PLEASE",
        "representative!!!",
        "I don't want the bot, I want a human",
    ],
)
def test_a_request_for_a_person_is_seen(text: str) -> None:
    assert read(text).request


@pytest.mark.parametrize("text", ["I don't want to talk to a human", "my travel agent", ""])
def test_a_denied_request_or_a_mention_is_none(text: str) -> None:
    assert read(text).request is None


def test_an_empty_text_is_quiet() -> None:
    assert read(" ") == QUIET
