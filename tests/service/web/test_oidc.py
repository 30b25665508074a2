"""Sign-in by OpenID Connect, at a real provider: who comes in, and who does not."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from service.runtime.sealing import Sealer
from service.runtime.settings import SettingError, Settings
from service.store import security_log
from service.web.access import sessions
from service.web.access.oidc import OpenIdProvider
from tests.oidc_provider import consented, provider
from tests.service.web.test_console import token
from tests.service.web.test_conversation_page import Window
from tests.service_in_process import Caller, InProcess, Place, serving
from tests.waiting import until

START = "/console/sign-in/openid"
SECRET = "what only Baton and the provider know"


def person(name: str, *groups: str, **claims: Any) -> dict[str, Any]:
    """What the provider knows of somebody."""
    email = f"{name}@shop.example"
    known = {"sub": f"sub-{name}", "email": email, "email_verified": True, "name": name.title()}
    return known | {"groups": list(groups)} | claims


PEOPLE = [
    person("ann"),
    person("ben"),
    person("eve"),
    person("gus", "support"),
    person("hal", "support", "leads"),
    person("kim", email_verified=False),
    person("lou", email="lou@elsewhere.example"),
    person("zoe", sub="sub-zoe-2", email="ann@shop.example"),
]


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider(PEOPLE) as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, issuer: str) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("oidc")
    (home / "secrets").mkdir()
    (home / "secrets" / "oidc").write_text(SECRET)
    with serving(
        home,
        oidc_issuer=issuer,
        oidc_client_id="baton",
        oidc_client_secret="file:oidc",
        oidc_domains="shop.example",
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _unsuspected(service: InProcess) -> None:
    service.app.state.failures = sessions.SignInFailures()


def let_in(place: Place, name: str, email: str, role: str = "agent") -> None:
    """As an admin does at People."""
    admin = Window(place, place.keys["admin"])
    given = {"token": admin.token("/console/people"), "name": name, "email": email, "role": role}
    assert admin.caller.post("/console/people/users", data=given).status_code == 303


def remove(place: Place, name: str) -> httpx.Response:
    admin = Window(place, place.keys["admin"])
    given = {"token": admin.token("/console/people")}
    return admin.caller.post(f"/console/people/users/{name}/remove", data=given)


def returned(browser: Caller, location: str, **changed: str) -> httpx.Response:
    """The browser follows the provider back to Baton."""
    parts = urlsplit(location)
    assert parts.path == f"{START}/callback"
    return browser.get(f"{parts.path}?{urlencode(dict(parse_qsl(parts.query)) | changed)}")


def sign_in(
    service: InProcess, subject: str | None, path: str = START, **changed: str
) -> tuple[Caller, httpx.Response]:
    """A browser that goes to the provider, signs in there, and comes back."""
    browser = service.caller()
    begun = browser.get(path)
    assert begun.status_code == 303
    asked = dict(parse_qsl(urlsplit(begun.headers["location"]).query))
    if subject is None:  # this provider forgets the state where it refuses
        changed["state"] = asked["state"]
        location = consented(begun.headers["location"], None)
        return browser, returned(browser, location, **changed)
    return browser, returned(browser, consented(begun.headers["location"], subject, **changed))


def sentence(answer: httpx.Response, status: int = 403) -> str:
    """What the sign-in page says of a refusal."""
    assert answer.status_code == status, answer.text
    found = re.search(r'role="alert">\s*<p>(.*?)</p>', answer.text, re.DOTALL)
    assert found, answer.text
    return found[1]


def test_the_provider_is_asked_with_state_nonce_and_a_challenge_that_the_verifier_answers(
    service: InProcess, issuer: str
) -> None:
    browser = service.caller()
    page = browser.get("/console/sign-in?next=/console/missed").text
    assert f'href="{START}?next=/console/missed"' in page
    begun = browser.get(START)
    asked = {name: values[0] for name, values in parse_qs(begun.headers["location"]).items()}
    sealed = browser.cookies["baton-openid"]
    flow = json.loads(Sealer.of(service.baton.settings).unseal(sealed.strip('"')))
    digest = hashlib.sha256(flow["verifier"].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert asked["code_challenge_method"] == "S256"
    assert (asked["state"], asked["nonce"]) == (flow["state"], flow["nonce"])
    assert flow["verifier"] not in sealed + begun.headers["location"]
    kept = begun.headers["set-cookie"].lower()
    assert all(part in kept for part in ("httponly", "samesite=lax", f"path={START}"))


def test_a_user_is_known_by_a_verified_address_and_then_by_the_providers_id(
    service: InProcess,
) -> None:
    place = service.default()
    let_in(place, "ann", "Ann@Shop.example", "lead")
    browser, answer = sign_in(service, "sub-ann", f"{START}?next=/console/missed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/missed")
    page = browser.get("/console/today")
    assert page.status_code == 200
    assert 'title="lead of workspace default"><bdi>ann</bdi>' in page.text
    words = sentence(sign_in(service, "sub-zoe-2")[1])
    assert "Ann@shop.example is no user of Baton" in words


def test_who_is_no_user_is_told_so_and_the_log_and_a_figure_tell_of_it(service: InProcess) -> None:
    browser, answer = sign_in(service, "sub-eve")
    assert "Eve@shop.example is no user of Baton" in sentence(answer)
    assert browser.get("/console/queue").headers["location"].startswith("/console/sign-in")
    figures = service.caller().get("/metrics").text
    assert 'baton_sign_in_failures_total{way="openid",why="unknown_user"}' in figures

    def logged() -> list[str]:
        with service.baton.store.read() as connection:
            return [row.subject for row in security_log.newest(connection, 50)]

    until(lambda: "eve@shop.example is no user of Baton" in logged(), "the log has it")


@pytest.mark.parametrize(
    "subject, says",
    [
        ("sub-kim", "no verified e-mail address of this installation"),
        ("sub-lou", "no verified e-mail address of this installation"),
        (None, "let nobody in (access_denied)"),
    ],
)
def test_an_unverified_address_another_domain_and_a_refusal_let_nobody_in(
    service: InProcess, subject: str | None, says: str
) -> None:
    place = service.default()
    let_in(place, "kim", "kim@shop.example")
    let_in(place, "lou", "lou@elsewhere.example")
    assert says in sentence(sign_in(service, subject)[1])


def test_another_state_another_browser_another_nonce_and_another_client_let_nobody_in(
    service: InProcess,
) -> None:
    let_in(service.default(), "ben", "ben@shop.example")
    browser = service.caller()
    back = consented(browser.get(START).headers["location"], "sub-ben")
    assert "belongs to another sign-in" in sentence(returned(browser, back, state="guessed"))
    assert "not begun here" in sentence(returned(browser, back)), "the flow ended with the first"
    assert "not begun here" in sentence(returned(service.caller(), back))
    assert "is not valid" in sentence(sign_in(service, "sub-ben", nonce="another")[1])
    assert "did not confirm" in sentence(sign_in(service, "sub-ben", client_id="another")[1])
    browser, answer = sign_in(service, "sub-ben")
    assert answer.status_code == 303
    assert returned(browser, back).status_code == 403, "a code is good once"


@pytest.mark.parametrize("there", ["//evil.example", "https://evil.example/console/", "/\\evil"])
def test_nobody_is_sent_elsewhere(service: InProcess, there: str) -> None:
    let_in(service.default(), "ben", "ben@shop.example")
    path = f"{START}?{urlencode({'next': there})}"
    assert sign_in(service, "sub-ben", path)[1].headers["location"] == "/console/queue"


def test_a_user_who_is_removed_is_refused_at_the_next_request_and_signs_in_no_more(
    service: InProcess,
) -> None:
    place = service.default()
    let_in(place, "ben", "ben@shop.example")
    browser, _ = sign_in(service, "sub-ben")
    own_key = place.admin.posted("/v1/keys", {"role": "agent", "name": "ben"})["key"]
    assert browser.get("/console/queue").status_code == 200
    assert remove(place, "ben").status_code == 303
    assert browser.get("/console/queue").headers["location"].startswith("/console/sign-in")
    assert service.caller(own_key).get("/v1/handoffs").status_code == 401
    assert "is no user" in sentence(sign_in(service, "sub-ben")[1])
    assert "ben" not in [user["id"] for user in place.admin.got("/v1/users")["users"]]
    let_in(place, "ben", "ben@shop.example")
    assert sign_in(service, "sub-ben")[1].status_code == 303
    page = Window(place, place.keys["admin"]).caller.get("/console/people").text
    assert "signs in as <bdi>ben@shop.example</bdi>" in page


def test_an_admin_does_not_remove_or_lower_themselves(service: InProcess) -> None:
    place = service.default()
    assert remove(place, "admin").status_code == 422
    admin = Window(place, place.keys["admin"])
    given = {"token": admin.token("/console/people"), "email": "ann@shop.example"}
    given |= {"name": "admin", "role": "agent"}
    assert admin.caller.post("/console/people/users", data=given).status_code == 422


def test_a_changed_role_holds_after_the_next_sign_in_and_the_session_before_it_ends(
    service: InProcess,
) -> None:
    place = service.default()
    let_in(place, "ben", "ben@shop.example", "lead")
    browser, _ = sign_in(service, "sub-ben")
    assert browser.get("/console/today").status_code == 200
    let_in(place, "ben", "ben@shop.example", "agent")
    assert browser.get("/console/today").headers["location"].startswith("/console/sign-in")
    browser, _ = sign_in(service, "sub-ben")
    assert browser.get("/console/today").status_code == 403


def test_a_user_of_two_workspaces_says_which(service: InProcess) -> None:
    other = service.workspace()
    let_in(service.default(), "ben", "ben@shop.example")
    let_in(other, "ben", "ben@shop.example")
    words = sentence(sign_in(service, "sub-ben")[1])
    assert other.name in words
    browser, answer = sign_in(service, "sub-ben", f"{START}?workspace={other.name}")
    assert answer.status_code == 303
    assert f"of workspace {other.name}" in browser.get("/console/queue").text
    assert remove(other, "ben").status_code == 303


def test_by_a_group_somebody_becomes_a_user_with_its_role(tmp_path: Any, issuer: str) -> None:
    with serving(
        tmp_path,
        oidc_issuer=issuer,
        oidc_client_id="baton",
        oidc_client_secret=SECRET,
        oidc_roles="support=agent, leads=lead",
    ) as service:
        assert "is no user" in sentence(sign_in(service, "sub-eve")[1])
        browser, answer = sign_in(service, "sub-hal")
        assert answer.status_code == 303
        assert browser.get("/console/today").status_code == 200
        browser, _ = sign_in(service, "sub-gus")
        assert browser.get("/console/today").status_code == 403
        users = {
            user["id"]: user["role"] for user in service.default().admin.got("/v1/users")["users"]
        }
        assert users["gus@shop.example"] == "agent"
        assert remove(service.default(), "gus@shop.example").status_code == 303
        assert browser.get("/console/queue").status_code == 303
        assert "is no user" in sentence(sign_in(service, "sub-gus")[1])


def test_a_provider_that_is_away_is_told_and_keys_go_on(tmp_path: Any) -> None:
    away = {"oidc_issuer": "http://127.0.0.1:9", "oidc_client_id": "baton"}
    with serving(tmp_path, **away) as service:
        browser = service.caller()
        assert "does not answer" in sentence(browser.get(START), 503)
        given = {"token": token(browser.get("/console/sign-in")), "key": service.keys["agent"]}
        assert browser.post("/console/sign-in", data=given).status_code == 303


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "another"},
        {"aud": ["baton", "another"], "azp": "another"},
        {"iss": "https://evil.example"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"sub": None},
    ],
)
def test_a_token_for_others_of_others_or_too_old_is_refused(
    tmp_path: Any, issuer: str, wrong: dict[str, Any]
) -> None:
    settings = Settings(home=tmp_path, oidc_issuer=issuer, oidc_client_id="baton")
    asked, key = OpenIdProvider(settings), RSAKey.generate_key(2048, auto_kid=True)
    asked._discovered()["keys"] = KeySet([key]).as_dict()
    now = int(time.time())
    good = {"iss": issuer, "aud": "baton", "sub": "s", "nonce": "n", "iat": now, "exp": now + 60}
    header = {"alg": "RS256", "kid": key.kid}
    assert asked._claims(jwt.encode(header, good, key), "n", {})["sub"] == "s"
    bad = {name: value for name, value in (good | wrong).items() if value is not None}
    with pytest.raises(JoseError):
        asked._claims(jwt.encode(header, bad, key), "n", {})


def test_the_settings_are_checked(tmp_path: Any) -> None:
    given = {"BATON_HOME": str(tmp_path), "BATON_OIDC_CLIENT_ID": "baton"}
    for name, value in (
        ("BATON_OIDC_ISSUER", "http://login.example"),
        ("BATON_OIDC_ROLES", "support=owner"),
        ("BATON_OIDC_ROLES", "agent"),
    ):
        with pytest.raises(SettingError, match=name):
            Settings.from_environ(given | {name: value})
    with pytest.raises(SettingError, match="CLIENT_ID"):
        Settings.from_environ({"BATON_OIDC_ISSUER": "https://login.example"})
