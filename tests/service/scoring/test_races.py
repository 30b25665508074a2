"""Requests of one batch about a conversation that does not exist yet, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import httpx
import pytest

from learning.ledger import checkpoint
from service.versions.restore import restore
from tests.postgres import BOTH, on_both
from tests.service_in_process import OTHERS, InProcess, Place, in_one_batch, refusal, serving

BEGINS = ("score", "messages")
store_url = on_both(stores=BOTH)


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("races"), database=store_url) as running:
        yield running


def asking(place: Place, act: str, name: str) -> Callable[[], httpx.Response]:
    path = f"/v1/conversations/{name}"
    turn = {"id": "said", "author": "bot", "text": "hello"}
    bodies: dict[str, Any] = {
        "messages": {"messages": [turn]},
        "outcome": {"verdict": "missed", "source": "complaint"},
        "close": {"resolution": "resolved"},
    }
    if act == "score":
        return lambda: place.bot.score(name, "m", OTHERS[0])
    return lambda: place.bot.post(f"{path}/{act}", json=bodies[act])


@pytest.mark.parametrize("order", list(permutations(("score", "close", "outcome"))))
def test_what_comes_before_the_first_message_is_told_that_there_is_none(
    service: InProcess, place: Place, order: tuple[str, ...]
) -> None:
    acts = (*order, "messages")
    answers = in_one_batch(service, [asking(place, act, "c") for act in acts])
    begun = False
    for act, answer in zip(acts, answers, strict=True):
        if act in BEGINS or begun:
            assert answer.status_code == 200, answer.text
        else:
            assert refusal(answer, 404, "no_conversation")["hint"]
        begun = begun or act in BEGINS
    assert all(body["covers"] >= 1 for body in place.ledger())
    served = place.engineer.got("/v1/standing")
    again = restore(service.baton.store, place.name)
    assert (served["position"], served["digest"]) == (again.position, checkpoint.digest(again))


def test_a_conversation_whose_only_message_is_refused_has_none(
    service: InProcess, place: Place
) -> None:
    twice = {"conversation_id": "c", "message": {"id": "m", "text": "x"}}
    twice |= {"history": [{"id": "m", "author": "bot", "text": "y"}]}
    refused, *others = in_one_batch(
        service,
        [
            lambda: place.bot.post("/v1/score", json=twice),
            asking(place, "outcome", "c"),
            asking(place, "close", "c"),
        ],
    )
    refusal(refused, 409, "duplicate_message_id")
    for answer in others:
        refusal(answer, 404, "no_conversation")
    assert place.content()["conversation"] == place.content()["outcome"] == 0
