"""The documents name what there is, no more and no less, and every page can be reached."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.datastructures import State
from typer.testing import CliRunner

from docs import generate
from docs.generate import anchor, commands, operations
from learning.decision.policy import Policy
from service.cli import app as baton
from service.runtime.settings import Settings
from service.web.app import create_app
from service.web.console.routes import site

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES]
PACKAGES = ("learning", "experiments", "service")
README_BYTES_MAX = 8_000

# What FastAPI serves of itself; it stands in the routes' page in a sentence.
OWN_PAGES = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/static-offline-docs"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


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
    return [f"{kind} {name} is not documented" for name in sorted(is_there - is_told)] + [
        f"{kind} {name} is documented and does not exist" for name in sorted(is_told - is_there)
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
    return {anchor(one) for one in re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)}


def described(app: FastAPI) -> list[str]:
    """Every route of the OpenAPI description, such as `GET /v1/policy`."""
    return [name for name, _ in operations(app.openapi())]


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return generate.pages()


@pytest.mark.parametrize("name", ["routes.md", "commands.md", "settings.md", "policy.md"])
def test_a_reference_page_is_what_the_code_says(name: str, generated: dict[str, str]) -> None:
    assert set(generated) == {path.name for path in (DOCS / "reference").glob("*.md")}
    told = read(f"docs/reference/{name}")
    assert told == generated[name], "run `make docs` and commit what it writes"


def test_the_reference_has_every_route_command_setting_and_policy_part(tmp_path: Path) -> None:
    """Counted anew from the code: what the generator forgets is missed here."""
    app = create_app(Settings.from_environ({}, home=tmp_path))
    headings = {
        name: re.findall(r"^##+ (.+)$", read(f"docs/reference/{name}.md"), flags=re.MULTILINE)
        for name in ("routes", "commands")
    }
    told = [one for one in headings["routes"] if re.match(r"[A-Z]+ /", one)]
    assert differences("route", described(app), told) == []
    assert differences("command", (f"baton {x}" for x in commands()), headings["commands"]) == []
    rows = first_cells(read("docs/reference/settings.md"))
    assert differences("setting", (x.metadata["variable"] for x in fields(Settings)), rows) == []
    rows = first_cells(read("docs/reference/policy.md"))
    assert set(Policy.model_fields) <= set(rows)


def test_the_routes_page_names_the_role_that_each_route_asks_for() -> None:
    page = read("docs/reference/routes.md")
    roles = dict(re.findall(r"^\| \[`([A-Z]+ [^`]+)`\]\([^)]+\) \| (\S+) \|", page, re.MULTILINE))
    assert {name: roles[name] for name in ("POST /v1/score", "GET /v1/handoffs")} == {
        "POST /v1/score": "bot",
        "GET /v1/handoffs": "agent",
    }
    assert (roles["PUT /v1/policy"], roles["POST /v1/keys"]) == ("engineer", "admin")
    assert roles["POST /connect/{connection_id}"] == "signature"
    assert [name for name, role in roles.items() if role == "-"] == [
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    ]


def test_every_part_of_the_policy_stands_in_its_guide_with_its_defaults() -> None:
    policy, rows = Policy().model_dump(mode="json"), first_cells(read("docs/guides/policy.md"))
    assert differences("policy part", policy, rows) == []
    for name in ("costs", "accepting", "routing", "audits", "silence", "questions", "switching"):
        told = re.findall(r"`(\w+)` ([\w.]+)", rows[name][0])
        there_is = {key: str(json.loads(text)) for key, text in told}
        assert there_is == {key: str(value) for key, value in _whole(policy[name]).items()}


def test_the_readme_is_a_door_and_not_the_house() -> None:
    assert len(read("README.md").encode()) <= README_BYTES_MAX


def _whole(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers as people write them: 1.0 as 1."""
    return {
        key: int(x) if isinstance(x, float) and x.is_integer() else x for key, x in values.items()
    }


def test_every_route_is_in_the_openapi_description(tmp_path: Path) -> None:
    app = create_app(Settings.from_environ({}, home=tmp_path))
    hidden = {
        route.path
        for route in routes(app)
        if not getattr(route, "include_in_schema", False)
        and getattr(route, "methods", None) != {"HEAD"}
    }
    assert hidden <= OWN_PAGES | {"/", "/console", "/mcp"}


def test_every_page_of_the_console_stands_in_the_guide_of_agents() -> None:
    there_is = [
        "/console" + route.path
        for route in routes(site(State()))
        if "GET" in route.methods and route.path not in {"/", "/static/{digest}/{name}"}
    ]
    rows = first_cells(read("docs/guides/agents-and-leads.md"))
    told = [name for name in rows if name.startswith("/console/")]
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


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_shows_an_example(name: str) -> None:
    answer = CliRunner().invoke(baton, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    assert re.search(rf"\bbaton {name}\b", answer.output.partition("Usage:")[2].partition("\n")[2])


def test_every_make_target_stands_in_contributing() -> None:
    targets = re.findall(r"^([a-z]+):.*##", read("Makefile"), flags=re.MULTILINE)
    rows = first_cells(read("CONTRIBUTING.md"))
    told = [name.removeprefix("make ") for name in rows if name.startswith("make ")]
    assert differences("make target", targets, told) == []
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert set(re.findall(r"`make ([a-z]+)", text)) <= set(targets)


def test_every_study_stands_in_the_documents() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    studies = [path.stem for path in ROOT.glob("experiments/studies/[0-9]*.py")]
    assert len(studies) > 5
    assert [name for name in studies if name not in text] == []


def test_what_documents_and_messages_tell_to_run_or_set_exists() -> None:
    """Errors advise commands and settings, too: what they name must be there."""
    sources = [*DOCUMENTS, *(p for d in PACKAGES for p in sorted((ROOT / d).rglob("*.py")))]
    texts = {path: path.read_text(encoding="utf-8") for path in sources}
    known = {name.split()[0] for name in commands()}
    variables = {one.metadata["variable"] for one in fields(Settings)} | {"BATON_DATA", "BATON_KEY"}
    unknown = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in texts.items()
        for name in (
            *(set(re.findall(r"`baton ([a-z][a-z-]*)", text)) - known),
            *(set(re.findall(r"\bBATON_[A-Z_]*[A-Z]\b", text)) - variables),
        )
    ]
    assert unknown == []


def missing_paths(text: str) -> list[str]:
    """Paths of the repository and modules to run that a text names and that are not there."""
    paths = re.findall(rf"\b(?<![/.-])(?:{'|'.join(FOLDERS)})/[\w/-]+(?:\.[a-z]+)?", text)
    modules = re.findall(r"python -m ([a-z]+(?:\.\w+)+)", text)
    return [name for name in paths if not (ROOT / name).exists()] + [
        name for name in modules if find_spec(name) is None
    ]


FOLDERS = (*PACKAGES, "tests", "docs", "deploy")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_paths_and_modules_that_a_document_names_are_there(path: Path) -> None:
    assert missing_paths(path.read_text(encoding="utf-8")) == []


def test_every_test_and_module_that_the_faults_name_exists() -> None:
    page = read("docs/explanation/faults.md")
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(named) > 50
    assert named - there == set()
    modules = re.findall(r"`([a-z_/]+\.py)`", page)
    assert len(modules) > 50
    assert [
        one for one in modules if not any((ROOT / at / one).exists() for at in ("", "service"))
    ] == []


def test_every_finding_stands_in_its_page_with_files_and_tests_that_are_there() -> None:
    page = read("docs/explanation/hostile-findings.md")
    rows = re.findall(r"^\| F(\d+) \|(?:[^|]+\|){2}([^|]+)\|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 39))
    paths = list((ROOT / "tests").rglob("test_*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    tests = {name for text in texts for name in re.findall(r"def (test_\w+)", text)}
    assert set(re.findall(r"`(test_\w+\.py)`", page)) - {path.name for path in paths} == set()
    assert set(re.findall(r"`(test_\w+)`", page)) - tests == set()
    assert [number for number, proof in rows if "test" not in proof] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_two_headings_of_a_page_have_one_anchor(path: Path) -> None:
    """A link would lead to the first of them."""
    text = path.read_text(encoding="utf-8")
    headings = [anchor(one) for one in re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)]
    assert sorted(set(headings)) == sorted(headings)


def nav_pages() -> list[str]:
    """The pages of the site's navigation, in its order."""

    def walk(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for one in entry.values() if isinstance(entry, dict) else entry:
                yield from walk(one)

    return list(walk(yaml.safe_load(read("mkdocs.yml"))["nav"]))


def test_every_page_stands_once_in_the_navigation() -> None:
    pages = [str(path.relative_to(DOCS)) for path in PAGES]
    assert sorted(nav_pages()) == sorted(pages)


def build_site(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The site, built as `make docs` does; `--quiet` would keep warnings from being counted."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "mkdocs", "build", "--strict"),
            *("--config-file", config, "--site-dir", folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = build_site(ROOT / "mkdocs.yml", tmp_path)
    assert build.returncode == 0, build.stdout + build.stderr
    pages = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    assert len(pages) >= len(PAGES)
    sources = r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\s\">]+)"
    styles = r"<link[^>]+href=\"?(https?:[^\s\">]+)"
    assert [one for page in pages for one in re.findall(f"{sources}|{styles}", page)] == []
    assert not list(tmp_path.rglob("*.py"))


def test_a_site_with_a_flaw_is_not_built(tmp_path: Path) -> None:
    """A dead link, a heading that is not there, and a page that is not in the navigation."""
    config = yaml.safe_load(read("mkdocs.yml")) | {"nav": [{"Door": "index.md"}]}
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Door\n\n[a](gone.md) [b](#none)\n")
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n")
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    build = build_site(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert build.returncode != 0
    assert "Aborted with 3 warnings in strict mode" in build.stdout + build.stderr


@pytest.mark.parametrize("path", sorted((DOCS / "decisions").glob("0*.md")), ids=lambda p: p.stem)
def test_a_decision_has_a_status_its_context_and_its_cost(path: Path) -> None:
    text, number = path.read_text(encoding="utf-8"), int(path.name[:4])
    assert text.startswith(f"# {number}. ")
    status = re.search(
        r"^20\d\d-\d\d-\d\d · Status: ((?:accepted|superseded by).*)$", text, re.MULTILINE
    )
    assert status
    for heading in ("Context", "Decision", "Cost"):
        assert re.search(rf"^## {heading}\n\n\S", text, re.MULTILINE), heading
    rows = re.findall(
        r"^\| (\d+) \| \[.+\]\((.+)\) \| .+ \| (.+) \|$",
        read("docs/decisions/index.md"),
        re.MULTILINE,
    )
    assert (str(number), path.name, status[1]) in rows


def test_a_decision_that_took_another_s_place_and_that_other_name_each_other() -> None:
    texts = {p.name: p.read_text(encoding="utf-8") for p in (DOCS / "decisions").glob("0*.md")}
    replaced = {
        (old, new)
        for old, text in texts.items()
        for new in re.findall(r"superseded by \[\d+\]\((.+?)\)", text)
    }
    assert len(replaced) > 3
    assert [
        (o, n) for o, n in sorted(replaced) if not re.search(rf"Status:.+\({o}\)", texts[n])
    ] == []


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((DOCS / "results").glob("*.md")) if path.name != "index.md"],
    ids=lambda p: p.stem,
)
def test_a_result_names_its_command_date_and_commit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    commit = r"`[0-9a-f]{7}`(?:, which added it)?"
    assert re.search(
        rf"^Command: .*`.+` · Date: 20\d\d-\d\d-\d\d · Commit: {commit}$", text, re.MULTILINE
    )


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
        "route GET /b is not documented",
        "route GET /gone is documented and does not exist",
    ]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading, here\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#a-heading-here) [b](other.md#none) [c](gone.md) [d](https://x)")
    assert broken_links(page) == [
        "page.md links to other.md#none, which has no such heading",
        "page.md links to gone.md, which is not there",
    ]


def test_a_path_that_is_not_there_is_found() -> None:
    told = "see `service/gone.py`, tests/house, `python -m experiments.nothing` and docs/start"
    assert missing_paths(told) == ["service/gone.py", "experiments.nothing"]
