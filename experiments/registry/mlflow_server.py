"""MLflow server of one worker: command line, environment, login, and addresses of its pages.

The default server is 15 processes and 1.4 GiB; this one is two processes and 0.4 GiB. `baton up`
and the tests start the same. This module does not import mlflow, which takes seconds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

USER = "baton"
"""The one user of a server with a login (HTTP basic authentication)."""

VIEW = "baton"
"""The prepared view of the runs, by the key that `registry.descriptions` saves it under."""
LOOKUP_SECONDS = 2.0

_FIXED = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_DROPPED = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_BACKEND_STORE_URI")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Server:
    """Command of a server. Start it in a process group of its own and end that group.

    `url` answers `GET /health` with 200 once it is up: after 7 to 15 s, more on a busy machine.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    url: str


def server(
    home: Path,
    *,
    environ: Mapping[str, str],
    host: str = "127.0.0.1",
    port: int = 5000,
    allowed_hosts: Sequence[str] = (),
    password: str = "",
    python: str = sys.executable,
) -> Server:
    """The server that keeps its SQLite database and its artifacts under `home` (which must exist).

    With a `password` nothing is answered without it and the name USER, but `/health`.

    `allowed_hosts` are further names by which browsers and `jobs` may address it (a compose
    service, a public name); each is allowed with and without the port. Local names always are.
    """
    home = home.resolve()
    command = [
        *(python, "-m", "mlflow", "server", "--workers", "1"),
        *("--host", host, "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{home / 'mlflow.sqlite3'}"),
        *("--artifacts-destination", str(home / "artifacts"), "--serve-artifacts"),
        *("--uvicorn-opts", "--no-access-log"),
    ]
    if allowed_hosts:
        names = [*_LOCAL, *allowed_hosts]
        command += ["--allowed-hosts", ",".join(n + end for n in names for end in ("", f":{port}"))]
    inherited = {name: value for name, value in environ.items() if name not in _DROPPED}
    if password:
        command += ["--app-name", "basic-auth"]
        inherited |= login(home, password)
    address = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104  (not bound here)
    return Server(tuple(command), inherited | _FIXED, home, f"http://{address}:{port}")


def login(home: Path, password: str) -> dict[str, str]:
    """What makes MLflow's own basic authentication ask for a password: variables of the server's
    environment, and a file of settings in `home`. Another password begins another list of users.
    """
    users = home / f"login-{hashlib.sha256(password.encode()).hexdigest()[:12]}.sqlite3"
    file = home / "login.ini"
    file.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{users}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(file),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }


def mlflow_pages_url(
    url: str, workspace: str = "default", run_id: str | None = None, password: str = ""
) -> str:
    """The page where an engineer sees a workspace's evaluations, or one run, on the server `url`.

    It names MLflow's view for model training: without that it opens one for chat bots, which is
    empty. Answers `url` itself while the server is away or nothing has been published yet.
    """
    name = quote(f"baton/{workspace}", safe="")
    ask = f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
    try:
        asked = Request(ask, headers=_authorization(password))  # noqa: S310  (a server of ours)
        with urlopen(asked, timeout=LOOKUP_SECONDS) as answer:  # noqa: S310
            experiment = json.load(answer)["experiment"]["experiment_id"]
    except (OSError, ValueError, KeyError):
        return url
    place = f"{url}/#/experiments/{experiment}/runs"
    if run_id:
        return f"{place}/{run_id}?workflowType=machine_learning"
    return f"{place}?viewStateShareKey={VIEW}&workflowType=machine_learning"


def _authorization(password: str) -> dict[str, str]:
    if not password:
        return {}
    pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}
