"""Diagnostics of an installation: each check with its result and its remedy."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import httpx

from learning.decision.policy_parts import RedactionPolicy
from learning.ledger import checkpoint
from learning.ledger.model_state import TextRemovedError
from service.operations.running_file import Running, read_running
from service.runtime.first_secrets import KEYS_FILE, mlflow_password
from service.runtime.sealing import KEY_FILE, Sealer, UnsealError
from service.runtime.settings import INSTALLATION, Settings
from service.store import access
from service.store.access import LEASE
from service.store.conversations import original_rows
from service.store.database.clock import database_time
from service.store.database.transactions import DatabaseError, Store
from service.store.ledger import entries as ledger
from service.store.ledger import mlflow_rows, version_rows
from service.versions.restore import BrokenEntryError, restore


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was checked, whether it holds, how to mend it."""

    what: str
    ok: bool
    mend: str = ""


def examine(settings: Settings, port: int | None = None) -> list[Finding]:
    """Run all checks; read-only. The API is asked at `port`, or where `running.json` or else the
    settings say that it is.
    """
    findings = [*_home(settings)]
    if settings.database or (settings.home / "baton.sqlite3").exists():
        store = Store(settings.database_url)
        try:
            findings += _database(store)
            if not store.schema().wrong:
                findings += _artifacts(settings, store)
                findings += _jobs(store)
                findings += _originals(settings, store)
        except DatabaseError as error:
            findings.append(
                Finding(
                    f"the database answers: {error.orig}",
                    ok=False,
                    mend="check BATON_DATABASE, that its server runs, and `baton up`'s log",
                )
            )
        store.close()
    findings += _services(settings, port)
    return findings


def _jobs(store: Store) -> Iterator[Finding]:
    """Whether any `jobs` process acts: who holds the lease, wherever it runs."""
    with store.read() as connection:
        lease = access.lease(connection, LEASE)
        now = database_time(connection)
    acts = lease is not None and lease.expires_at > now
    who = f": {lease.holder} holds the lease" if acts and lease is not None else ""
    mend = "start `baton jobs` (or `baton up`): nothing expires or is evaluated without it"
    yield Finding(f"jobs act{who}" if acts else "jobs act", acts, mend)


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    exists = home.is_dir() and (bool(settings.database) or (home / "baton.sqlite3").exists())
    mend = "`baton up` makes one there; --home or BATON_HOME names another"
    yield Finding(f"there is an installation in {home}", exists, mend)
    keys = home / KEYS_FILE
    if exists and not settings.database:
        mend = "`baton key create --role admin` makes another; keys are shown only once"
        yield Finding(f"the first keys are in {keys}", keys.exists(), mend)
    if keys.exists():
        private = stat.S_IMODE(keys.stat().st_mode) & 0o077 == 0
        yield Finding(f"{keys} is readable by its owner only", private, f"chmod 600 {keys}")
    yield _retention(settings)


def _originals(settings: Settings, store: Store) -> Iterator[Finding]:
    """Whether originals of redacted messages are kept, and whether what opens them is here."""
    with store.read() as connection:
        kept = {
            name: (ledger.newest_policy(connection, name), original_rows.newest(connection, name))
            for name in ledger.workspaces(connection)
        }
    for name, (policy, sealed) in kept.items():
        redaction = RedactionPolicy.model_validate(policy.get("redaction") or {}, extra="ignore")
        is_kept = redaction.originals != "none"
        if not (redaction.kinds or is_kept or sealed):
            continue
        how = "kept, sealed" if is_kept else "not kept; agents' replies are, sealed, for a week"
        yield Finding(
            f"workspace {name}: originals of redacted messages are {how}; their key is here",
            _has_key(settings, sealed, is_kept=is_kept),
            "give this process the BATON_SECRET_KEY of the others; where it is lost, so are the "
            "originals, and nothing else",
        )


def _has_key(settings: Settings, sealed: str | None, *, is_kept: bool) -> bool:
    """Whether the newest original is opened by the key that is here. No key is made."""
    if not settings.secret_key and (is_kept or not (settings.home / KEY_FILE).exists()):
        return not is_kept and sealed is None
    with suppress(UnsealError):
        return sealed is None or bool(Sealer.of(settings).unseal(sealed))
    return False


def _database(store: Store) -> Iterator[Finding]:
    schema = store.schema()
    if schema.wrong:
        yield Finding(schema.what, ok=False, mend=schema.mend)
        return
    yield Finding(f"the database's schema is this build's (revision {schema.revision})", ok=True)
    with store.read() as connection:
        names = list(ledger.workspaces(connection))
    count = f"{len(names)} workspace{'s' * (len(names) != 1)}"
    yield Finding(f"the database answers and has {count}", ok=True)
    for name in names:
        with store.read() as connection:
            entries = ledger.count(connection, name)
            row = ledger.workspace(connection, name)
            head = row.head if row is not None else 0
            numbers = [version.number for version in version_rows.versions(connection, name)]
        yield Finding(
            f"workspace {name}: the ledger is gapless ({entries} entries, head {head})",
            entries == head,
            "restore a backup: entries are missing",
        )
        yield from _versions(store, name, numbers)
        try:
            model_state = restore(store, name)
            what = f"workspace {name}: stands at version {model_state.version}, position {head}"
            yield Finding(what, model_state.position == head, "see the log of `baton serve`")
        except DatabaseError:
            raise
        except Exception as error:
            yield Finding(f"workspace {name}: {error}", ok=False, mend=_mend(name, error))


def _mend(workspace: str, error: Exception) -> str:
    """What to do about a workspace in which no process can stand."""
    place = "" if workspace == INSTALLATION else f" --workspace {shlex.quote(workspace)}"
    if isinstance(error, BrokenEntryError) and error.kind == "outcome":
        bounds = f"--from-position {error.position} --to-position {error.position}"
        return (
            f"leave that entry out: `baton rebuild {bounds} --promote{place}`; the other "
            "workspaces are served meanwhile"
        )
    if isinstance(error, TextRemovedError):
        return (
            f"serve a version made after it was learned (`baton rollback --to VERSION{place}`), "
            "or restore a backup"
        )
    if isinstance(error, BrokenEntryError):
        return "start the build of Baton that wrote it, or restore a backup"
    return f"`baton rebuild --promote{place}`; where that fails, too, restore a backup"


def _versions(store: Store, workspace: str, numbers: list[int]) -> Iterator[Finding]:
    damaged, others = [], 0
    for number in numbers:
        with store.read() as connection:
            data = version_rows.state(connection, workspace, number)
        try:
            checkpoint.load(data or b"")
        except checkpoint.UnknownRecipeError:
            others += 1
        except checkpoint.CheckpointError:
            damaged.append(number)
    older = f", {others} of a recipe that only another build has" if others else ""
    yield Finding(
        f"workspace {workspace}: {len(numbers)} versions{older}, {len(damaged)} damaged"
        f"{f' {damaged}' if damaged else ''}",
        not damaged,
        "damaged versions are passed over; `baton rebuild` makes a whole one",
    )


def _artifacts(settings: Settings, store: Store) -> Iterator[Finding]:
    """Whether the files at MLflow's aliases are as Baton wrote them; nothing where MLflow is away
    or has none. Importing its client takes seconds.
    """
    with store.read() as connection:
        written = {
            name: version_rows.published(connection, name) for name in ledger.workspaces(connection)
        }
        aliases = {name: mlflow_rows.aliases(connection, name) for name in written}
    if not any(written.values()):
        return
    from experiments.registry.mlflow_client import RegistryUnavailable
    from experiments.registry.registered_versions import Registry

    registry = Registry(settings.mlflow_url, password=mlflow_password(settings))
    with suppress(RegistryUnavailable):
        for name, known in written.items():
            numbers = {row.registry_version for row in aliases[name]} & known.keys()
            altered = [n for n in numbers if registry.artifacts_digest(name, n) != known[n][1]]
            yield Finding(
                f"workspace {name}: {len(numbers)} versions at MLflow's aliases, {len(altered)} "
                f"with files that are not as Baton wrote them {sorted(altered) or ''}",
                not altered,
                "jobs publish them anew; load none of them until then, and find out who can write "
                "to MLflow",
            )


def _services(settings: Settings, port: int | None) -> Iterator[Finding]:
    running = read_running(settings.home)
    api = running.api if running else f"http://{settings.host}:{settings.port}"
    if port is not None:
        api = f"http://{settings.host}:{port}"
    start = "start it with `baton up`"
    places = [("the API", f"{api}/readyz", start)]
    if running is not None:
        yield from _processes(running)
        places.append(("jobs", f"{running.jobs}/healthz", "see their log in the home's `logs`"))
    mlflow = running.mlflow if running else settings.mlflow_url
    places.append(("MLflow", f"{mlflow}/health", f"{start}; scoring and learning go on without it"))
    for name, url, mend in places:
        try:
            response = httpx.get(url, timeout=3, trust_env=False)
            ok, detail = response.status_code == 200, response.text.strip()[:200]
        except httpx.HTTPError as error:
            ok, detail = False, str(error)
        yield Finding(f"{name} answers at {url}: {detail}", ok, mend)


def _processes(running: Running) -> Iterator[Finding]:
    for one in running.processes:
        mend = "`baton up` starts it again within seconds; where that was killed, start it anew"
        yield Finding(f"{one.name} runs (process {one.pid})", one.is_alive, mend)


def _retention(settings: Settings) -> Finding:
    """Said on the first day, not only when somebody asks: it is never wrong."""
    if settings.keep_days:
        return Finding(f"texts are kept for {settings.keep_days:g} days", ok=True)
    what = "texts are kept for ever; BATON_KEEP_DAYS sets days, and /v1/people erases one person"
    return Finding(what, ok=True)
