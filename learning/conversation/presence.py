"""Presence of a person in a conversation (human takeover), read from its turns.

An agent who speaks has it, and so has one to whom another system says it was assigned: by the
`event` of a system turn, or by its words, for many systems only write "Conversation assigned to
Ana". The same systems write when it was given back to the bot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from learning.conversation.state import Message

TEXT_CHARS_MAX = 200
"""A longer system turn is no such note."""

_GIVEN_BACK = re.compile(
    r"(?:return|give|given|hand|transfer|assign)\w* (?:it )?(?:back )?(?:to|over to) (?:the )?"
    r"(?:chat ?)?bot|\bunassigned\b|left the (?:chat|conversation)|back (?:to|with) the bot|"
    r"an den (?:chat)?bot (?:zur|über)|zur.{0,8} (?:an den|zum) (?:chat)?bot|verlassen|"
    r"(?:devuelt|retorn|transferid|regresad)\w* al bot|ha salido|dej[oó] (?:el|la) (?:chat|conv)|"
    r"(?:devolvid|retornad)\w* (?:ao|para o) (?:ro)?bot|saiu d[ao]|"
    r"(?:rendue?|retourn\w*|repass\w*|remise?) au (?:ro)?bot|a quitté|"
    r"(?:restituit|tornat|riconsegnat)\w* al bot|ha lasciato|terug ?(?:gegeven )?(?:aan|naar) de "
    r"(?:chat)?bot|heeft (?:het gesprek|de chat) verlaten|(?:zwr[óo]c|odda|przekaza|wr[óo]c)\w* "
    r"(?:do )?bot|bot'?a (?:geri|iade|devredildi)|"
    r"(?:возвращ|вернул|передан)\w* боту?|ボットに(?:戻|返)|봇(?:으로|에게) ?(?:돌|반환|복귀)|"
    r"(?:交还|转回|返回)(?:给)?机器人|إلى (?:الروبوت|البوت)|बॉट को (?:वापस|लौटा)",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"\b(?:re)?assigned (?:this )?(?:\w+ )?to (?!the (?:chat ?)?bot\b|nobody|no one|unassigned)|"
    r"\bjoined the (?:chat|conversation)|\b(?:took|taken|takes) (?:it |this )?over\b|"
    r"\bis (?:now )?handling|zugewiesen|zugeteilt|\bübern(?:immt|ommen|ahm)|beigetreten|"
    r"asignad[oa]s? a\b|se (?:ha unido|uni[óo]) a|ha tomado la conv|"
    r"atribu[ií]d[oa]s? (?:a|ao|para)\b|entrou n[ao] (?:conversa|chat)|assumiu|"
    r"(?:attribu|assign|affect)ée? à|a rejoint|a pris (?:en charge|la conv)|"
    r"assegnat[oa] a|è entrat[oa]|ha preso in carico|toegewezen aan|neemt (?:het|dit) over|"
    r"deelgenomen|przypisan[oaey]|przej[ęąmu]\w*|dołączył|atand[ıi]|devraldı|katıldı|"
    r"назначен|присоединил|(?:принял|взял)\w* (?:в работу|диалог|чат)|"
    r"割り当て|担当(?:になり|します|に変更)|参加しました|引き継|배정|할당|담당자로 지정|참여했|"
    r"(?:已|被)?(?:分配|指派|转接)给|加入(?:了)?(?:会话|对话|聊天)|接管|"
    r"(?:تعيين|إسناد|أسندت|تحويل).{0,20} إلى (?!(?:الروبوت|البوت))|انضم|"
    r"(?:को|का) (?:सौंप|असाइन)|शामिल ह",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Presence:
    """What turns say of a person: `here` by name where it is known, or `gone` (to the bot)."""

    kind: Literal["here", "gone"]
    agent: str | None = None


def presence(turns: Sequence[Message], now: float, recent_seconds: float) -> Presence | None:
    """Who has the conversation after these turns; None where they say nothing of it.

    A bot that speaks after an agent has it again, and an agent who spoke long ago is not there; an
    assignment holds until it is taken back.
    """
    spoken: Presence | None = None
    assigned: Presence | None = None
    for turn in turns:
        if turn.author == "agent" and now - turn.at < recent_seconds:
            spoken = Presence("here", turn.agent)
        elif turn.author == "bot":
            spoken = None
        elif turn.author == "system":
            note = _note(turn)
            if note is not None:
                spoken, assigned = None, note
    return spoken or assigned


def _note(turn: Message) -> Presence | None:
    """What a turn of another system says of a person."""
    if turn.event == "assigned":
        return Presence("here", turn.agent)
    if turn.event == "unassigned":
        return Presence("gone")
    if turn.event is not None or len(turn.text) > TEXT_CHARS_MAX:
        return None
    if _GIVEN_BACK.search(turn.text):
        return Presence("gone")
    return Presence("here", turn.agent) if _ASSIGNED.search(turn.text) else None
