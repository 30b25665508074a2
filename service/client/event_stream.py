"""Server-sent events: a parser of the stream's lines, and what a reconnection needs."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

REMEMBERED_MAX = 5000
"""Ids of events that are known, so that one that comes twice is told once."""

QUIET_SECONDS = 45.0
"""A stream on which nothing comes for so long, no keep-alive either, is opened anew."""

PAUSE_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """Something that happened; `type` as in the list of events, such as `handoff.claimed`.

    `reset`: too much happened to tell; look at the conversations anew.
    """

    id: str
    type: str
    data: dict[str, Any]


@dataclass(slots=True)
class EventParser:
    """From lines to events, each once; `last_id` is where to go on after a break."""

    last_id: str = ""
    failures: int = 0
    _fields: dict[str, str] = field(default_factory=dict)
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def feed(self, line: str) -> StreamEvent | None:
        """One more line, without its end; the event that it completes, if it is a new one."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data" and "data" in self._fields:
                value = self._fields["data"] + "\n" + value
            if name in ("id", "event", "data"):
                self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        self.failures = 0
        self.last_id = fields.get("id", self.last_id)
        event = StreamEvent(
            self.last_id, fields.get("event", "message"), json.loads(fields["data"])
        )
        if event.type == "hello" or event.data.get("event_id") in self._seen:
            return None
        if (event_id := event.data.get("event_id")) is not None:
            self._seen[event_id] = None
            if len(self._seen) > REMEMBERED_MAX:
                self._seen.popitem(last=False)
        return event

    def pause(self) -> float:
        """The stream broke: seconds to wait before it is opened again after `last_id`."""
        self._fields = {}
        self.failures += 1
        pause: float = 0.25 * 2 ** min(self.failures - 1, 10)
        return min(pause, PAUSE_SECONDS_MAX)

    @property
    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.last_id} if self.last_id else {}
