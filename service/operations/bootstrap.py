"""Bootstrap of an installation: migrate the database, create the first workspace and keys."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from service.runtime.first_secrets import KEYS_FILE, add_secrets, read_secrets
from service.runtime.settings import INSTALLATION, Settings
from service.store import access
from service.store.database.transactions import Store, UnavailableError
from service.versions.switches import begin_workspace
from service.web.access.keys import FIRST_ROLES, add_key, new_secret

STARTING_SECONDS = 60.0
"""How long `serve` and `jobs` wait for a database that restarts."""

_STARTING = ("starting up", "shutting down", "recovery", "terminating connection")
"""What PostgreSQL says while it restarts. One that nothing listens for is told at once."""

_log = structlog.get_logger("baton.bootstrap")


def prepare(settings: Settings, store: Store) -> dict[str, str]:
    """Make an installation ready to serve, idempotent; gives its first keys by role.

    The keys are written to the home folder, readable by the owner only, before the database learns
    them, so that a crash in between leaves no key that nobody has. They are made once per
    installation: a further host with an empty home makes none.
    """
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    store.migrate()
    file = settings.home / KEYS_FILE
    with store.write() as connection:
        begin_workspace(connection, INSTALLATION, "live", "baton", settings.recipe)
        if not _first_keys(file) and access.has_keys(connection, INSTALLATION):
            return {}
        secrets = _first_keys(file) or add_secrets(
            file, {role: new_secret() for role in FIRST_ROLES}
        )
        for role, secret in secrets.items():
            add_key(connection, INSTALLATION, role, role, secret)
    return secrets


def prepare_database(settings: Settings) -> None:
    """`prepare` on a connection of its own, before `serve` and `jobs` start.

    A database that is just starting is waited for, up to STARTING_SECONDS.
    """
    give_up = time.monotonic() + STARTING_SECONDS
    store = Store(settings.database_url)
    try:
        while True:
            try:
                prepare(settings, store)
                return
            except UnavailableError as error:
                why = str(error.orig)
                is_starting = not store.is_sqlite and any(sign in why for sign in _STARTING)
                if not is_starting or time.monotonic() > give_up:
                    raise
                _log.warning("database_starting", why=why)
                time.sleep(1)
    finally:
        store.close()


def _first_keys(path: Path) -> dict[str, str]:
    """The first keys by role; none before they were made."""
    return {role: secret for role, secret in read_secrets(path).items() if role in FIRST_ROLES}
