"""The try-it chat: somebody plays the customer, and sees what Baton decides and what follows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.store.database.transactions import Store
from service.store.ledger import entries
from service.web.console.settings.scripted_bot import ANSWERS
from tests.service.web.test_conversation_page import Window
from tests.service_in_process import ASKS, QUIET, InProcess, Place, serving

TRY = "/console/try"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("try")) as running:
        yield running


class Chat:
    """Somebody's chat, without a browser and its scripts."""

    def __init__(self, window: Window) -> None:
        self.window, self.caller, self.path = window, window.caller, TRY

    def send(self, form: str = "", **given: str) -> httpx.Response:
        fields = {"token": self.window.token(TRY), **given}
        if "?c=" in self.path:
            fields["c"] = self.path.partition("?c=")[2]
        answer = self.caller.post(f"{TRY}{form}", data=fields)
        if answer.status_code == 303:
            self.path = answer.headers["location"].partition("#")[0]
        return answer

    @property
    def page(self) -> str:
        return self.caller.get(self.path).text

    def said(self) -> list[tuple[str, str]]:
        """Who said what, in order."""
        found = re.findall(
            r'<li class="bubble (\w+)".*?<p class="text" dir="auto">(.*?)</p>', self.page, re.DOTALL
        )
        return [(author, text) for author, text in found]

    def hidden(self, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]+)"', self.page)
        assert found, self.page
        return found[1]


@pytest.fixture
def chat(place: Place) -> Chat:
    return Chat(Window(place, place.keys["agent"]))


def names(store: Store, **more: Any) -> set[str]:
    with store.read() as connection:
        return set(entries.workspaces(connection, **more))


def test_a_chat_goes_from_the_bot_to_a_person_and_back(place: Place, chat: Chat) -> None:
    assert "Nothing is said yet" in chat.page
    chat.send(text=QUIET)
    assert chat.said() == [("user", QUIET), ("bot", ANSWERS["hour"][1])]
    assert "the bot goes on" in chat.page
    chat.send(text=ASKS)
    page = chat.page
    assert "A person takes over" in page
    assert "asks for a person" in page
    assert chat.said()[-1] == ("bot", "A person takes over now.")
    chat.send(text="are you there?")
    assert chat.said()[-1] == ("user", "are you there?"), "the bot is silent"
    handoff = chat.hidden("handoff_id")
    chat.send("/person", handoff_id=handoff, text="Hello, this is <Ann>.")
    assert chat.said()[-1] == ("agent", "Hello, this is &lt;Ann&gt;.")
    chat.send("/person", handoff_id=handoff, then="return")
    assert chat.said()[-1] == ("bot", "I am back. What else can I do?")
    assert "The person's side" not in chat.page
    chat.send(text="thank you")
    assert chat.said()[-1] == ("bot", "You are welcome.")


def test_nothing_of_a_trial_is_in_the_workspace_or_told_of_anywhere(
    place: Place, chat: Chat
) -> None:
    before, ledger = place.content(), place.engineer.got("/v1/standing")
    chat.send(text=ASKS)
    assert place.content() == before
    assert place.engineer.got("/v1/standing") == ledger
    assert place.agent.got("/v1/handoffs")["handoffs"] == []
    store = place.service.baton.store
    assert f"{place.name}.try" not in names(store)
    assert f"{place.name}.try" in names(store, trials=True)
    other = Chat(Window(place.service.workspace(), place.service.keys["agent"]))
    other.path = chat.path
    assert other.said() == [], "another workspace's chat is not there"


def test_it_decides_by_the_workspaces_policy_as_it_is_now(place: Place, chat: Chat) -> None:
    chat.send(text=QUIET)
    place.offering()
    chat.path = TRY
    chat.send(text="my parcel is late")
    assert chat.said()[-1] == ("bot", "Would you like to talk to a person?") or (
        "a person is offered" in chat.page
    )
    chat.send("/answer", decision_id=chat.hidden("decision_id"), answer="yes")
    assert chat.said()[-1] == ("bot", "I get you a person now.")
    assert "The person's side" in chat.page
    assert "Yes, a person please" not in chat.page


def test_what_is_wrong_is_said_on_the_page(place: Place, chat: Chat) -> None:
    chat.send(text=ASKS)
    assert "says nothing" in chat.send(text="  ").text
    assert chat.send(text="hello", c="anybodys-conversation").status_code in (303, 422)
    assert "there is no handoff" in chat.send("/person", handoff_id="h0", text="x").text.lower()
    bot = place.service.caller()
    assert bot.post(TRY, data={"text": "x"}).headers["location"] == "/console/sign-in"
    same = {"text": "is this twice?", "message_id": "m-1"}
    chat.send(**same)
    turns = len(chat.said())
    chat.send(**same)
    assert len(chat.said()) == turns


def test_in_a_demo_the_handoff_waits_in_the_queue_and_the_reply_comes_from_there(
    tmp_path: Any,
) -> None:
    with serving(tmp_path, demo=True) as service:
        place = service.default()
        window = Window(place, place.keys["agent"])
        chat = Chat(window)
        chat.send(text=ASKS)
        handoff = place.agent.got("/v1/handoffs")["handoffs"][0]["id"]
        assert f'href="/console/handoffs/{handoff}"' in chat.page
        window.send(handoff, "reply", text="Hello from the queue.")
        assert chat.said()[-1] == ("agent", "Hello from the queue.")
