"""A real OpenID Connect provider on this machine (oidc-provider-mock), in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx

from tests.mlflow_server import free_port
from tests.waiting import LIMIT_SECONDS, until


@contextmanager
def provider(users: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Serve these users, by their claims, until the block ends; gives the issuer."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    claims = [part for user in users for part in ("--user-claims", json.dumps(user))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port)]
    process = subprocess.Popen(
        [*command, *claims], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: _answers(issuer), "the provider answers", every=0.05)
        yield issuer
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)


def _answers(issuer: str) -> bool:
    try:
        return httpx.get(f"{issuer}/jwks", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def consented(url: str, subject: str | None, **changed: str) -> str:
    """Sign in at the provider as a subject, or refuse to (None); where it sends the browser.

    `changed` are parameters that somebody on the way has changed.
    """
    parts = urlsplit(url)
    query = urlencode(dict(parse_qsl(parts.query)) | changed)
    form = {"action": "deny"} if subject is None else {"sub": subject}
    answer = httpx.post(urlunsplit(parts._replace(query=query)), data=form, trust_env=False)
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]
