"""Cues: the few words by which any conversation says no, asks for a change, thanks or gives up.

A customer who turns down what was offered, corrects it or asks for another one is on the way to a
person long before they say so. These lists let a fresh model see that from its first lesson; the
words themselves are learned besides, so a word that is missing here costs little. Data, not code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CUES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(listed.split())
        for name, listed in {
            "denial": (
                "no not nope nah never none don't doesn't didn't can't won't isn't haven't wasn't "
                "cannot dont didnt cant nein nicht kein keine non pas aucun ne "
                "tampoco nunca não nem nunca niet geen nee nie нет не nooit 不 没 別 无"
            ),
            "change": (
                "instead actually rather wait change changed different wrong "
                "mistake stattdessen anders falsch plutôt autre faux en lugar cambiar diferente "
                "mal vez mudar errado invece cambiare sbagliato anders fout вместо 换 改 错 違"
            ),
            "more": (
                "another else other others more alternatives again alternative "
                "weitere nochmal wieder encore otro otra más outra outro mais altro ancora nog "
                "ещё другой 再 还 另 他"
            ),
            "assent": (
                "yes yeah yep sure ok okay fine right perfect great good sounds works cool awesome "
                "ja gut genau oui bien parfait sí vale claro bueno sim bom perfeito sì bene goed "
                "да хорошо 好 对 行 是"
            ),
            "thanks": "thanks thank thx appreciate helpful danke merci gracias obrigado obrigada "
            "grazie bedankt dank спасибо 谢 謝",
            "closing": "bye goodbye goodnight later tschüss adieu adiós tchau ciao doei пока",
            "failure": (
                "sorry unfortunately unable unsuccessful failed error couldn't apologize apologies "
                "apology leider fehler entschuldigung désolé erreur malheureusement lo "
                "siento desculpe erro scusa purtroppo helaas извините 歉 抱"
            ),
            "confusion": "huh pardon understand confused sense repeat clarify explain verstehe "
            "comprends entiendo entendo capisco begrijp понимаю 懂 解",
            "question": "?",
        }.items()
    }
)
"""Name to words as `learning.text.similarity` writes them."""

_NAMES: dict[str, frozenset[str]] = {
    word: frozenset(name for name, listed in CUES.items() if word in listed)
    for listed in CUES.values()
    for word in listed
}


def cues(words: frozenset[str]) -> tuple[str, ...]:
    """The names of the cues that a message gives, in the order of CUES."""
    found = _NAMES.keys() & words
    if not found:
        return ()
    names = frozenset().union(*[_NAMES[word] for word in found])
    return tuple([name for name in CUES if name in names])
