"""OpenID Connect: sign-in at a provider by the authorization code flow, with PKCE, state and nonce.

What a browser must bring back is sealed into a cookie of its own, so that any replica can go on.
Whatever the provider says of groups and e-mail is read from the ID token, and what is missing there
from its userinfo; an e-mail counts only where it was verified.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from service.connections.connection_secrets import SecretReferenceError, resolve_secret
from service.runtime.errors import RequestRefused, Unavailable
from service.runtime.sealing import Sealer, UnsealError
from service.runtime.settings import SettingError, Settings
from service.web.access.oidc_users import Identity, refused

CALLBACK = "/console/sign-in/openid/callback"
FLOW_SECONDS = 600
"""How long somebody may take at the provider."""

METADATA_SECONDS = 3600.0
HTTP_SECONDS = 10.0
LEEWAY_SECONDS = 60
"""How far the provider's clock may be from this one."""

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in that has begun, and that this browser alone may end."""

    state: str
    nonce: str
    verifier: str
    then: str
    workspace: str
    ends_at: float


class OpenIdProvider:
    """The provider that the settings name. It is asked off the event loop's thread."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingError."""
        self._settings, self._sealer = settings, Sealer.of(settings)
        self._issuer = settings.oidc_issuer.rstrip("/")
        self._metadata: tuple[float, dict[str, Any]] = (0.0, {})
        try:
            self._secret = resolve_secret(settings, settings.oidc_client_secret)
        except SecretReferenceError as error:
            raise SettingError(f"BATON_OIDC_CLIENT_SECRET: {error}") from error

    def begin(self, then: str, workspace: str) -> tuple[str, str]:
        """Where the browser goes, and what it keeps meanwhile, sealed. Raises Unavailable."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(state, nonce, verifier, then, workspace, time.time() + FLOW_SECONDS)
        with self._session() as session:
            url, _ = session.create_authorization_url(
                self._read("authorization_endpoint"),
                state=state,
                nonce=nonce,
                code_verifier=verifier,
            )
        return str(url), self._sealer.seal(json.dumps(asdict(flow)))

    def resume(self, sealed: str, answer: Mapping[str, str]) -> Flow:
        """The flow that an answer of the provider belongs to. Raises Forbidden."""
        try:
            flow = Flow(**json.loads(self._sealer.unseal(sealed)))
        except (UnsealError, ValueError, TypeError) as error:
            raise refused("sign_in_unknown", "this sign-in was not begun here") from error
        if flow.ends_at < time.time():
            raise refused("sign_in_expired", "this sign-in took too long")
        if not hmac.compare_digest(flow.state.encode(), answer.get("state", "").encode()):
            raise refused("state_differs", "this answer belongs to another sign-in")
        if answer.get("iss", self._issuer).rstrip("/") != self._issuer:
            raise refused("issuer_differs", "this answer comes from another sign-in service")
        return flow

    def identify(self, flow: Flow, answer: Mapping[str, str]) -> Identity:
        """Exchange the provider's code for whom it vouches for. Raises Forbidden, Unavailable."""
        if "code" not in answer:
            said = "".join(c for c in answer.get("error", "")[:60] if c.isalnum() or c in "_-")
            raise refused(
                "provider_refused",
                f"the sign-in service let nobody in ({said or 'without a word'})",
            )
        try:
            with self._session() as session:
                token = session.fetch_token(
                    self._read("token_endpoint"),
                    code=answer["code"][:2000],
                    code_verifier=flow.verifier,
                    timeout=HTTP_SECONDS,
                )
                claims = self._claims(str(token.get("id_token", "")), flow.nonce, token)
                if "email" not in claims and "userinfo_endpoint" in self._known():
                    claims = self._with_userinfo(session, claims)
        except OAuthError as error:
            raise refused("code_refused", "the sign-in service did not confirm it") from error
        except requests.RequestException as error:
            raise _unavailable() from error
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise refused("token_refused", "what the sign-in service sent is not valid") from error
        return identity_of(self._issuer, claims)

    def _session(self) -> OAuth2Session:
        return OAuth2Session(
            self._settings.oidc_client_id,
            self._secret or None,
            token_endpoint_auth_method=self._auth_method(),
            scope="openid email profile",
            redirect_uri=self._settings.address + CALLBACK,
            code_challenge_method="S256",
        )

    def _auth_method(self) -> str:
        """How Baton shows its secret: as a header, unless the provider takes it only as a field."""
        if not self._secret:
            return "none"
        offered = self._known().get("token_endpoint_auth_methods_supported", ())
        is_field = "client_secret_post" in offered and "client_secret_basic" not in offered
        return "client_secret_post" if is_field else "client_secret_basic"

    def _claims(self, id_token: str, nonce: str, token: Mapping[str, Any]) -> dict[str, Any]:
        try:
            decoded = self._decoded(id_token, self._known()["keys"])
        except InvalidKeyIdError:
            self._metadata = (0.0, {})  # its keys have changed
            decoded = self._decoded(id_token, self._known()["keys"])
        client = self._settings.oidc_client_id
        options = {
            "iss": {"essential": True, "values": [self._read("issuer")]},
            "aud": {"essential": True, "value": client},
            "nonce": {"essential": True, "value": nonce},
        }
        known = {"nonce": nonce, "client_id": client, "access_token": token.get("access_token")}
        claims = CodeIDToken(decoded.claims, decoded.header, options, known)
        claims.validate(leeway=LEEWAY_SECONDS)
        return dict(claims)

    def _decoded(self, id_token: str, keys: Any) -> Any:
        offered = self._known().get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = [name for name in _ALGORITHMS if name in offered]
        registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)
        return jwt.decode(id_token, key=KeySet.import_key_set(keys), registry=registry)

    def _with_userinfo(self, session: OAuth2Session, claims: dict[str, Any]) -> dict[str, Any]:
        answer = session.get(self._read("userinfo_endpoint"), timeout=HTTP_SECONDS)
        answer.raise_for_status()
        more = answer.json()
        if more.get("sub") != claims["sub"]:
            raise ValueError("the userinfo is of another subject")
        return {**more, **claims}

    def _read(self, name: str) -> str:
        try:
            return str(self._known()[name])
        except KeyError as error:
            raise _unavailable() from error

    def _known(self) -> dict[str, Any]:
        """Raises Unavailable."""
        try:
            return self._discovered()
        except (requests.RequestException, KeyError, ValueError, TypeError) as error:
            raise _unavailable() from error

    def _discovered(self) -> dict[str, Any]:
        """What the provider says of itself, and its keys; asked again now and then."""
        until, metadata = self._metadata
        if until < time.monotonic():
            metadata = _fetched(f"{self._issuer}/.well-known/openid-configuration")
            if str(metadata.get("issuer", "")).rstrip("/") != self._issuer:
                raise ValueError("the issuer is another")
            metadata["keys"] = _fetched(metadata["jwks_uri"])
            self._metadata = (time.monotonic() + METADATA_SECONDS, metadata)
        return metadata


def identity_of(issuer: str, claims: Mapping[str, Any]) -> Identity:
    """Whom these claims are about; an e-mail that nobody has verified is none."""
    is_verified = claims.get("email_verified") in (True, "true")
    email = str(claims.get("email") or "").strip().lower()
    groups = claims.get("groups")
    return Identity(
        f"{issuer} {claims['sub']}"[:_CHARS_MAX],
        email[:_CHARS_MAX] if is_verified and email else None,
        str(claims.get("name") or "")[:_CHARS_MAX],
        tuple(str(one) for one in groups) if isinstance(groups, list) else (),
    )


def _fetched(url: str) -> dict[str, Any]:
    answer = requests.get(url, timeout=HTTP_SECONDS)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _unavailable() -> RequestRefused:
    return Unavailable(
        "provider_unavailable",
        "the sign-in service does not answer as it should",
        hint="try again in a minute, or sign in with a key",
    )
