"""Secrets of connections: sealed, or named by reference (`env:NAME`, `file:NAME`).

References reach only what is meant for connections, so that nobody who may configure one can read
other secrets of this machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from service.runtime.sealing import Sealer
from service.runtime.settings import Settings

ENV_PREFIX = "BATON_CONNECT_SECRET_"
FOLDERS = ("secrets", "/run/secrets")
"""Where files of secrets are: in the home, and where containers have them."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


class SecretReferenceError(ValueError):
    """A secret that is named by reference cannot be had; the message says what is looked for."""


def seal(settings: Settings, secrets: Mapping[str, str]) -> str:
    return Sealer.of(settings).seal(json.dumps(dict(secrets)))


def unseal(settings: Settings, sealed: str) -> dict[str, str]:
    """Raises UnsealError."""
    secrets: dict[str, str] = json.loads(Sealer.of(settings).unseal(sealed))
    return secrets


def resolve_secret(settings: Settings, given: str) -> str:
    """A secret as it was given, or what its reference leads to. Raises SecretReferenceError."""
    scheme, _, name = given.partition(":")
    if scheme == "env" and name:
        if not name.startswith(ENV_PREFIX) or name not in os.environ:
            raise SecretReferenceError(f"{given}: set a variable whose name begins {ENV_PREFIX}")
        return os.environ[name]
    if scheme == "file" and name:
        return _read_file(settings, given, name)
    return given


def _read_file(settings: Settings, given: str, name: str) -> str:
    if _NAME.fullmatch(name) and name not in (".", ".."):
        for folder in FOLDERS:
            path = settings.home / Path(folder) / name
            if path.is_file():
                return path.read_text(encoding="utf-8").strip()
    raise SecretReferenceError(
        f"{given}: name a file in {settings.home / FOLDERS[0]} or in {FOLDERS[1]}"
    )
