"""A real browser for tests: Debian's Chromium under Playwright, found on this machine.

    def test_an_agent_sees_the_queue(desk):        # fixtures of tests/browser/conftest.py
        desk.bot.score("c1", "m1", "I want to talk to a human please")
        page = desk.visit("ann", "/console/queue")
        assert page.get_by_text("I want to talk to a human please").is_visible()
        assert serious(page) == []

`visit` signs a fresh agent in, in a browser context of their own (cookies, width, colours).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from service.web.console.language.translations import gettext, speaking
from tests.running import Client, Place, Process
from tests.waiting import LIMIT_MS

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, NARROW = (1400, 900), (360, 740)
LOCALES = {"en": "en-US", "de": "de-DE"}
Scheme = Literal["light", "dark"]


def says(language: str) -> Callable[..., str]:
    """The texts of pages in a language, as their readers have them: holes filled, without tags."""

    def say(text: str, **holes: object) -> str:
        with speaking(language):
            return re.sub("<[^>]*>", "", gettext(text) % holes)

    return say


def executable() -> str:
    """Where the browser is; a test without one is skipped, but fails in CI."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    why = f"no browser on this machine ({', '.join(NAMES)}); Debian: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that ends with the block."""
    where = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Desk:
    """A workspace of its own, its callers, and the browsers of its people."""

    browser: Browser
    process: Process
    place: Place
    _open: ExitStack = field(default_factory=ExitStack)
    _keys: dict[str, str] = field(default_factory=dict)

    def caller(self, role: str) -> Client:
        return self._open.enter_context(self.place.caller(role, self.process))

    @property
    def url(self) -> str:
        return self.process.url

    @property
    def bot(self) -> Client:
        return self.caller("bot")

    def key(self, name: str, role: str = "agent") -> str:
        """The key of somebody who works here under this name."""
        if name not in self._keys:
            made = self.caller("admin").post("/v1/keys", {"role": role, "name": name})
            self._keys[name] = made["key"]
        return self._keys[name]

    def agent(self, name: str) -> Client:
        """The API as this person's programs use it."""
        return self._open.enter_context(Client(self.url, self.key(name)))

    def window(
        self,
        size: tuple[int, int] = WIDE,
        scheme: Scheme = "light",
        *,
        javascript: bool = True,
        language: str = "en",
    ) -> Page:
        """An empty window, nobody signed in. What its scripts break fails the test that opened it.

        Requests that leave this service are refused, and fail the test too.
        """
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            java_script_enabled=javascript,
            locale=LOCALES[language],
            base_url=self.url,
        )
        context.set_default_timeout(LIMIT_MS)
        self._open.callback(context.close)
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: (
                faults.append(f"left the service: {request.url}")
                if not request.url.startswith((self.url, "data:", "about:"))
                else None
            ),
        )
        page.on(
            "console",
            lambda said: faults.append(said.text) if "Security Policy" in said.text else None,
        )
        self._open.callback(_no_faults, faults)
        return page

    def visit(
        self,
        name: str = "ann",
        path: str = "/console/queue",
        size: tuple[int, int] = WIDE,
        scheme: Scheme = "light",
        *,
        role: str = "agent",
        javascript: bool = True,
        language: str = "en",
    ) -> Page:
        """A window in which this person has signed in and looks at a page."""
        say = says(language)
        page = self.window(size, scheme, javascript=javascript, language=language)
        page.goto(f"/console/sign-in?next={path}")
        page.get_by_label(say("Your key")).fill(self.key(name, role))
        page.get_by_role("button", name=say("Sign in")).click()
        page.wait_for_url(f"**{path}")
        return page

    def close(self) -> None:
        self._open.close()


def _no_faults(faults: list[str]) -> None:
    assert faults == []


def serious(page: Page) -> list[str]:
    """What axe finds on a page that keeps people out: each violation with where it is."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def overflow(page: Page) -> int:
    """By how many pixels a page is wider than its window: it should never scroll sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@dataclass(frozen=True, slots=True)
class Painted:
    """What a page's first paint waits for: what comes before it, and how much is laid out."""

    bytes: int
    blocking: list[str]
    scripts: int
    nodes: int


def painted(page: Page) -> Painted:
    """Of the page as it was loaded. `scripts` are those that the reader of the page stops for."""
    found: dict[str, Any] = page.evaluate(
        """() => {
          const [page] = performance.getEntriesByType("navigation");
          const blocking = performance.getEntriesByType("resource")
            .filter((one) => one.renderBlockingStatus === "blocking");
          return {
            bytes: blocking.reduce((sum, one) => sum + one.decodedBodySize, page.decodedBodySize),
            blocking: blocking.map((one) => one.name.split("/").at(-1)),
            scripts: document.querySelectorAll(
              "script[src]:not([defer], [async], [type=module])").length,
            nodes: document.querySelectorAll("*").length,
          };
        }"""
    )
    return Painted(**found)


def picture(page: Page, folder: Path, name: str) -> Path:
    """A screenshot of the whole page, for looking at."""
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path
