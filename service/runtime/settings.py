"""Settings of an installation, read once from environment variables that are passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def _setting(variable: str, default: Any, unit: str, sentence: str) -> Any:
    metadata = {"variable": variable, "unit": unit, "sentence": sentence}
    return field(default=default, metadata=metadata, repr=unit != "secret")


OTHER_VARIABLES = ("BATON_DATA",)
"""Read by benchmarks alone."""
DATABASES = ("sqlite:///", "postgresql://", "postgresql+psycopg://", "postgres://")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PEOPLE_ROLES = ("agent", "lead", "engineer", "admin")
"""Roles of who signs in by OpenID Connect, each with what those before it may."""
LEVELS = ("debug", "info", "warning", "error")


class SettingError(ValueError):
    """A setting cannot be read; the message names the variable and what it takes."""


def _truth(text: str) -> bool:
    truths = {"true": True, "1": True, "false": False, "0": False, "": False}
    try:
        return truths[text.strip().lower()]
    except KeyError as error:
        raise ValueError("neither true nor false") from error


_KINDS: Mapping[type, Callable[[str], Any]] = {
    bool: _truth,
    str: str,
    int: int,
    float: float,
    type(Path()): Path,
}


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path = _setting(
        "BATON_HOME", Path(".baton"), "folder", "Where the database, keys and MLflow files live."
    )
    database: str = _setting(
        "BATON_DATABASE", "", "URL", "The database; empty means SQLite in the home folder."
    )
    host: str = _setting("BATON_HOST", "127.0.0.1", "address", "Where the API listens.")
    port: int = _setting("BATON_PORT", 8000, "port", "The API's port.")
    jobs_port: int = _setting(
        "BATON_JOBS_PORT",
        8001,
        "port",
        "Where `jobs` answers /healthz, /readyz and /metrics; 0 takes a free port.",
    )
    url: str = _setting(
        "BATON_URL", "", "URL", "Where people's browsers reach Baton; empty means host and port."
    )
    mlflow_url: str = _setting(
        "BATON_MLFLOW_URL",
        "http://127.0.0.1:5000",
        "URL",
        "The MLflow server that jobs publish to.",
    )
    mlflow_password: str = _setting(
        "BATON_MLFLOW_PASSWORD",
        "",
        "secret",
        "Password of MLflow's user `baton`; empty means `mlflow` in keys.json, or no login.",
    )
    queue_max: int = _setting(
        "BATON_QUEUE_MAX", 2048, "requests", "Waiting requests beyond this are answered 503."
    )
    wait_seconds: float = _setting(
        "BATON_WAIT_SECONDS", 2.0, "seconds", "A request that waited longer is answered 503."
    )
    requests_per_second: float = _setting(
        "BATON_REQUESTS_PER_SECOND",
        5000.0,
        "requests",
        "Requests a second of one key, in one process; beyond twice that at once 429.",
    )
    chars_per_second: float = _setting(
        "BATON_CHARS_PER_SECOND",
        100_000.0,
        "characters",
        "Characters a second of one key's texts, beyond 500 with each message; beyond twice that "
        "at once, and the largest batch, 429.",
    )
    connections_max: int = _setting(
        "BATON_CONNECTIONS_MAX", 4096, "connections", "Open connections beyond this are refused."
    )
    batch_max: int = _setting(
        "BATON_BATCH_MAX", 128, "requests", "Most requests decided in one transaction."
    )
    states_bytes_max: int = _setting(
        "BATON_STATES_BYTES_MAX",
        128 * 2**20,
        "bytes",
        "Conversations' states that a process remembers; others are folded again when asked for.",
    )
    models_max: int = _setting(
        "BATON_MODELS_MAX",
        24,
        "workspaces",
        "Models that a process keeps in memory, 16 MiB each; others are loaded when asked for.",
    )
    poll_seconds: float = _setting(
        "BATON_POLL_SECONDS", 0.1, "seconds", "How often an idle process reads the ledger's tail."
    )
    recipe: str = _setting(
        "BATON_RECIPE", "", "recipe", "Recipe of new workspaces; empty means the measured default."
    )
    checkpoint_seconds: float = _setting(
        "BATON_CHECKPOINT_SECONDS", 60.0, "seconds", "How often jobs look whether to checkpoint."
    )
    checkpoint_entries: int = _setting(
        "BATON_CHECKPOINT_ENTRIES", 200, "entries", "New ledger entries that make a checkpoint due."
    )
    evaluate_seconds: float = _setting(
        "BATON_EVALUATE_SECONDS", 300.0, "seconds", "How often jobs evaluate, given new outcomes."
    )
    evaluate_outcomes: int = _setting(
        "BATON_EVALUATE_OUTCOMES", 200, "outcomes", "New outcomes that make an evaluation due."
    )
    publish_seconds: float = _setting(
        "BATON_PUBLISH_SECONDS",
        5.0,
        "seconds",
        "How often jobs publish to MLflow and read aliases.",
    )
    keep_days: float = _setting(
        "BATON_KEEP_DAYS",
        0.0,
        "days",
        "Closed conversations older than this are removed once no model needs them; 0 keeps all.",
    )
    keep_checkpoints: int = _setting(
        "BATON_KEEP_CHECKPOINTS",
        0,
        "versions",
        "Newest checkpoints kept of each model line, at least 2; 0 keeps all.",
    )
    keep_evaluations: int = _setting(
        "BATON_KEEP_EVALUATIONS",
        200,
        "evaluations",
        "Newest evaluations kept of a workspace, and ten times as many that led to something.",
    )
    corrections: int = _setting(
        "BATON_CORRECTIONS", 20, "outcomes", "Corrected outcomes that make an exact rebuild due."
    )
    lease_seconds: float = _setting(
        "BATON_LEASE_SECONDS", 15.0, "seconds", "How long a silent jobs process keeps its lease."
    )
    secret_key: str = _setting(
        "BATON_SECRET_KEY",
        "",
        "secret",
        "Seals secrets of webhooks and connections, alike everywhere; empty: a file in the home.",
    )
    connect_private: bool = _setting(
        "BATON_CONNECT_PRIVATE",
        False,
        "true or false",
        "Whether webhooks and connections may call private addresses; link-local ones never.",
    )
    judge_url: str = _setting(
        "BATON_JUDGE_URL",
        "",
        "URL",
        "OpenAI-compatible address of a language model that advises, such as "
        "http://127.0.0.1:11434/v1; empty: none does.",
    )
    judge_model: str = _setting("BATON_JUDGE_MODEL", "", "model", "Which model is asked there.")
    judge_key: str = _setting(
        "BATON_JUDGE_KEY", "", "secret", "Sent there as bearer token; empty: none is."
    )
    judge_per_day: int = _setting(
        "BATON_JUDGE_PER_DAY", 500, "questions", "Most it is asked for a workspace in 24 hours."
    )
    judge_workspaces: str = _setting(
        "BATON_JUDGE_WORKSPACES",
        "",
        "workspaces",
        "Whose conversations may be sent there, with commas between; empty: everybody's.",
    )
    metrics_role: str = _setting(
        "BATON_METRICS_ROLE", "", "role", "Whose key /metrics of the API asks for; empty: nobody's."
    )
    docs_role: str = _setting(
        "BATON_DOCS_ROLE",
        "",
        "role",
        "Whose key, or sign-in to the console, /docs and /openapi.json ask for; empty: nobody's.",
    )
    oidc_issuer: str = _setting(
        "BATON_OIDC_ISSUER",
        "",
        "URL",
        "The OpenID Connect provider at which people sign in to the console; empty: keys alone.",
    )
    oidc_client_id: str = _setting(
        "BATON_OIDC_CLIENT_ID", "", "id", "As what Baton is registered with that provider."
    )
    oidc_client_secret: str = _setting(
        "BATON_OIDC_CLIENT_SECRET",
        "",
        "secret",
        "The client's secret, or `file:NAME` in the home's `secrets` or in `/run/secrets`.",
    )
    oidc_domains: str = _setting(
        "BATON_OIDC_DOMAINS",
        "",
        "domains",
        "Domains of verified e-mail addresses that may sign in, by commas; empty: all.",
    )
    oidc_roles: str = _setting(
        "BATON_OIDC_ROLES",
        "",
        "group=role",
        "Roles by the provider's groups, by commas: who is in one becomes a user. Empty: nobody.",
    )
    oidc_workspace: str = _setting(
        "BATON_OIDC_WORKSPACE", "default", "workspace", "Where those become users."
    )
    demo: bool = _setting(
        "BATON_DEMO",
        False,
        "true or false",
        "Whether the try-it chat happens in the workspace itself, and teaches, as in `baton demo`.",
    )
    traces_url: str = _setting(
        "BATON_TRACES_URL",
        "",
        "URL",
        "Where OpenTelemetry traces are sent (OTLP over HTTP); empty means none are made.",
    )
    traces_share: float = _setting(
        "BATON_TRACES_SHARE",
        0.01,
        "share",
        "Share of the requests that are traced, beside those whose caller traces them.",
    )
    log_level: str = _setting(
        "BATON_LOG_LEVEL", "info", "level", "Least severe log line: debug, info, warning or error."
    )

    @classmethod
    def unknown(cls, environ: Mapping[str, str]) -> dict[str, str]:
        """Variables that look like settings and are none, and the nearest setting to each."""
        known = [setting.metadata["variable"] for setting in fields(cls)]
        strange = [
            name
            for name in sorted(environ)
            if name.startswith("BATON_") and not name.startswith("BATON_TEST_")
            if name not in (*known, *OTHER_VARIABLES)
        ]
        near = {name: get_close_matches(name, known, 1, 0.8) for name in strange}
        return {name: names[0] for name, names in near.items() if names}

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.home / 'baton.sqlite3'}"

    @property
    def address(self) -> str:
        """Where people's browsers reach Baton."""
        return self.url.rstrip("/") or f"http://{self.host}:{self.port}"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **overrides: Any) -> Settings:
        """Settings from `environ`; `overrides` by field name win. Raises SettingError."""
        values: dict[str, Any] = {}
        for setting in fields(cls):
            variable, kind = setting.metadata["variable"], _KINDS[type(setting.default)]
            if variable in environ:
                try:
                    values[setting.name] = kind(environ[variable])
                except ValueError as error:
                    wanted = type(setting.default).__name__
                    raise SettingError(
                        f"{variable}={environ[variable]!r} is not a {wanted}; "
                        f"it takes {setting.metadata['unit']}, for example {setting.default}"
                    ) from error
        settings = cls(
            **values | {name: value for name, value in overrides.items() if value is not None}
        )
        settings._check()
        return settings

    def _check(self) -> None:
        if self.database and not self.database.startswith(DATABASES):
            raise SettingError(
                "BATON_DATABASE names no database that Baton knows; it takes a URL, for example "
                "postgresql://user@host/name"
            )
        if self.judge_url and not self.judge_model:
            raise SettingError("BATON_JUDGE_URL is set: BATON_JUDGE_MODEL names the model there")
        if self.home.exists() and not self.home.is_dir():
            raise SettingError(f"BATON_HOME={self.home}: it takes a folder, and this is a file")
        self._check_sign_in()
        for setting in fields(self):
            value, variable, unit = (
                getattr(self, setting.name),
                setting.metadata["variable"],
                setting.metadata["unit"],
            )
            if unit == "port" and not 0 <= value <= 65_535:
                raise SettingError(f"{variable}={value}: a port is between 0 and 65535")
            if unit == "level" and value.lower() not in LEVELS:
                raise SettingError(f"{variable}={value!r}: a level is one of {', '.join(LEVELS)}")
            if unit == "port":
                continue
            if isinstance(value, int | float) and not (value > 0 or value == setting.default == 0):
                least = "0 or more" if setting.default == 0 else "more than 0"
                raise SettingError(f"{variable}={value}: it takes {least} {unit}")

    def _check_sign_in(self) -> None:
        if self.oidc_issuer and not self.oidc_client_id:
            raise SettingError("BATON_OIDC_CLIENT_ID: BATON_OIDC_ISSUER needs it, too")
        issuer = urlsplit(self.oidc_issuer)
        is_local = issuer.scheme == "http" and issuer.hostname in LOOPBACK
        if self.oidc_issuer and issuer.scheme != "https" and not is_local:
            raise SettingError(
                f"BATON_OIDC_ISSUER={self.oidc_issuer!r}: it takes an https URL, or http on this "
                "machine"
            )
        self.roles_by_group()

    def roles_by_group(self) -> dict[str, str]:
        """The role that each of the provider's groups gives. Raises SettingError."""
        pairs = [pair.strip() for pair in self.oidc_roles.split(",") if pair.strip()]
        roles = {
            group.strip(): role.strip() for group, _, role in (p.rpartition("=") for p in pairs)
        }
        if "" in roles or not set(roles.values()) <= set(PEOPLE_ROLES):
            raise SettingError(
                f"BATON_OIDC_ROLES={self.oidc_roles!r}: it takes group=role, by commas; a role is "
                f"one of {', '.join(PEOPLE_ROLES)}"
            )
        return roles


INSTALLATION = "default"
"""Admins of this workspace administer the installation: they issue keys for any workspace."""
