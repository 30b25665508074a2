"""Where a setting asks for a role, metrics and the API's description are shown to it alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.runtime.settings import SettingError, Settings
from service.web.app import create_app
from tests.service_in_process import refusal, serving

DESCRIPTION = ("/docs", "/redoc", "/openapi.json", "/docs/")


def test_by_default_they_are_open_and_with_a_setting_they_ask_for_its_role(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        for path in ("/metrics", *DESCRIPTION[:3]):
            assert service.caller().get(path).status_code == 200, path
    with serving(tmp_path, metrics_role="bot", docs_role="engineer") as service:
        place, stranger = service.default(), service.caller()
        for path in ("/metrics", *DESCRIPTION):
            refusal(stranger.get(path), 401, "no_key")
            assert place.engineer.get(path, follow_redirects=True).status_code == 200, path
        assert place.bot.get("/metrics").status_code == 200
        for path in DESCRIPTION:
            refusal(place.agent.get(path), 403, "role_too_low")
        assert stranger.get("/healthz").status_code == 200
        assert stranger.get("/readyz").status_code == 200


def test_who_is_signed_in_to_the_console_reads_the_description_without_a_key(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, docs_role="engineer") as service:
        browser = service.caller()
        form = browser.get("/console/sign-in").text
        token = re.search(r'name="token" value="([^"]+)"', form)
        assert token is not None
        sent = {"key": service.keys["engineer"], "token": token[1]}
        assert browser.post("/console/sign-in", data=sent).status_code == 303
        assert browser.get("/openapi.json").status_code == 200


def test_a_role_that_there_is_not_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"BATON_METRICS_ROLE.*'guest'"):
        create_app(Settings(home=tmp_path, metrics_role="guest"))
