"""A workspace connected to a fake of another system, and the dispatcher that sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
from sqlalchemy import select

from service.connections import dispatcher
from service.store.database.transactions import table
from service.store.tables import InboxEntry
from tests.far_sides import chatwoot
from tests.far_sides.chatwoot import FakeChatwoot
from tests.service_in_process import InProcess, Place
from tests.waiting import LIMIT_SECONDS, until


@contextmanager
def dispatching(
    service: InProcess, is_active: Callable[[], bool] = lambda: True, **changes: Any
) -> Iterator[None]:
    """The dispatcher at work, by the service's settings with these changes."""
    stop = threading.Event()
    settings = replace(service.baton.settings, **changes)
    sender = dispatcher.Dispatcher(service.baton.store, settings)
    thread = threading.Thread(target=sender.run, args=(stop, is_active))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive()


class Connected:
    """A connection of a workspace; `tell` sends it a signed event."""

    def __init__(self, place: Place, made: dict[str, Any]) -> None:
        self.place, self.made, self.id = place, made, str(made["id"])
        self.path = f"/connect/{self.id}"
        self.hook = place.service.caller()

    def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self.hook.post(self.path, content=body, headers=headers)

    def shown(self) -> dict[str, Any]:
        rows = self.place.admin.got("/v1/connections")["connections"]
        (found,) = [row for row in rows if row["id"] == self.id]
        return dict(found)

    def deliveries(self) -> list[dict[str, Any]]:
        """The oldest first."""
        found = self.place.admin.got(f"/v1/connections/{self.id}/deliveries?limit=1000")
        return list(found["deliveries"])[::-1]

    def refused(self) -> list[dict[str, Any]]:
        found = self.place.admin.got(f"/v1/connections/{self.id}/deliveries")
        return list(found["refused"])

    def settled(self) -> None:
        """Wait until the inbox is empty."""
        rows = table(InboxEntry)
        store = self.place.service.baton.store

        def is_empty() -> bool:
            with store.read() as connection:
                query = select(rows.c.id).where(
                    rows.c.connection_id == self.id, rows.c.status == "waiting"
                )
                return connection.execute(query.limit(1)).one_or_none() is None

        until(is_empty, "what came is done", every=0.02)

    def delivered(self) -> None:
        """Wait until everything that follows was sent."""

        def is_over() -> bool:
            statuses = self.shown()["deliveries"]
            return not {"waiting", "sending"} & set(statuses)

        self.settled()
        until(lambda: not self.undispatched() and is_over(), "what follows was sent", every=0.05)

    def undispatched(self) -> bool:
        with self.place.service.baton.store.read() as connection:
            sql = "SELECT 1 FROM outbox_event WHERE NOT dispatched LIMIT 1"
            return connection.exec_driver_sql(sql).first() is not None

    def conversation(self, number: int) -> str:
        return f"{self.made['kind']}:{self.id}:{chatwoot.ACCOUNT}:{number}"

    def transcript(self, number: int) -> dict[str, Any]:
        return dict(self.place.agent.got(f"/v1/conversations/{self.conversation(number)}"))


def connected_chatwoot(place: Place, far: FakeChatwoot, **config: Any) -> Connected:
    """Connect a workspace to a fake Chatwoot, whose events come at once."""
    made = place.admin.posted(
        "/v1/connections",
        {
            "kind": "chatwoot",
            "name": "Helpdesk",
            "config": {
                "base_url": far.url,
                "account_id": chatwoot.ACCOUNT,
                "api_access_token": chatwoot.TOKEN,
                "webhook_secret": chatwoot.SECRET,
                "teams": {"support": 4},
            }
            | config,
        },
    )
    connected = Connected(place, made)

    def deliver(event: dict[str, Any]) -> None:
        body = json.dumps(event).encode()
        answer = connected.post(body, chatwoot.signed(body))
        if answer.status_code != 200:
            far.wrong.append(f"{event['event']}: {answer.status_code} {answer.text}")

    far.deliver = deliver
    return connected
