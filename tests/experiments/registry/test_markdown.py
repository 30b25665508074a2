"""What people write is shown as they wrote it, wherever it stands in what MLflow renders."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.markdown import Markdown

from experiments.registry.descriptions import about_version
from experiments.registry.markdown import plain
from service.versions import switches
from service.versions.mlflow import description
from tests.service_in_process import serving

NO_WIDTH = "\u200b"
BARE_ADDRESS = re.compile(r"(?:https?|ftp)://\w|www\.\w|[\w.+-]@[\w-]+\.\w", re.IGNORECASE)
PICTURE = "![i](http://elsewhere.example/x.png) <img src=x>"


def shown(markdown: str) -> tuple[str, set[str]]:
    """What a reader sees, and of which kinds of markup it is."""
    inline = [one for one in Markdown(markdown).parsed if one.type == "inline"]
    found = [child for one in inline for child in one.children or ()]
    return "".join(child.content for child in found), {child.type for child in found}


@given(st.text("ab \\`*_~[]()!<>|&#;\n:/.", max_size=40))
@example(PICTURE)
@example("\\[a link](http://elsewhere.example)")
@example("&lt;b&gt; **bold** `code` _so_")
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    seen, kinds = shown(f"by {plain(text)} and")
    assert seen.replace(NO_WIDTH, "") == f"by {' '.join(text.split())} and"
    assert kinds == {"text"}


@pytest.mark.parametrize(
    "text", ["see https://elsewhere.example/x", "WWW.elsewhere.example", "ftp://a.b", "a@b.example"]
)
def test_a_bare_address_is_no_link(text: str) -> None:
    """GitHub's Markdown, which MLflow renders, links what this finds."""
    assert BARE_ADDRESS.search(text)
    assert not BARE_ADDRESS.search(unescape(plain(text)))


@pytest.mark.parametrize("reason", [PICTURE, "\\[a](http://elsewhere.example)"])
def test_the_reason_of_a_version_is_no_markup(reason: str) -> None:
    seen, kinds = shown(about_version(7, "bayes-4", 9, 6, reason, {}))
    assert reason in seen.replace(NO_WIDTH, "")
    assert kinds == {"text"}


def test_who_moved_a_version_and_why_is_no_markup_in_the_story_of_a_workspace(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as service:
        place = service.workspace()
        with service.baton.store.write() as connection:
            switches.promote(connection, place.name, 1, actor=PICTURE, reason="[a](b)")
        with service.baton.store.read() as connection:
            told = description.render_description(connection, place.name)
    seen, kinds = shown(told)
    assert seen.replace(NO_WIDTH, "").count(PICTURE) == 2
    assert not kinds & {"image", "link_open", "html_inline"}
