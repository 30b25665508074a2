"""Confusable letters (Unicode TR 39): a word of two scripts, or of styled letters, made plain.

Only words that mix scripts are changed, and only where all their letters can be; each character
becomes one character, so offsets stay.
"""

from __future__ import annotations

import re
import unicodedata

_CYRILLIC = "аАсСеЕоОрРхХуУіІјЈѕЅԁһвВнНкКмМтТӏԛԝп"
_CYRILLIC_LATIN = "aAcCeEoOpPxXyYiIjJsSdhbBhHkKmMtTlqwn"
_GREEK = "αΑΒεΕΗιΙκΚΜνΝοΟρΡτΤυΥχΧΖγω"
_GREEK_LATIN = "aABeEHiIkKMvNoOpPtTuYxXZyw"
_SMALL = "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡıƖ"
_SMALL_LATIN = "abcdefghijklmnoprstuvwyzagil"
TO_LATIN = str.maketrans(_CYRILLIC + _GREEK, _CYRILLIC_LATIN + _GREEK_LATIN)
TO_CYRILLIC = str.maketrans("aAcCeEoOpPxXyYBHkKMT", "аАсСеЕоОрРхХуУВНкКМТ")
_STYLED = re.compile(
    "[" + re.escape(_SMALL) + "\u24b6-\u24e9\U0001f110-\U0001f189\U0001f1e6-\U0001f1ff]"
)
_OTHER = re.compile("[\u0370-\u03ff\u0400-\u052f]")
_LATIN = re.compile("[A-Za-z]")
_WORD = re.compile(r"[^\W\d_]+")
_SMALL_LETTERS = str.maketrans(_SMALL, _SMALL_LATIN)


def plain_letters(text: str) -> str:
    """A text with its look-alike and styled letters as plain ones, character by character."""
    if _STYLED.search(text):
        text = _STYLED.sub(lambda match: _base(match.group()), text)
    if _OTHER.search(text) and _LATIN.search(text):
        text = _WORD.sub(lambda match: _one_script(match.group()), text)
    return text


def _base(letter: str) -> str:
    small = letter.translate(_SMALL_LETTERS)
    name = unicodedata.name(letter, "") if small == letter else ""
    last = name.rsplit(" ", 1)[-1]
    return last.lower() if len(last) == 1 else small


def _one_script(word: str) -> str:
    if not (_OTHER.search(word) and _LATIN.search(word)):
        return word
    latin = word.translate(TO_LATIN)
    if not _OTHER.search(latin):
        return latin
    cyrillic = word.translate(TO_CYRILLIC)
    return word if _LATIN.search(cyrillic) else cyrillic
