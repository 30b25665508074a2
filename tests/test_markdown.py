"""What people write is shown as they wrote it, wherever it stands in what MLflow renders."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from experiments.markdown import plain
from experiments.registry.desk import about_version
from service import story, versions
from tests.service_in_process import serving

PICTURE = "![i](http://elsewhere.example/x.png) <img src=x>"


@given(st.text("ab \\`*_~[]()!<>|&#;\n:/.", max_size=40))
@example(PICTURE)
@example("\\[a link](http://elsewhere.example)")
@example("&lt;b&gt; **bold** `code` _so_")
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    shown = MarkdownIt("commonmark").renderInline(plain(text))
    assert html.unescape(shown) == " ".join(text.split())
    assert "<" not in shown


@pytest.mark.parametrize("reason", [PICTURE, "\\[a](http://elsewhere.example)"])
def test_the_reason_of_a_version_is_no_markup(reason: str) -> None:
    shown = MarkdownIt("commonmark").render(about_version(7, "bayes-1", 9, 6, reason, {}))
    assert "<img" not in shown
    assert "<a" not in shown
    assert html.escape(reason) in shown


def test_who_moved_a_version_and_why_is_no_markup_in_the_story_of_a_workspace(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as service:
        place = service.workspace()
        with service.baton.store.write() as connection:
            versions.promote(connection, place.name, 1, actor=PICTURE, reason="[a](b)")
        with service.baton.store.read() as connection:
            told = story.told(connection, place.name)
    shown = MarkdownIt("commonmark").enable("table").render(told)
    assert "<img" not in shown
    assert "<a" not in shown
    assert shown.count(html.escape(PICTURE)) == 2
