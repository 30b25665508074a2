"""Message templates: the words that a bot may show when a person is in danger, is offered one, or
will be called back.

Baton has words of its own in fifteen languages; a policy may put others in their place. Nothing of
Baton's own names a helpline: which one is right depends on the place, and only a policy knows it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from learning.decision.policy_document import PolicyDocument
from learning.text.language import base_of

Kind = Literal["crisis", "offer", "callback"]

CHARS_MAX = 1000


def _can_be_shown(text: str) -> str:
    if not text.strip():
        raise ValueError("says nothing; leave the language out for Baton's own words")
    if any(character < " " and character != "\n" for character in text):
        raise ValueError("must not contain control characters but line breaks")
    return text


Tag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Template = Annotated[str, Field(max_length=CHARS_MAX), AfterValidator(_can_be_shown)]
ByLanguage = Annotated[dict[Tag, Template], Field(max_length=60)]


class WordsToShow(PolicyDocument):
    """Words of a workspace by language tag, in place of Baton's own."""

    crisis: Annotated[
        ByLanguage,
        Field(
            description="Where a person is in danger; name your helpline here.",
            examples=[{"en": "Please call 112 now. A colleague is joining us."}],
        ),
    ] = {}
    offer: Annotated[ByLanguage, Field(description="Where a person is offered.")] = {}
    callback: Annotated[
        ByLanguage, Field(description="Where a person comes later: nobody is there now.")
    ] = {}

    def text(self, kind: Kind, language: str | None) -> str:
        """The words of a kind in a language: those of its tag, of its base, Baton's, or English."""
        own: Mapping[str, str] = getattr(self, kind)
        defaults = default_words()[kind]
        base = base_of(language) or "en"
        for words in (own.get(language or ""), own.get(base), defaults.get(base), own.get("en")):
            if words:
                return words
        return defaults["en"]


@cache
def default_words() -> Mapping[str, Mapping[str, str]]:
    """Baton's own words, by kind and language."""
    text = (resources.files("learning.decision.words") / "words.toml").read_text(encoding="utf-8")
    words: Mapping[str, Mapping[str, str]] = tomllib.loads(text)
    return words
