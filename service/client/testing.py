"""Test double of a Baton for a bot's own tests: in memory, without a network, deterministic.

    fake = FakeBaton()
    fake.decide("where is my refund", "offer")
    bot = MyBot(fake.client())

A text decides as it was told to; else a plain request for a person escalates and all others
continue. What a person does is said with `claim`, `reply`, `give_back` and `resolve`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import unquote

import httpx

from .async_baton import AsyncBaton
from .baton import Baton
from .connection import ClientOptions, asks_for_a_person

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


class _RefusalError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class FakeBaton:
    """A fake of the API as a bot sees it; `requests` are those that came, oldest first."""

    url = "http://baton.invalid"

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.events: list[Json] = []
        self._actions: dict[str, str] = {}
        self._conversations: dict[str, Json] = {}
        self._handoffs: dict[str, Json] = {}
        self._decisions: dict[str, Json] = {}
        self._failures: list[int] = []
        self._count = 0

    def client(self, options: ClientOptions | None = None) -> Baton:
        transport = httpx.MockTransport(self._answer)
        return Baton(self.url, "bk_fake", options=options, transport=transport)

    def async_client(self, options: ClientOptions | None = None) -> AsyncBaton:
        transport = httpx.MockTransport(self._answer)
        return AsyncBaton(self.url, "bk_fake", options=options, transport=transport)

    # What a test says

    def decide(self, text: str, action: Literal["continue", "offer", "escalate"]) -> None:
        """Decide so about this text."""
        self._actions[text] = action

    def fail(self, *statuses: int) -> None:
        """Answer the next requests with these statuses."""
        self._failures += statuses

    def claim(self, handoff: str, agent: str = "Ana") -> None:
        self._handoffs[handoff] |= {"status": "claimed", "claimed_by": agent}
        self._tell("handoff.claimed", self._handoffs[handoff])

    def reply(self, handoff: str, text: str, agent: str = "Ana") -> None:
        """A person writes to the customer."""
        conversation = self._conversations[self._handoffs[handoff]["conversation_id"]]
        turn = {"id": self._id("m"), "author": "agent", "text": text, "agent": agent}
        self._append(conversation, turn)
        facts = {"message_id": turn["id"], "text": text, "agent": agent, "deliver": True}
        self._tell("message.agent", self._handoffs[handoff] | facts)

    def give_back(self, handoff: str) -> None:
        self._end(handoff, "returned")

    def resolve(self, handoff: str) -> None:
        self._end(handoff, "resolved")

    def transcript(self, conversation: str) -> list[tuple[str, str]]:
        """Author and text of each turn that came."""
        turns = self._conversations[conversation]["messages"]
        return [(turn["author"], turn["text"]) for turn in turns]

    # What the API answers

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = [unquote(part) for part in request.url.raw_path.decode().split("?")[0].split("/")]
        body: Any = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.path, body))
        if self._failures:
            return self._refuse(self._failures.pop(0), "told_to_fail", "the test said so")
        try:
            match (request.method, *path[2:]):
                case ("GET", "events"):
                    return httpx.Response(200, content=b"".join(self._stream(request)))
                case ("POST", "score"):
                    answer = self._score(body)
                case ("POST", "score", "batch"):
                    answer = {"results": [self._score(item) for item in body["items"]]}
                case ("POST", "decisions", name, "answer"):
                    answer = self._answer_offer(name, body["accepted"])
                case ("POST", "conversations", name, "messages"):
                    answer = self._append_all(name, body["messages"])
                case ("POST", "conversations", name, "close"):
                    answer = self._close(name, body["resolution"])
                case ("GET", "conversations", name):
                    answer = self._state(name, int(request.url.params.get("after", 0)))
                case ("POST", "handoffs"):
                    answer = self._hand_over(body)
                case _:
                    raise _RefusalError(404, "no_route", "the fake speaks a bot's routes alone")
        except _RefusalError as error:
            return self._refuse(error.status, error.code, str(error))
        return httpx.Response(200, json=answer)

    def _refuse(self, status: int, code: str, message: str) -> httpx.Response:
        return httpx.Response(status, json={"error": {"code": code, "message": message}})

    def _score(self, body: Json) -> Json:
        conversation = self._conversation(body["conversation_id"], begins=True)
        message = {"author": "user"} | body["message"]
        for turn in body.get("history", ()):
            self._append(conversation, turn)
        known = self._append(conversation, message)
        name = f"d-{conversation['id']}-{message['id']}"
        if known and name in self._decisions:
            return self._decisions[name]
        action = self._actions.get(message["text"], "continue")
        asks = message["author"] == "user" and asks_for_a_person(message["text"])
        if conversation["handoff_id"] is not None:
            action = "human_active"
        elif asks and message["text"] not in self._actions:
            action = "escalate"
        if action == "escalate":
            self._open(conversation, decision=name)
        kind = "request" if asks else "model"
        triggers = [{"kind": kind, "name": kind, "message_ids": [message["id"]]}]
        self._decisions[name] = decision = {
            "decision_id": name,
            "action": action,
            "probability": None if action == "human_active" else 0.5,
            "uncertainty": None if action == "human_active" else 0.1,
            "thresholds": {"offer": 0.2, "escalate": 0.6},
            "triggers": triggers if action in ("offer", "escalate") else [],
            "reasons": [{"text": "the test said so", "weight": 1.0}],
            "handoff": self._summary(conversation),
            "version": 1,
            "position": 0,
            "say": None,
        }
        return decision

    def _answer_offer(self, name: str, accepted: bool) -> Json:
        decision = self._decisions.get(name)
        if decision is None:
            raise _RefusalError(404, "no_decision", f"there is no decision {name!r}")
        if decision["action"] != "offer":
            raise _RefusalError(409, "not_an_offer", f"decision {name!r} was no offer")
        conversation = next(
            one for one in self._conversations.values() if name.startswith(f"d-{one['id']}-")
        )
        if accepted and conversation["handoff_id"] is None:
            self._open(conversation, decision=name)
        answer = "accepted" if accepted else "declined"
        handoff = self._summary(conversation) if accepted else None
        return {"decision_id": name, "answer": answer, "handoff": handoff}

    def _append_all(self, name: str, turns: list[Json]) -> Json:
        conversation = self._conversation(name, begins=True)
        known = [self._append(conversation, turn) for turn in turns]
        return {
            "conversation_id": name,
            "appended": len(turns) - sum(known),
            "length": conversation["length"],
            "human_active": conversation["handoff_id"] is not None,
        }

    def _close(self, name: str, resolution: str) -> Json:
        conversation = self._conversation(name)
        conversation |= {"status": "closed", "resolution": resolution}
        return {"conversation_id": name, "status": "closed", "resolution": resolution}

    def _state(self, name: str, after: int) -> Json:
        conversation = self._conversation(name)
        newer = [turn for turn in conversation["messages"] if turn["seq"] > after]
        human_active = conversation["handoff_id"] is not None
        handoffs = [one for one in self._handoffs.values() if one["conversation_id"] == name]
        state = {"messages": newer, "handoffs": handoffs, "human_active": human_active}
        return conversation | state

    def _hand_over(self, body: Json) -> Json:
        conversation = self._conversation(body["conversation_id"])
        if conversation["handoff_id"] is None:
            self._open(conversation, opened_by="bot", reason=body["reason"])
        return self._handoffs[conversation["handoff_id"]]

    def _conversation(self, name: str, *, begins: bool = False) -> Json:
        if name not in self._conversations and not begins:
            raise _RefusalError(404, "no_conversation", f"there is no conversation {name!r}")
        empty = {"id": name, "length": 0, "status": "open", "resolution": None}
        empty |= {"handoff_id": None, "messages": []}
        return self._conversations.setdefault(name, empty)

    def _append(self, conversation: Json, turn: Mapping[str, Any]) -> bool:
        """Whether the turn was there before."""
        for stored in conversation["messages"]:
            if stored["id"] == turn["id"]:
                if (stored["author"], stored["text"]) != (turn["author"], turn.get("text", "")):
                    raise _RefusalError(409, "message_differs", f"{turn['id']!r} has another text")
                return True
        conversation["length"] += 1
        row = {"seq": conversation["length"], "id": turn["id"], "author": turn["author"]}
        row |= {"text": turn.get("text", ""), "at": self._now(), "event": turn.get("event")}
        conversation["messages"].append(row | {"agent": turn.get("agent")})
        conversation |= {"status": "open", "resolution": None}
        return False

    def _open(self, conversation: Json, **values: Any) -> None:
        name = self._id("h")
        decision = values.pop("decision", None)
        self._handoffs[name] = handoff = {
            "id": name,
            "conversation_id": conversation["id"],
            "decision_id": decision,
            "team": "support",
            "priority": 2,
            "status": "waiting",
            "claimed_by": None,
            "opened_at": self._now(),
            "opened_by": "decision",
            "promised_at": None,
            "ended_at": None,
            "reason": None,
        } | values
        conversation["handoff_id"] = name
        self._tell("handoff.opened", handoff)

    def _end(self, name: str, status: str) -> None:
        handoff = self._handoffs[name]
        handoff |= {"status": status, "ended_at": self._now()}
        self._conversations[handoff["conversation_id"]]["handoff_id"] = None
        self._tell(f"handoff.{status}", handoff)

    def _summary(self, conversation: Json) -> Json | None:
        if conversation["handoff_id"] is None:
            return None
        handoff = self._handoffs[conversation["handoff_id"]]
        return {name: handoff[name] for name in ("id", "team", "priority")} | {"raised": False}

    def _tell(self, kind: str, handoff: Json) -> None:
        named = {"conversation_id", "status", "team", "claimed_by", "message_id"}
        named |= {"text", "agent", "deliver"}
        facts = {name: value for name, value in handoff.items() if name in named}
        facts |= {"event_id": self._id("e"), "handoff_id": handoff["id"], "at": self._now()}
        self.events.append({"type": kind, "data": facts})

    def _stream(self, request: httpx.Request) -> Iterator[bytes]:
        last = request.headers.get("Last-Event-ID", "0")
        begin = int(last) if last.isdecimal() else 0
        for number, event in enumerate(self.events[begin:], begin + 1):
            data = json.dumps(event["data"])
            yield f"id: {number}\nevent: {event['type']}\ndata: {data}\n\n".encode()

    def _id(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _now(self) -> str:
        """A clock that goes on by a second whenever it is looked at."""
        self._count += 1
        return (_EPOCH + timedelta(seconds=self._count)).isoformat()
