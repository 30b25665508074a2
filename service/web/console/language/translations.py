"""Translations of the console: gettext catalogues, one file a language, and the one in force.

English stands in the code; every other language is a file of `catalogues`, read once. Which one is
in force belongs to the request: what runs beside it, such as a read in another thread, is worded
when its page is rendered.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

CATALOGUES = Path(__file__).parent / "catalogues"
SOURCE = "en"
"""The language in which the code is written."""

TAGS_MAX = 20
"""Of a longer Accept-Language the rest is not read."""

_current: ContextVar[str] = ContextVar("language", default=SOURCE)


@dataclass(frozen=True, slots=True)
class Language:
    """A language of the console. `script` is what pages' scripts need of it, as JavaScript, and
    `digest` that script's.
    """

    code: str
    locale: Locale
    texts: NullTranslations
    script: str
    digest: str

    @property
    def name(self) -> str:
        """Its own name for itself."""
        return str(self.locale.get_display_name() or self.code).capitalize()


@cache
def languages() -> Mapping[str, Language]:
    """Every language that there is, English first."""
    found = {SOURCE: _language(Catalog(locale=SOURCE), NullTranslations())}
    for path in sorted(CATALOGUES.glob("*.po")):
        with path.open("rb") as file:
            catalogue = read_po(file, locale=path.stem)
        compiled = io.BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        found[path.stem] = _language(catalogue, GNUTranslations(compiled))
    return found


def _language(catalogue: Catalog, texts: NullTranslations) -> Language:
    words = {
        message.id: message.string
        for message in catalogue
        if message.id and any(name.endswith(".js") for name, _line in message.locations)
    }
    script = f'"use strict";\nglobalThis.words = {json.dumps(words, ensure_ascii=False)};\n'
    digest = hashlib.sha256(script.encode()).hexdigest()[:16]
    assert catalogue.locale is not None
    return Language(str(catalogue.locale), catalogue.locale, texts, script, digest)


def current() -> Language:
    """The language in force."""
    return languages()[_current.get()]


def is_source() -> bool:
    """Whether texts are shown as the code has them."""
    return _current.get() == SOURCE


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """A language in force until the block ends."""
    token = _current.set(code)
    try:
        yield
    finally:
        _current.reset(token)


def choose(chosen: str | None, accepted: str) -> str:
    """The language that somebody chose; else the first that their browser accepts and there is."""
    there = languages()
    if chosen is not None and chosen in there:
        return chosen
    return negotiate_locale(list(_tags(accepted)), list(there), sep="-") or SOURCE


def _tags(accepted: str) -> Iterator[str]:
    """The tags of an Accept-Language header, the most wished for first."""
    wishes: list[tuple[float, int, str]] = []
    for part in accepted.split(",")[:TAGS_MAX]:
        tag, _, quality = part.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if tag.strip() and weight > 0:
            wishes.append((-weight, len(wishes), tag.strip()))
    return (tag for _weight, _number, tag in sorted(wishes))


def gettext(message: str) -> str:
    """A text in the language in force."""
    return current().texts.gettext(message)


def ngettext(singular: str, plural: str, number: int) -> str:
    """A text that counts, in the form for this number."""
    return current().texts.ngettext(singular, plural, number)


def pgettext(context: str, message: str) -> str:
    """A text that means something else elsewhere."""
    return current().texts.pgettext(context, message)


def npgettext(context: str, singular: str, plural: str, number: int) -> str:
    """A text that counts and means something else elsewhere."""
    return current().texts.npgettext(context, singular, plural, number)
