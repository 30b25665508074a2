"""One service for all browser tests, a browser for each file, a workspace for each test.

The browser is not shared between files: while Playwright runs, its thread cannot run asyncio, and
other tests in this process may want to.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import Desk, chromium, executable
from tests.running import Home, Process, installation
from tests.waiting import LIMIT_MS

expect.set_options(timeout=LIMIT_MS)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    executable()  # nothing is started where there is no browser
    with installation(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(scope="session")
def process(home: Home) -> Process:
    return home.serve()


@pytest.fixture(scope="module")
def browser(process: Process) -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def desk(browser: Browser, home: Home, process: Process) -> Iterator[Desk]:
    """A live workspace, and windows on it."""
    made = Desk(browser, process, home.workspace(f"desk{next(_numbers)}", process, mode="live"))
    try:
        yield made
    finally:
        made.close()
