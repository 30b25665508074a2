"""MLflow's own pages, as an engineer has them who has been there before."""

from __future__ import annotations

from playwright.sync_api import Browser, Page

from tests.waiting import LIMIT_MS

SEEN = "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"
"""What the pages remember of having shown their assistant, which covers a third of them."""


def mlflow_page(browser: Browser, *, width: int = 1600, height: int = 1000) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(LIMIT_MS)
    page.add_init_script(f"localStorage.setItem({SEEN!r}, 'true')")
    return page
