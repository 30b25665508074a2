"""Administration commands: keys, backup, restore, erase, export, doctor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from service.cli.options import (
    Home,
    Json,
    Workspace,
    app,
    console,
    handle_errors,
    key_app,
    open_store,
    print_json,
    settings,
)

Archive = Annotated[Path, typer.Argument(help="The archive file.")]


@key_app.command("create", epilog="Example: baton key create --role agent --name dana")
def key_create(
    role: Annotated[str, typer.Option(help="bot, agent, lead, engineer, admin or connector")],
    name: Annotated[str, typer.Option(help="How its holder appears in claims and outcomes")] = "",
    days: Annotated[float | None, typer.Option(help="Expires after so many days.", min=0)] = None,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Make an API key and print it; it is shown only once.

    Give the bot a key of role bot and each agent one of their own, so that their claims and
    verdicts are told apart.
    """
    from service.web.access.keys import ROLES, NewKey, issue_key, new_secret
    from service.web.schemas import timed

    with handle_errors():
        if role not in ROLES:
            raise ValueError(f"there is no role {role!r}; use one of {', '.join(ROLES)}")
        store = open_store(settings(home=home), workspace)
        secret = new_secret()
        name = name or f"{role}-{secret[-6:].lower()}"
        expires_at = None if days is None else time.time() + 86_400 * days
        new = NewKey(workspace, role, name, expires_at=expires_at)
        with store.write() as connection:
            key = issue_key(connection, new, secret)
            _log_security(connection, "key_issued", f"{key['id']} {role} {name}", workspace)
        if json_:
            print_json(timed(key))
        else:
            typer.echo(key["key"])


def _log_security(connection: Any, kind: str, subject: str, workspace: str) -> None:
    from service.store import security_log

    actor = security_log.COMMAND_LINE
    security_log.append(connection, [security_log.event(kind, actor, subject, workspace=workspace)])


@app.command(epilog="Example: baton backup /srv/backups/baton-today.tar.gz")
def backup(
    archive: Archive,
    home: Home = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it is there.")
    ] = False,
) -> None:
    """Back up everything (database and keys) to one file, while Baton runs.

    For SQLite only: a PostgreSQL database is backed up by its own tools, such as pg_dump. `baton
    restore` makes an installation of the file.
    """
    from service.operations.backup import back_up

    with handle_errors():
        size = back_up(settings(home=home), archive, overwrite=overwrite)
        console.print(f"wrote {archive} ({size} bytes)", highlight=False)


@app.command(epilog="Example: baton restore /srv/backups/baton-today.tar.gz --home /srv/new")
def restore(archive: Archive, home: Home = None) -> None:
    """Make an installation from a backup, in a home folder that has none.

    Start it with `baton up` afterwards; the keys are those of the backup.
    """
    from service.operations.backup import restore_backup

    with handle_errors():
        chosen = settings(home=home)
        restore_backup(archive, chosen)
        console.print(f"restored to {chosen.home}; start it with `baton up`", highlight=False)


@app.command(epilog="Example: baton erase c-20261123-17 --yes")
def erase(
    conversation: Annotated[str, typer.Argument(help="The conversation's id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: Workspace = "default",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Erase a conversation's text, decisions and notes now, for good. Its id and verdict stay.

    The serving model keeps what it learned from it until the next exact rebuild: `jobs` schedules
    one, `baton rebuild --promote` makes one now.
    """
    from service.privacy.erasure import erase as erase_conversation

    with handle_errors():
        store = open_store(settings(home=home), workspace)
        if not yes:
            typer.confirm(f"Erase conversation {conversation!r} for good?", abort=True)
        erasure = erase_conversation(store, workspace, conversation, actor="command line")
        with store.write() as connection:
            _log_security(connection, "erased", conversation, workspace)
        if json_:
            report = {"conversation": conversation, "position": erasure.position}
            print_json(report | {"outcomes": list(erasure.outcomes)})
        else:
            void = f"; {len(erasure.outcomes)} of its outcomes are void" if erasure.outcomes else ""
            console.print(f"erased at ledger position {erasure.position}{void}", highlight=False)


@app.command(epilog="Example: baton export --workspace default > history.jsonl")
def export(
    version: Annotated[int | None, typer.Option(help="Export this version instead ...")] = None,
    to: Annotated[Path | None, typer.Option(help="... into this new folder.")] = None,
    workspace: Workspace = "default",
    home: Home = None,
) -> None:
    """Print a workspace's conversations and outcomes as JSON Lines that `baton replay` reads.

    With --version 7 --to FOLDER, write that version instead: an MLflow model that scores
    conversations outside Baton, and that `baton import` takes.
    """
    from service.cli.commands.versions import exported as exported_version
    from service.operations.backup import export_conversations

    with handle_errors():
        if (version is None) != (to is None):
            raise ValueError("--version and --to belong together: --version 7 --to ./version-7")
        if version is not None and to is not None:
            exported_version(version, to, workspace, home)
            return
        store = open_store(settings(home=home), workspace)
        with store.write() as connection:
            _log_security(connection, "exported", "conversations", workspace)
        for line in export_conversations(store, workspace):
            typer.echo(line)


@app.command(epilog="Example: baton doctor --home /srv/baton")
def doctor(
    home: Home = None,
    port: Annotated[
        int | None, typer.Option(help="The API's port [where it runs]", min=1, max=65535)
    ] = None,
    json_: Json = False,
) -> None:
    """Diagnose this installation: what is wrong, and how to mend it. Exit status 1 if anything is.

    It changes nothing. Run it after an upgrade, or when `/readyz` answers 503. Processes that
    `baton up` started are asked where they run, whatever their ports.
    """
    from service.operations.doctor import examine

    with handle_errors():
        findings = examine(settings(home=home), port)
        if json_:
            print_json([{"what": f.what, "ok": f.ok, "mend": f.mend} for f in findings])
        else:
            out = Console(highlight=False, soft_wrap=True)
            for finding in findings:
                mark = "[green]ok[/green]   " if finding.ok else "[red]wrong[/red]"
                out.print(f"{mark} {escape(finding.what)}")
                if not finding.ok:
                    out.print(f"      {finding.mend}", markup=False)
        if not all(finding.ok for finding in findings):
            raise typer.Exit(1)
