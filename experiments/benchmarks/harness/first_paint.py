"""First contentful paint of a page in a real browser, beside that of the smallest page."""

from __future__ import annotations

import shutil
from statistics import median

PAINTS = 15
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SMALLEST = "/console/nothing"
"""The console's frame, and one sentence in it."""

_PAINTED = """new Promise((done) => new PerformanceObserver((list) => {
  const [found] = list.getEntriesByName("first-contentful-paint");
  if (found) done(found.startTime);
}).observe({ type: "paint", buffered: true }))"""


def ratio(url: str, key: str, path: str) -> float | None:
    """First paint of a page by that of the smallest: the median of both asked for in turns.

    None where there is no browser.
    """
    where = next(filter(None, map(shutil.which, BROWSERS)), None)
    if where is None:
        return None
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        page = browser.new_page(base_url=url)
        page.goto(f"/console/sign-in?next={SMALLEST}")
        page.get_by_label("Your key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**{SMALLEST}")

        def painted(path: str) -> float:
            page.goto(path)
            return float(page.evaluate(_PAINTED))

        found = [painted(path) / painted(SMALLEST) for _ in range(PAINTS)]
        browser.close()
    return median(found)
