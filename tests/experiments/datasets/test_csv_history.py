"""History from CSV: a message a row, columns by a mapping, all bad rows told at once."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets.csv_history import AUTHORS, ERRORS_MAX, CsvMapping, convert
from experiments.datasets.episode import StreamError
from experiments.datasets.streams import Episode, read

PLAIN = """conversation_id,author,text,at,verdict,first_needed,escalated
c1,customer,where is my parcel,2026-11-28T09:30:00Z,,,
c2,Visitor,hello,1764322200,fine,,
c1,bot,here is our page,2026-11-28T09:31:00Z,,,
c1,customer,I want a person,2026-11-28T09:32:00Z,needed,1,x
"""


def episodes(
    text: str, folder: Path, *columns: str, authors: tuple[str, ...] = ()
) -> list[Episode]:
    source, into = folder / "history.csv", folder / "history.jsonl"
    source.write_text(text, encoding="utf-8")
    count = convert(source, into, CsvMapping.parse(columns, authors))
    found = list(read(into, "baton"))
    assert len(found) == count
    return found


def refused(text: str, folder: Path, *columns: str) -> str:
    with pytest.raises(StreamError) as refusal:
        episodes(text, folder, *columns)
    return str(refusal.value)


def test_rows_become_conversations_with_their_lessons(tmp_path: Path) -> None:
    first, second = episodes(PLAIN, tmp_path)
    assert (first.id, second.id) == ("c1", "c2")
    assert [(one.author, one.text) for one in first.messages] == [
        ("user", "where is my parcel"),
        ("bot", "here is our page"),
        ("user", "I want a person"),
    ]
    assert first.messages[1].at - first.messages[0].at == 60.0
    assert first.labels == ((0, 0.0), (2, 1.0))
    assert second.labels == ((0, 0.0),)


def test_columns_and_words_are_named_by_a_mapping(tmp_path: Path) -> None:
    text = 'Ticket;Role;Body\n7;Requester;"one;\ntwo"\n7;Desk;hello\n'
    columns = ("conversation_id=ticket", "author=Role", "text=Body")
    (only,) = episodes(text, tmp_path, *columns, authors=("Requester=user", "Desk=agent"))
    assert [(one.author, one.text) for one in only.messages] == [
        ("user", "one;\ntwo"),
        ("agent", "hello"),
    ]


def test_all_bad_rows_are_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    text = (
        "conversation_id,author,text,id,at,verdict,first_needed\n"
        ",user,a,,,,\n"
        "c,Zed,a,,,,\n"
        "c,user,a,m,,,\n"
        "c,user,b,m,,,\n"
        "c,user,c,,yesterday,,\n"
        "c,user,d,,,maybe,\n"
        "c,user,e,,,fine,\n"
        "c,user,f,,,missed,\n"
        "c,user,g,,,,perhaps\n"
        "d,user,h,,,,1\n"
    )
    told = refused(text, tmp_path)
    lines = told.splitlines()
    assert lines[0].endswith("8 bad rows")
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"line {number}" for number in (2, 3, 5, 6, 7, 9, 10, 11)
    ]
    for part in ("--author Zed=user", "on line 4, too", "2026-11-28T09:30:00Z", "fine on line 8"):
        assert part in told
    assert not (tmp_path / "history.jsonl").exists()


def test_of_very_many_bad_rows_the_rest_is_counted(tmp_path: Path) -> None:
    text = "conversation_id,author,text\n" + "c,nobody,x\n" * (ERRORS_MAX + 5)
    lines = refused(text, tmp_path).splitlines()
    assert (len(lines), lines[-1]) == (ERRORS_MAX + 2, "and 5 more")


@pytest.mark.parametrize(
    "text,columns,part",
    [
        ("", (), "no column 'conversation_id'"),
        ("conversation_id,author\nc,user\n", (), "'text' for text"),
        ("conversation_id,author,text\n", (), "holds no message"),
        ("conversation_id,author,text\n", ("at=When",), "'When' for at"),
        ("a,b,c\n", ("x=a",), "a field is one of"),
        ("a,b,c\n", ("x",), "write it as name=value"),
        ('conversation_id,author,text\nc,user,"a"b\n', (), "is no CSV"),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_told(
    text: str, columns: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    assert part in refused(text, tmp_path, *columns)


def test_a_file_that_is_not_there_or_no_utf_8_is_told(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="no such file"):
        convert(tmp_path / "none.csv", tmp_path / "out", CsvMapping())
    (tmp_path / "latin.csv").write_bytes(
        "conversation_id,author,text\nc,user,gr\xfc\xdfe\n".encode("latin-1")
    )
    with pytest.raises(StreamError, match="UTF-8"):
        convert(tmp_path / "latin.csv", tmp_path / "out", CsvMapping())


_TEXTS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r"), max_size=20
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["c1", "c2"]), st.sampled_from(sorted(AUTHORS)), _TEXTS),
        min_size=1,
        max_size=12,
    )
)
def test_any_text_comes_through_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("conversation_id", "author", "text"), *rows])
    folder = tmp_path_factory.mktemp("csv")
    (folder / "history.csv").write_bytes(file.getvalue().encode())
    convert(folder / "history.csv", folder / "out.jsonl", CsvMapping())
    found = {one.id: one.messages for one in read(folder / "out.jsonl", "baton")}
    for name, messages in found.items():
        expected = [(AUTHORS[author], text) for place, author, text in rows if place == name]
        assert [(one.author, one.text) for one in messages] == expected
