"""A message to a closed conversation opens it again, and its decision says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service_in_process import ASKS, OTHERS, InProcess, Place, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("reopening")) as running:
        yield running


@pytest.mark.parametrize("first", [OTHERS[0], ASKS])
def test_the_decision_that_opens_a_conversation_again_says_so_whenever_it_is_asked_for(
    service: InProcess, first: str
) -> None:
    place: Place = service.workspace()
    assert place.bot.decided("c", "m1", first)["reopened"] is False
    place.bot.posted("/v1/conversations/c/close", {"resolution": "resolved"})
    again = place.bot.decided("c", "m2", OTHERS[1])
    assert again["reopened"] is True
    assert place.bot.decided("c", "m3", OTHERS[2])["reopened"] is False
    assert place.bot.decided("c", "m2", OTHERS[1]) == again
    stored = place.agent.got(f"/v1/decisions/{again['decision_id']}")
    assert stored["reopened"] is True
    assert place.agent.got(f"/v1/decisions/{again['decision_id']}/replay")["identical"] is True
