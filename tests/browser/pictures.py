"""The README's pictures of the console, made anew: `python -m tests.browser.pictures docs`.

A service of its own in a folder that is gone afterwards, played by the simulation, so that nobody's
real conversation is in them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from rich.console import Console

from experiments.simulation.demo import play
from tests.browser.chromium import chromium
from tests.running import Client, installation

SIZE = {"width": 1180, "height": 740}
CONVERSATIONS, LEFT, SEED = 240, 14, 7


def main(folder: Path) -> None:
    """Write the pictures into a folder."""
    with (
        tempfile.TemporaryDirectory() as home,
        installation(Path(home)) as made,
        chromium() as browser,
    ):
        process = made.serve()
        keys = json.loads((Path(home) / "keys.json").read_text())
        play(process.url, keys, CONVERSATIONS, SEED, 1, Console(stderr=True), left=LEFT)
        page = browser.new_page(base_url=process.url, viewport=SIZE, color_scheme="light")
        sign_in(page, keys["agent"])
        take(page, folder / "queue.png")
        with Client(process.url, keys["agent"]) as agent:
            waiting = agent.get("/v1/handoffs?status=waiting")["handoffs"]
        longest = max(waiting, key=lambda handoff: handoff["seq"])["id"]
        page.locator(f"#{longest}").get_by_role("button", name="Claim").click()
        page.wait_for_url("**/console/handoffs/*")
        page.keyboard.press("n")
        page.get_by_text("Baton now gives").wait_for()
        take(page, folder / "conversation.png")
        try_it(page)
        take(page, folder / "try.png")
        with Client(process.url, keys["admin"]) as admin:
            lead = admin.post("/v1/keys", {"role": "lead", "name": "lea"})["key"]
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/console/sign-in")
        sign_in(page, lead)
        page.goto("/console/today")
        take(page, folder / "today.png")


def try_it(page: Page) -> None:
    """A chat as a customer, in a trial, up to a person's reply."""
    page.goto("/console/try")
    for text in (
        "hello, where is my parcel?",
        "that did not help, I need it tomorrow",
        "I want to talk to a real person",
    ):
        page.get_by_label("Your message, as a customer").fill(text)
        page.get_by_role("button", name="Send").click()
        page.get_by_text(text).wait_for()
    page.get_by_label("Your reply, as the agent").fill("Hello, this is Ana. I look where it is.")
    page.get_by_role("button", name="Reply").click()
    page.locator(".bubble.agent").wait_for()


def sign_in(page: Page, key: str) -> None:
    page.goto("/console/sign-in")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/queue")


def take(page: Page, path: Path) -> None:
    """What somebody sees who opens this page."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(1500)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path)
    sys.stderr.write(f"{path}: {path.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
