"""Sign-in by OpenID Connect by clicks, at the provider's own pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.oidc_provider import provider
from tests.running import installation

KNOWN = {"sub": "sub-ann", "email": "ann@shop.example", "email_verified": True}


@pytest.mark.long
def test_somebody_signs_in_with_their_organisations_account(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        provider([KNOWN | {"groups": ["support"]}]) as issuer,
        installation(
            tmp_path,
            oidc_issuer=issuer,
            oidc_client_id="baton",
            oidc_client_secret="secret",
            oidc_roles="support=agent",
        ) as home,
    ):
        url = home.serve().url
        page = browser.new_page()
        page.goto(f"{url}/console/missed")
        page.get_by_role("link", name="Sign in with your organisation's account").click()
        page.wait_for_url(f"{issuer}/**")
        page.get_by_role("button", name="sub-ann").click()
        page.wait_for_url(f"{url}/console/missed")
        expect(page.locator(".who .name")).to_have_text("ann@shop.example")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.close()
