"""Texts of the console: those that its code gives to the catalogue, and those that it forgot."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from html.parser import HTMLParser
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from jinja2 import Environment, nodes

ROOT = Path(__file__).resolve().parents[2]
CONSOLE = ROOT / "service" / "web" / "console"
TEMPLATES = CONSOLE / "templates"
METHODS = [("**.py", "python"), ("**.js", "javascript"), ("**.html", "jinja2")]
OPTIONS = {"**.html": {"trimmed": "true", "newstyle_gettext": "true"}}

SHOWN = ("alt", "aria-label", "label", "placeholder", "title")
"""Attributes that a reader sees or hears."""

TEXTS = ("_", "gettext", "ngettext", "pgettext", "npgettext")
HOLE = "\0"
_TAG = re.compile(r"<[^>]*>")
_WORD = re.compile(r"^(?![/&]).*[^\W\d_]{2,}", re.DOTALL)
"""Letters, of what is no part of an address."""

SAME = frozenset(
    ("Baton", "·", "kbd", "Ctrl Enter", "Esc", "bk_", "ECE", "curl", "MLflow", "Authorize")
)
"""What is the same in every language."""


def messages() -> Catalog:
    """Every text that the console's code gives to the catalogue."""
    catalogue = Catalog()
    found = extract_from_dir(str(CONSOLE), METHODS, OPTIONS)
    for path, line, message, _comments, context in found:
        catalogue.add(message, locations=[(path, line)], context=context)
    return catalogue


class _Page(HTMLParser):
    """Words that stand in a page's own text, and in attributes that are shown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._plain = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._plain += tag in ("code", "kbd", "script", "style")
        for name, value in attrs:
            if name in SHOWN and value:
                self.found.append(value)

    def handle_endtag(self, tag: str) -> None:
        self._plain -= tag in ("code", "kbd", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._plain:
            self.found.append(data)


def bare_texts(name: str) -> list[str]:
    """English of a template that stands outside of the catalogue."""
    environment = Environment(extensions=["jinja2.ext.i18n"], autoescape=True)
    tree = environment.parse((TEMPLATES / name).read_text())
    page = _Page()
    page.feed("".join(_data(tree)))
    texts = [*page.found, *(_TAG.sub("", text) for text in _constants(tree))]
    words = [part.strip(" ·\n") for text in texts for part in text.split(HOLE)]
    return [word for word in words if _WORD.search(word) and word not in SAME]


def _data(node: nodes.Node) -> Iterator[str]:
    """A template's own text in its order; what is put into it is a hole."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.TemplateData):
            yield child.data
        elif not isinstance(child, nodes.Expr):
            yield from _data(child)
        elif isinstance(node, nodes.Output):
            yield HOLE


def _constants(node: nodes.Node) -> Iterator[str]:
    """Strings in expressions that read like words to be shown, outside of calls for a text."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.Call) and getattr(child.node, "name", "") in TEXTS:
            yield from (text for one in child.kwargs for text in _constants(one))
        elif isinstance(child, nodes.Pair):
            yield from _constants(nodes.Output([child.value]))
        elif isinstance(child, nodes.Compare):
            continue
        elif isinstance(child, nodes.Getitem):
            yield from _constants(nodes.Output([child.node]))
        elif isinstance(child, nodes.Const) and isinstance(child.value, str):
            if re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}|^[A-Z][a-z]{2,}", child.value):
                yield child.value
        else:
            yield from _constants(child)


def made_sentences() -> set[str]:
    """Every string of Baton's own code, each expression in it a hole."""
    found = set()
    for folder in ("service", "learning"):
        for path in (ROOT / folder).rglob("*.py"):
            if path != CONSOLE / "language" / "sentences.py":
                found |= {text for node in ast.walk(_parsed(path)) if (text := _template(node))}
    return found


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _template(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values
        )
    return None


def refusals(*folders: str, besides: Collection[str]) -> Iterator[str]:
    """What refusals of some packages say, messages and hints, holes in them; `besides` codes."""
    kinds = {
        *("Invalid", "NotFound", "Contradiction", "Forbidden", "Unavailable", "Unauthenticated"),
        *("TooManyAttempts", "SchemaMismatch", "WorkspaceBroken"),
    }
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(_parsed(path)):
                name = getattr(getattr(node, "func", None), "id", "")
                if isinstance(node, ast.Call) and name in kinds and node.args:
                    hints = [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
                    if _template(node.args[0]) not in besides:
                        yield from filter(None, map(_template, (*node.args[1:2], *hints)))
