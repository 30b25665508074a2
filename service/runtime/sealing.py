"""Authenticated encryption (Fernet) of secrets that must be readable again, by the installation's
key: BATON_SECRET_KEY, or a file of its own in the home folder.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from service.runtime.settings import Settings

KEY_FILE = "secret.key"


class UnsealError(ValueError):
    """A secret was sealed by another key: the message says which setting must be the same."""


class Sealer:
    """Seals and unseals text."""

    def __init__(self, key: str) -> None:
        digest = hashlib.sha256(b"baton seal\0" + key.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))

    @classmethod
    def of(cls, settings: Settings) -> Sealer:
        """By the installation's key, which is made where there is none."""
        return cls(settings.secret_key or _own_key(settings.home / KEY_FILE))

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Raises UnsealError."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise UnsealError(
                "it was sealed by another key: every process needs the same BATON_SECRET_KEY, or "
                f"the same {KEY_FILE} in its home"
            ) from error


def _own_key(path: Path) -> str:
    """The key in a file; of two processes that make it at once, one makes it for both."""
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    unique = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unique, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(unique, path)
    except FileExistsError:
        pass
    finally:
        unique.unlink()
    return path.read_text(encoding="ascii")
