"""Dialogue acts about a handover: the bot offers or promises a person, the customer agrees or waits.

"Would you like to talk to a colleague?" "yes" is a request in words that say nothing by themselves,
and so is "hello? anyone?" after "I am transferring you". Only short messages are asked, and only
then the bot's last turns are read, so that all other conversations pay nothing. Data, not code:
beginnings of folded words, in fifteen languages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from learning.text.tokens import compact, fold, tokens, unspaced

CONSENT_WORDS_MAX = 6
"""Longer answers speak for themselves."""
QUESTION_WORDS_MAX = 3
"""A question of more words asks for something else: "ok, how much is it?"."""
WAITING_WORDS_MAX = 16

_PERSON = (
    "human person people agent representative operator colleague teammate staff advisor adviser specialist "
    "supervisor manager someone somebody technician expert support employee team "
    "persona humano humana agente asesor operador companer alguien representante especialista supervisor equipo "
    "encargad empleado pessoa atendente alguem colega funcionari equipe time conseiller humain quelqu collegue "
    "operateur technicien equipe responsable mensch mitarbeiter kolleg jemand berater ansprechpartner "
    "operatore operatrice addett collega qualcuno consulente umano medewerker iemand mens adviseur "
    "konsultant pracowni kolega kolezank czlowiek ktos doradc kims temsilci insan yetkili arkadas uzman biri "
    "danisman calisan оператор сотрудник коллег специалист человек менеджер консультант кто موظف زميل انسان شخص "
    "ممثل احد وكيل مختص مستشار एजट इसान परतिनिधि सहकरमी विशेषज्ञ कर्मचारी एजेंट इंसान प्रतिनिधि सहकर्मी agent insaan"
)
_MOVE = (
    "talk speak chat connect transfer hand pass put forward bring get fetch escalat refer reach contact call "
    "hablar paso pasar pase comunic conect transfer deriv contact llam hable atiend falar passar passo transf "
    "encaminh conect cham convers parler mettre mets met passe transfer contact mettr rappel appel relation transmet "
    "sprech verbind durchstell weiterleit leite stelle gebe weiter hole meldet reden ubergeb vermittel "
    "parlare metta passo passare passi trasfer contatt colleg chiam inoltr doorverbind verbind spreken halen haal "
    "overdrag doorzet schakel geef polacz przelacz przekaz przekier rozmaw porozmaw skontakt bagl aktar yonlendir "
    "gorus konus iletisim devred соедин переключ подключ перевед перевож передам передаю позов поговорить "
    "связ свяж تحويل احول احولك ساحول اوصل توصيل التحدث تتحدث التواصل يتواصل جوड कनेक्ट ट्रांसफर बात जोड़ jod baat"
)
_APART = {
    "person": "同事|人工|真人|客服|专员|專員|工作人员|工作人員|经理|經理|担当|スタッフ|オペレーター|係の者|人間|係員|担当者|상담원|상담사|직원|담당자|사람|매니저|동료",
    "move": "转|轉|接|联系|聯繫|联络|处理|處理|おつなぎ|お繋ぎ|つな|繋|代わ|引き継|転送|お話|話し|呼び|연결|전환|바꿔|통화|상담|이야기|전달|넘겨|돌려",
}
_CONSENT = frozenset(
    fold(word)
    for word in [
        "yes",
        "yep",
        "yeah",
        "yup",
        "ya",
        "sure",
        "ok",
        "okay",
        "okey",
        "yes+please",
        "definitely",
        "absolutely",
        "k",
        "y",
        "of+course",
        "si",
        "claro",
        "vale",
        "dale",
        "bueno",
        "porfa",
        "perfecto",
        "sim",
        "claro",
        "beleza",
        "isso",
        "aceito",
        "oui",
        "ouais",
        "volontiers",
        "daccord",
        "dac",
        "ja",
        "jo",
        "gerne",
        "klar",
        "jawohl",
        "okay",
        "jep",
        "gern",
        "certo",
        "volentieri",
        "perfetto",
        "prima",
        "tak",
        "jasne",
        "chetnie",
        "dobrze",
        "pewnie",
        "evet",
        "olur",
        "tamam",
        "tabii",
        "elbette",
        "да",
        "давайте",
        "давай",
        "конечно",
        "ага",
        "подключайте",
        "подключай",
        "хорошо",
        "نعم",
        "اي",
        "ايوه",
        "ايوا",
        "تمام",
        "طيب",
        "اكيد",
        "موافق",
        "يا",
        "हा",
        "हां",
        "हाँ",
        "जी",
        "ठीक",
        "हाजी",
        "haan",
        "han",
        "ji",
        "theek",
        "thik",
        "हां+जी",
        "ok",
        "1",
        "2",
        "3",
    ]
)
_BEGINNINGS = frozenset(
    map(
        fold,
        [
            "please",
            "pls",
            "do",
            "go",
            "favor",
            "svp",
            "plait",
            "bitte",
            "quero",
            "pode",
            "va",
            "graag",
            "doe",
            "poprosze",
            "prosze",
            "lutfen",
            "isterim",
            "хочу",
            "можно",
            "пожалуйста",
        ],
    )
)
"""Words that say yes by themselves, but begin other sentences as well."""
_COMPLETIONS = frozenset(
    map(
        fold,
        [
            "it",
            "that",
            "so",
            "ahead",
            "for",
            "on",
            "then",
            "now",
            "ser",
            "bene",
            "maar",
            "bardzo",
            "por",
            "sil",
            "vous",
            "te",
            "das",
        ],
    )
)
"""What may stand beside them in a yes."""
_CONSENT_APART = re.compile(
    r"\.*(?:好|要|可以|是|行|嗯|对|對|麻烦|请|はい|お願い|おねがい|ええ|うん|頼|네|예|응|넵|좋|그래|부탁|연결해)"
)
_REFUSAL = frozenset(
    fold(word)
    for word in [
        "no",
        "not",
        "nope",
        "nah",
        "dont",
        "never",
        "later",
        "nothing",
        "nein",
        "nicht",
        "kein",
        "keine",
        "non",
        "pas",
        "nao",
        "nunca",
        "nunca",
        "nee",
        "niet",
        "hoeft",
        "nie",
        "hayir",
        "yok",
        "istemiyorum",
        "gerek",
        "нет",
        "не",
        "لا",
        "नही",
        "नहीं",
        "nahi",
        "mat",
        "but",
        "aber",
        "pero",
        "mas",
        "mais",
        "ma",
        "maar",
        "ale",
        "ama",
        "но",
    ]
)
_REFUSAL_APART = re.compile("不|没|別|别|いいえ|いや|結構|大丈夫|いらない|아니|괜찮|필요")
_WAITING = re.compile(
    r" (?:(?:still|been) (?:waiting|here)|waiting|anyone|anybody|any ?one there|nobody|no one|noone|where (?:is|are|s)"
    r"|wheres|how long|is (?:he|she|someone|anyone|your|my|the)|when (?:will|is|does)|coming or not|hello|sigo|esperando"
    r"|nadie|hay alguien|cuando|sigue|ninguem|alguem ai|esperando|cade|aguardando|demora|personne|j attends|attends"
    r"|toujours|y a quelqu|il y a quelqu|alors|warte|wartet|niemand|keiner|keine[rn]? da|noch da|jemand da|wo bleibt"
    r"|wann|nessuno|aspett\w*|c e qualcuno|ancora|quando|wacht|wachten|niemand|iemand|waar blijft|nikt|nikogo|czekam"
    r"|gdzie|kiedy|halo|hala|bekliyor\w*|kimse|nerede|orada misiniz|gelen|жду|ждать|никого|никто|где|когда|алло"
    r"|ау|انتظر|انتظار|لا احد|ما في حد|وين|اين|متى|الو|इतजार|इंतज़ार|इंतजार|कोई|कब|कहा|koi|kab|kahan|intezar|hallo"
    r"|hola|ola|bonjour|ciao|merhaba|alo|allo)(?= |$)"
)
_WAITING_APART = re.compile(
    "等|没人|沒人|人呢|在吗|在嗎|还没|還沒|多久|まだ|待って|いつ|誰も|もしもし|来ない|来ません|아무도|아직|기다|언제|안 ?오|안오|여보세요|계세요"
)
_MENU = re.compile(r"(?:^|\n|\s)\W{0,2}([1-9])\W{1,3}([^\n]{2,80}?)(?=\s\W{0,2}[1-9]\W{1,3}|\n|$)")
_AUTOMATIC = re.compile(
    r"out of (?:the )?office|auto(?:matic|mated)?[ -]?(?:reply|response|antwort)|i am (?:currently )?(?:away|on (?:leave|vacation|holiday))"
    r"|abwesenheit|nicht im büro|respuesta automática|fuera de la oficina|resposta automática|fora do escritório"
    r"|réponse automatique|absent(?:e)? du bureau|risposta automatica|fuori ufficio|automatisch antwoord|afwezig"
    r"|automatyczna odpowiedź|poza biurem|otomatik yanıt|ofis dışında|автоответ|автоматический ответ|отпуске"
    r"|رد تلقائي|رد آلي|स्वचालित उत्तर|自動返信|不在にして|자동 ?(?:응답|회신)|부재 ?중|自动回复|自動回覆|thank(?:s| you) for (?:your (?:message|mail|email)|contacting)",
    re.IGNORECASE,
)


@cache
def _stems(listed: str) -> re.Pattern[str]:
    words = sorted({stem for stem in tokens(listed).words if len(stem) > 2}, key=len, reverse=True)
    return re.compile(" (?:" + "|".join(map(re.escape, words)) + ")")


def names_person(bot_text: str) -> bool:
    """Whether the bot's turn speaks of bringing in a person: it offers or promises one."""
    split = tokens(bot_text)
    if unspaced(bot_text):
        joined = compact(split.words)
        return all(re.search(pattern, joined) for pattern in _APART.values())
    return any(
        _stems(_PERSON).search(clause) and _stems(_MOVE).search(clause)
        for clause in f" {' '.join(split.words)} ".split(" . ")
        for clause in (f" {clause} ",)
    )


def offers_person(bot_text: str) -> bool:
    """Whether the bot asks the customer whether a person is wanted."""
    return any(mark in bot_text for mark in "?？؟") and names_person(bot_text)


def promises_person(bot_text: str) -> bool:
    """Whether the bot says that a person comes."""
    last = re.split(r"(?<=[.!。！])\s*", bot_text)
    return any(
        part and not part.rstrip().endswith(("?", "？", "؟")) and names_person(part)
        for part in last
    )


def consents(text: str, bot_text: str) -> bool:
    """Whether a short answer says yes, or picks the number under which the bot lists a person."""
    if len(text) > 60:
        return False
    split = tokens(text)
    said = [word for word in split.words if word not in ".,"]
    if not said or len(said) > CONSENT_WORDS_MAX:
        return False
    if unspaced(text):
        joined = compact(split.words)
        return bool(_CONSENT_APART.match(joined)) and not _REFUSAL_APART.search(joined)
    if len(said) == 1 and said[0].isdigit():
        rows = dict(_MENU.findall(bot_text))
        return names_person(rows[said[0]] + " transfer") if said[0] in rows else said[0] == "1"
    if not _REFUSAL.isdisjoint(said) or ("?" in text and len(said) > QUESTION_WORDS_MAX):
        return False
    return not _CONSENT.isdisjoint(said[:2]) or _is_go_ahead(said)


def _is_go_ahead(said: Sequence[str]) -> bool:
    """Whether an answer is nothing but words that say yes together and begin other sentences, too:
    "do it", "please do", but not "do you ship to norway".
    """
    return not _BEGINNINGS.isdisjoint(said) and _BEGINNINGS.union(_COMPLETIONS).issuperset(said)


def waits(text: str) -> bool:
    """Whether a customer asks where the promised person is."""
    if len(text) > 160:
        return False
    split = tokens(text)
    if unspaced(text):
        return bool(_WAITING_APART.search(compact(split.words)))
    said = [word for word in split.words if word not in ".,"]
    return 0 < len(said) <= WAITING_WORDS_MAX and bool(_WAITING.search(f" {' '.join(said)} "))


def automatic(text: str) -> bool:
    """Whether a message is the customer's own auto-reply."""
    return bool(_AUTOMATIC.search(text[:400]))
