"""Write the reference pages from what they describe: `python -m docs.generate`.

Routes come from the OpenAPI description, and their roles from asking the application itself;
commands from Typer; settings and policy from their own declarations. The pages are kept in
`docs/reference/`, so that they can be read without building the site; `make docs` writes them
anew, and `tests/house/test_docs.py` fails where they differ from the code.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from learning.decision.policy import Policy, default_rules
from learning.decision.rules import PROTECTED, READINGS
from learning.text.signals import TOPICS
from service.cli import app as baton
from service.operations.bootstrap import prepare
from service.runtime.settings import Settings
from service.store.database.transactions import Store
from service.web.app import create_app

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTE = (
    "<!-- Written by docs/generate.py; change the code that it describes, then `make docs`. -->\n"
)


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {
        "routes.md": routes_page(),
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "policy.md": policy_page(),
    }


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells are kept on one line."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell(one) for one in line)} |\n" for line in lines)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def page(title: str, *parts: str) -> str:
    return "\n".join((f"# {title}\n", NOTE, *parts))


# Routes


def routes_page() -> str:
    """Every route with its role, parameters and fields."""
    with tempfile.TemporaryDirectory() as folder:
        app, roles = keyed_app(Path(folder))
    description = app.openapi()
    schemas = description.get("components", {}).get("schemas", {})
    by_tag: dict[str, list[str]] = {}
    overview = []
    for name, operation in operations(description):
        tag = operation.get("tags", ["other"])[0]
        told = operation.get("description", operation.get("summary", ""))
        link = f"[`{name}`](#{anchor(name)})"
        overview.append((link, roles[name], first_sentence(told)))
        by_tag.setdefault(tag, []).append(route_section(name, roles[name], told, operation))
    shapes = [shape_section(name, schemas[name]) for name in sorted(schemas)]
    return page(
        "Routes",
        "JSON over HTTP. A route asks for a key with at least the role named here, sent as\n"
        "`Authorization: Bearer <key>`; `-` asks for none. Each key belongs to one workspace.\n"
        "A running Baton shows the same at `/docs`, where each route can be tried, and describes\n"
        "itself to programs at `/openapi.json`.\n",
        'Errors have one shape: `{"error": {"code", "message", "field"?, "hint"?}}`. With 503\n'
        "nothing was recorded: send the request again after `Retry-After` seconds.\n",
        table(("route", "role", "does"), overview),
        *(f"## {tag.capitalize()} routes\n\n" + "\n".join(some) for tag, some in by_tag.items()),
        "## Fields\n",
        *shapes,
    )


def keyed_app(folder: Path) -> tuple[FastAPI, dict[str, str]]:
    """The application on an empty store of its own, and the role that each route asks for."""
    settings = Settings.from_environ({}, home=folder)
    store = Store(settings.database_url)
    keys = prepare(settings, store)
    store.close()
    app = create_app(settings)
    return app, asyncio.run(roles_asked(app, keys["bot"]))


async def roles_asked(app: FastAPI, bot_key: str) -> dict[str, str]:
    """The role that each route asks for: a bot's key is refused by its name, or not refused."""
    asked = {}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://baton") as client,
    ):
        for name, operation in operations(app.openapi()):
            if "text/event-stream" in operation["responses"]["200"]["content"]:
                asked[name] = "bot"  # a stream that is not refused never ends
                continue
            method, path = name.split()
            path = re.sub(r"\{\w+\}", "some", path.replace("{number}", "1"))
            unkeyed = await client.request(method, path)
            bearer = {"Authorization": f"Bearer {bot_key}"}
            refusal = (await client.request(method, path, headers=bearer)).text
            needed = re.search(r"needs the role (\w+)", refusal)
            role = needed.group(1) if needed else "bot"
            asked[name] = role if unkeyed.status_code == 401 else "-"
            if "/connect/" in name:
                asked[name] = "signature"
    return asked


def operations(description: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every operation of an OpenAPI description under a name such as `GET /v1/policy`."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def route_section(name: str, role: str, told: str, operation: Mapping[str, Any]) -> str:
    """One route: what it does, its parameters, the shapes it takes and gives."""
    parts = [
        f"### {name}\n",
        told.partition("\n\nRole: ")[0] + "\n",
        f"Role: `{role}`. Operation: `{operation_id(operation)}`.\n",
    ]
    rows = [
        (
            f"`{one['name']}`",
            one["in"],
            type_of(one["schema"]) + ("" if one.get("required") else ", optional"),
            one.get("description", ""),
        )
        for one in operation.get("parameters", [])
    ]
    if rows:
        parts.append(table(("parameter", "in", "type", "says"), rows))
    body = content_schema(operation.get("requestBody", {}))
    if body:
        parts.append(f"Body: {type_of(body)}.\n")
    good = [one for status, one in operation["responses"].items() if status.startswith("2")]
    answer = content_schema(good[0]) if good else {}
    if answer and "$ref" in str(answer):
        parts.append(f"Answer: {type_of(answer)}.\n")
    return "\n".join(parts)


def operation_id(operation: Mapping[str, Any]) -> str:
    return str(operation.get("operationId", "-"))


def content_schema(body: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = body.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def shape_section(name: str, schema: Mapping[str, Any]) -> str:
    """One shape with its fields."""
    told = f"{schema['description']}\n" if "description" in schema else ""
    rows = field_rows(schema)
    return "\n".join(
        part
        for part in (
            f"### {name}\n",
            told,
            table(("field", "type", "default", "says"), rows) if rows else f"{type_of(schema)}\n",
        )
        if part
    )


def field_rows(schema: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    required = schema.get("required", ())
    return [
        (
            f"`{name}`",
            type_of(one),
            default_of(one) or ("required" if name in required else ""),
            one.get("description", "") + examples(one),
        )
        for name, one in schema.get("properties", {}).items()
    ]


def examples(schema: Mapping[str, Any]) -> str:
    some = schema.get("examples", [])
    return f" Example: `{some[0]}`." if some else ""


def default_of(schema: Mapping[str, Any]) -> str:
    """A default as JSON; that of a shape stands in the shape's own table."""
    if "default" not in schema:
        return ""
    value = schema["default"]
    if isinstance(value, dict) and value:
        return "see its own table"
    if value in (None, "", [], {}):
        return "none" if value is None else "empty"
    return f"`{json.dumps(value)}`"


def type_of(schema: Mapping[str, Any]) -> str:
    """A JSON schema's type in a few words, shapes as links."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{anchor(name)})"
    if "allOf" in schema:
        return " and ".join(type_of(one) for one in schema["allOf"])
    some = schema.get("anyOf", schema.get("oneOf"))
    if some:
        return " or ".join(dict.fromkeys(type_of(one) for one in some))
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "anything"))
    if kind == "array" and schema.get("prefixItems"):
        return "list of " + " and ".join(type_of(one) for one in schema["prefixItems"])
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}" + bounds(schema)
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {type_of(schema['additionalProperties'])}"
    return kind.replace("null", "none") + bounds(schema)


def bounds(schema: Mapping[str, Any]) -> str:
    """What a value may be: ` (1 to 200 characters)`, ` (more than 0, at most 1)`."""
    told = [
        span(schema.get(f"min{what}"), schema.get(f"max{what}"), unit)
        for what, unit in (("Length", " characters"), ("Items", " items"))
    ]
    told.append(span(schema.get("minimum"), schema.get("maximum"), ""))
    told += [
        f"{words} {plain(schema[name])}"
        for name, words in (("exclusiveMinimum", "more than"), ("exclusiveMaximum", "less than"))
        if name in schema
    ]
    some = [one for one in told if one]
    return f" ({', '.join(some)})" if some else ""


def span(least: float | None, most: float | None, unit: str) -> str:
    """A range in words; where only one end is given, that one."""
    if least is not None and most is not None:
        return f"{plain(least)} to {plain(most)}{unit}"
    if least is not None:
        return f"at least {plain(least)}{unit}"
    return f"at most {plain(most)}{unit}" if most is not None else ""


def plain(number: float) -> str:
    """A number as people write it: 1.0 as 1, 31536000 as it is."""
    return str(int(number)) if float(number).is_integer() else str(number)


def anchor(heading: str) -> str:
    """The anchor of a heading, as the site and code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]


# Commands


def commands_page() -> str:
    """Every command with its arguments, options and example."""
    every = commands()
    rows = [
        (f"[`baton {name}`](#{anchor(f'baton {name}')})", first_sentence(one.help or ""))
        for name, one in every.items()
    ]
    return page(
        "Commands",
        "`baton --help` lists them; in a checkout, `.venv/bin/baton`. Exit status 0 means done;\n"
        "anything else comes with a message that says what to do.\n",
        table(("command", "does"), rows),
        *(command_section(name, one) for name, one in every.items()),
    )


def commands() -> dict[str, TyperCommand]:
    """Every command under its full name, such as `key create`."""
    found: dict[str, TyperCommand] = {}

    def walk(prefix: str, group: TyperGroup) -> None:
        for name, command in group.commands.items():
            full = f"{prefix}{name}"
            if isinstance(command, TyperGroup):
                walk(f"{full} ", command)
            elif isinstance(command, TyperCommand):
                found[full] = command

    top = get_command(baton)
    assert isinstance(top, TyperGroup)
    walk("", top)
    return found


def command_section(name: str, command: TyperCommand) -> str:
    parts = [f"## baton {name}\n", f"{prose(command.help or '')}\n"]
    example = (command.epilog or "").partition("Example:")[2].strip()
    if example:
        parts.append(f"```sh\n{example}\n```\n")
    rows = [parameter_row(one) for one in command.params if one.name != "help"]
    if rows:
        parts.append(table(("argument or option", "default", "says"), rows))
    return "\n".join(parts)


def parameter_row(parameter: Any) -> tuple[str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    names = (
        [parameter.name.upper()] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    )
    default = parameter.default
    shown = "" if default in (None, False, "", ()) or callable(default) else f"`{default}`"
    return (
        ", ".join(f"`{one}`" for one in names),
        "required" if parameter.required else shown,
        prose(getattr(parameter, "help", None) or ""),
    )


def prose(text: str) -> str:
    """A help text as Markdown: its own marks for the terminal taken off."""
    return re.sub(r"\[/?(?:bold|dim|b|i|cyan|green)\]", "", text).replace("\f", "").strip()


# Settings and policy


def settings_page() -> str:
    rows = [
        (
            f"`{one.metadata['variable']}`",
            f"`{one.default}`" if str(one.default) else "",
            one.metadata["unit"],
            one.metadata["sentence"],
        )
        for one in fields(Settings)
    ]
    return page(
        "Settings",
        "Read once from the environment when a process starts. What decides is not set here:\n"
        "that is the workspace's [policy](policy.md), which can be changed while Baton runs.\n",
        table(("variable", "default", "unit", "sets"), rows),
    )


def policy_page() -> str:
    """Every part of the policy with its type, bounds and default."""
    schema = Policy.model_json_schema()
    parts = schema["$defs"]
    rules = [
        (
            f"`{rule.name}`",
            f"`{rule.watches}`",
            f"{rule.at_least:g}",
            rule.action,
            rule.team or "",
            str(rule.priority),
            "yes" if rule.name in PROTECTED else "",
        )
        for rule in default_rules()
    ]
    bars = Policy().thresholds
    return page(
        "The policy",
        "What follows from a probability: `GET`, `PUT` and `POST .../preview` under\n"
        "[`/v1/policy`](routes.md#get-v1policy). How to choose the values:\n"
        "[setting the policy](../guides/policy.md).\n",
        shape_section("Policy", schema),
        *(shape_section(name, parts[name]) for name in sorted(parts)),
        "## Default rules\n",
        table(("rule", "watches", "at least", "action", "team", "priority", "protected"), rules),
        "A protected rule always escalates and cannot be switched off.\n",
        "## What a rule can watch\n",
        table(
            ("name", "reads"),
            [
                (
                    ", ".join(f"`{name}`" for name in READINGS),
                    "what the conversation's state holds",
                ),
                ("`topic:NAME`", f"1 if the message is about it: {', '.join(TOPICS)}"),
                ("`says:WORDS`", "1 if the message holds these words, one after another"),
            ],
        ),
        "## Thresholds\n",
        f"With the defaults a person is offered from a probability of {bars.offer:.3f} and called "
        f"from {bars.escalate:.3f}.\n",
    )


def main() -> None:
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
