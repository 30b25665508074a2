"""Signing in to the console: what a browser does, without one."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.service_in_process import Caller, InProcess

SIGN_IN = "/console/sign-in"


def token(answer: httpx.Response) -> str:
    found = re.search(r'name="token" value="(\w+)"', answer.text)
    assert found, answer.text
    return found[1]


def sign_in(service: InProcess, key: str, **more: Any) -> Caller:
    """A browser's worth of cookies, signed in."""
    browser = service.caller()
    given = {"token": token(browser.get(SIGN_IN)), "key": key}
    assert browser.post(SIGN_IN, data=given, **more).status_code == 303
    return browser
