"""The dispatcher of the outbox in a process of its own, whose waits are short, until it is killed.

python -m tests.dispatching HOME [DATABASE]
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from service.connections import dispatcher
from service.connections.calls import call_sender
from service.connections.webhooks import delivery_attempt, webhook_sender
from service.runtime.settings import Settings
from service.store.database.transactions import Store

SHORT_RETRIES = (0.05,) * 60
CLAIM_SECONDS, TIMEOUT_SECONDS, ECHO_SECONDS = 1.0, 0.5, 1.5


def main(home: str, database: str = "") -> None:
    delivery_attempt.RETRY_SECONDS = SHORT_RETRIES
    delivery_attempt.TIMEOUT_SECONDS = TIMEOUT_SECONDS
    webhook_sender.CLAIM_SECONDS = call_sender.CLAIM_SECONDS = CLAIM_SECONDS
    call_sender.RETRY_SECONDS = SHORT_RETRIES
    call_sender.TIMEOUT_SECONDS, call_sender.ECHO_SECONDS = TIMEOUT_SECONDS, ECHO_SECONDS
    dispatcher.POLL_SECONDS = 0.02
    settings = Settings(home=Path(home), database=database)
    store = Store(settings.database_url)
    dispatcher.Dispatcher(store, settings).run(threading.Event(), lambda: True)


if __name__ == "__main__":
    main(*sys.argv[1:])
