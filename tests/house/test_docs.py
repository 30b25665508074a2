"""The documents name what there is, no more and no less: settings, routes, commands, targets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.datastructures import State
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from learning.decision.policy import Policy
from service.cli import app as baton
from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.web.app import create_app
from service.web.console.routes import site

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "experiments/*.md") for path in ROOT.glob(pattern)
)
PACKAGES = ("learning", "experiments", "service")
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What FastAPI serves of itself; it stands in the README in a sentence.
OWN_PAGES = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/static-offline-docs"}


def first_cells(text: str) -> dict[str, list[str]]:
    """The rows of all tables by the code in their first cell: `` `name` | ... ``."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `") and cells[0].endswith("`"):
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def differences(kind: str, there_is: Iterable[str], documented: Iterable[str]) -> list[str]:
    """Sentences for what is not documented and for what is documented and is not there."""
    is_there, is_told = set(there_is), set(documented)
    return [f"{kind} {name} is not in the README" for name in sorted(is_there - is_told)] + [
        f"{kind} {name} is in the README and does not exist" for name in sorted(is_told - is_there)
    ]


def broken_links(path: Path) -> list[str]:
    """Links of a document that lead to no file, or to no heading of it."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        goal = (path.parent / name).resolve() if name else path
        if not goal.exists():
            found.append(f"{path.name} links to {target}, which is not there")
        elif anchor and anchor not in anchors(goal.read_text(encoding="utf-8")):
            found.append(f"{path.name} links to {target}, which has no such heading")
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as its readers' sites make them."""
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def commands() -> dict[str, TyperCommand]:
    """Every command under its full name, such as `key create`."""
    found: dict[str, TyperCommand] = {}

    def walk(prefix: str, group: TyperGroup) -> None:
        for name, command in group.commands.items():
            full = f"{prefix}{name}"
            if isinstance(command, TyperGroup):
                walk(f"{full} ", command)
            elif not command.hidden:
                found[full] = command

    top = get_command(baton)
    assert isinstance(top, TyperGroup)
    walk("", top)
    return found


def test_every_setting_stands_in_the_readme_with_its_default_unit_and_sentence() -> None:
    rows = first_cells(README)
    told = {name: cells for name, cells in rows.items() if name.startswith("BATON_")}
    settings = {
        one.metadata["variable"]: [
            f"`{one.default}`" if str(one.default) else "",
            one.metadata["unit"],
            one.metadata["sentence"],
        ]
        for one in fields(Settings)
    }
    assert told == settings


def test_every_part_of_the_policy_stands_in_the_readme_with_its_defaults() -> None:
    policy, rows = Policy().model_dump(mode="json"), first_cells(README)
    parts = section(README, "The policy")
    assert differences("policy part", policy, first_cells(parts)) == []
    for name in ("costs", "accepting", "routing", "audits", "silence", "questions", "switching"):
        told = re.findall(r"`(\w+)` ([\w.]+)", rows[name][0])
        there_is = {key: str(json.loads(text)) for key, text in told}
        assert there_is == {key: str(value) for key, value in _whole(policy[name]).items()}


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def _whole(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers as people write them: 1.0 as 1."""
    return {
        key: int(x) if isinstance(x, float) and x.is_integer() else x for key, x in values.items()
    }


def test_every_route_stands_in_the_readme(tmp_path: Path) -> None:
    app = create_app(Settings.from_environ({}, home=tmp_path))
    told = [name for name in first_cells(README) if re.match(r"[A-Z]+ /", name)]
    assert differences("route", described(app), told) == []


def described(app: FastAPI) -> list[str]:
    """Every route of the OpenAPI description, such as `GET /v1/policy`."""
    paths = app.openapi()["paths"].items()
    return [f"{method.upper()} {path}" for path, methods in paths for method in methods]


def test_the_readme_names_the_role_that_each_route_asks_for(tmp_path: Path) -> None:
    settings = Settings.from_environ({}, home=tmp_path)
    store = Store(settings.database_url)
    keys = prepare(settings, store)
    store.close()
    there_is = asyncio.run(roles(create_app(settings), keys["bot"]))
    rows = first_cells(README)
    assert {name: rows[name][0] for name in there_is} == there_is


async def roles(app: FastAPI, bot_key: str) -> dict[str, str]:
    """The role that each route asks for: a bot's key is refused by its name, or not refused."""
    found = {}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://baton") as client,
    ):
        for name in described(app):
            method, path = name.split()
            path = re.sub(r"\{\w+\}", "some", path.replace("{number}", "1"))
            unkeyed = await client.request(method, path)
            bearer = {"Authorization": f"Bearer {bot_key}"}
            refusal = (await client.request(method, path, headers=bearer)).text
            needed = re.search(r"needs the role (\w+)", refusal)
            role = needed.group(1) if needed else "bot"
            found[name] = role if unkeyed.status_code == 401 else "-"
    return found


def test_every_route_is_in_the_openapi_description(tmp_path: Path) -> None:
    app = create_app(Settings.from_environ({}, home=tmp_path))
    hidden = {
        route.path
        for route in routes(app)
        if not getattr(route, "include_in_schema", False)
        and getattr(route, "methods", None) != {"HEAD"}
    }
    assert hidden <= OWN_PAGES | {"/", "/console"}


def test_every_page_of_the_console_stands_in_the_readme() -> None:
    there_is = [
        "/console" + route.path
        for route in routes(site(State()))
        if "GET" in route.methods and route.path not in {"/", "/static/{digest}/{name}"}
    ]
    told = [name for name in first_cells(README) if name.startswith("/console/")]
    assert differences("page", there_is, told) == []


def routes(router: Any) -> Iterator[Any]:
    """All routes of an application, those of included routers among them."""
    for route in router.routes:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router)
        else:
            yield route


def test_making_the_app_for_its_description_touches_nothing(tmp_path: Path) -> None:
    create_app(Settings.from_environ({}, home=tmp_path / "home")).openapi()
    assert list(tmp_path.iterdir()) == []


def test_the_pages_of_the_api_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    client = TestClient(create_app(Settings.from_environ({}, home=tmp_path)))
    for page in ("/docs", "/redoc"):
        told = client.get(page).text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', told)
        assert loaded, page
        assert all(client.get(one).status_code == 200 for one in loaded), loaded
        assert "https://" not in told


def test_every_command_stands_in_the_readme() -> None:
    told = [name for name in first_cells(README) if name.startswith("baton ")]
    names = {" ".join(name.split()[1:]).partition(" [")[0].partition(" -")[0] for name in told}
    plain = {re.sub(r" [A-Z_]+.*$", "", name) for name in names}
    assert differences("command", commands(), plain) == []


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_shows_an_example(name: str) -> None:
    answer = CliRunner().invoke(baton, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    assert re.search(rf"\bbaton {name}\b", answer.output.partition("Usage:")[2].partition("\n")[2])


def test_every_make_target_stands_in_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):.*##", makefile, flags=re.MULTILINE)
    told = re.findall(r"`make ([a-z]+)`|^make ([a-z]+)\b", README, flags=re.MULTILINE)
    assert differences("make target", targets, {a or b for a, b in told}) == []


def test_every_experiment_stands_in_the_documents() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    experiments = [path.stem for path in ROOT.glob("experiments/[0-9]*.py")]
    assert [name for name in experiments if name not in text] == []


def test_what_documents_and_messages_tell_to_run_or_set_exists() -> None:
    """Errors advise commands and settings, too: what they name must be there."""
    sources = [*DOCUMENTS, *(p for d in PACKAGES for p in sorted((ROOT / d).rglob("*.py")))]
    texts = {path: path.read_text(encoding="utf-8") for path in sources}
    known = {name.split()[0] for name in commands()}
    variables = {one.metadata["variable"] for one in fields(Settings)} | {"BATON_DATA"}
    unknown = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in texts.items()
        for name in (
            *(set(re.findall(r"`baton ([a-z][a-z-]*)", text)) - known),
            *(set(re.findall(r"\bBATON_[A-Z_]+\b", text)) - variables),
        )
    ]
    assert unknown == []


def test_every_test_that_the_faults_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text(encoding="utf-8")))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 50
    assert named - there == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda p: p.name)
def test_pins_carry_hashes_and_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^.*(?:://|--index|--find-links|@ ).*$", text, flags=re.MULTILINE) == []
    pins = re.split(r"\n(?=\S)", text.strip())
    assert [pin for pin in pins if "--hash=sha256:" not in pin or "==" not in pin] == []


# The checks above are able to fail:


def test_a_missing_and_an_invented_name_are_both_found() -> None:
    table = "| route | does |\n|---|---|\n| `GET /a` | tells |\n| `GET /gone` | told |"
    assert first_cells(table) == {"GET /a": ["tells"], "GET /gone": ["told"]}
    assert differences("route", {"GET /a", "GET /b"}, first_cells(table)) == [
        "route GET /b is not in the README",
        "route GET /gone is in the README and does not exist",
    ]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading, here\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#a-heading-here) [b](other.md#none) [c](gone.md) [d](https://x)")
    assert broken_links(page) == [
        "page.md links to other.md#none, which has no such heading",
        "page.md links to gone.md, which is not there",
    ]
