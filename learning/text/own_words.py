"""Reply parsing and markup stripping: a customer's own words, with a map back to what was stored.

Quoted mail, reply headers, forwarded parts, signatures, disclaimers, tags, entities and Markdown
are set aside before a text is read. Every step is one pass over bounded pieces, so any text takes
linear time; the reply and HTML parsers that were tried take seconds on hostile text or give no
offsets. A text without any mark of these is answered as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from itertools import islice, pairwise

FORMATS = ("text", "html", "markdown", "email")
"""What the format of a message may say; where it says nothing the marks are recognised."""

LINES_MAX = 1000
"""A text of more lines is not read as a mail."""
TAGS_MAX = 1000
"""So many tags and entities are read; what follows them stays as it is."""
LINE_CHARS_MAX = 400
"""A longer line is no reply header and no signature."""


@dataclass(frozen=True, slots=True)
class OwnWords:
    """The customer's own words: the `text`, and where each of its characters stands in `stored`
    (None: it is the stored text itself).
    """

    text: str
    stored: str
    places: tuple[int, ...] | None = None

    def quote(self, start: int, stop: int) -> str:
        """The stored text from one character of the own words up to another."""
        if self.places is None:
            return self.stored[start:stop]
        return self.stored[self.places[start] : self.places[stop - 1] + 1]


_MARK = re.compile(r"[<>&\n*_`~\[]")
_LETTER = re.compile(r"[^\W_]")


def own_words(text: str, format: str | None = None) -> OwnWords:
    """What a customer wrote in a message. Pure; where all would be set aside, nothing is."""
    if not _MARK.search(text):
        return OwnWords(text, text)
    pieces = _Pieces(text, range(len(text)))
    if format != "text" and ("<" in text or "&" in text):
        pieces = _without_html(pieces, certain=format == "html")
    if "\n" in pieces.text or ">" in pieces.text:
        pieces = _without_quotes(pieces)
    if format in (None, "markdown", "email"):
        pieces = _without_markdown(pieces)
    if pieces.text == text or not _LETTER.search(pieces.text):
        return OwnWords(text, text)
    return OwnWords(pieces.text, text, tuple(pieces.places))


class _Pieces:
    """A text under reduction, with the stored place of each of its characters."""

    def __init__(self, text: str, places: range | list[int]) -> None:
        self.text = text
        self.places = places

    def keep(self, parts: list[tuple[int, int, str | None]]) -> _Pieces:
        """Some parts of it, in order; a part with a text of its own stands as that."""
        written: list[str] = []
        places: list[int] = []
        for start, stop, instead in parts:
            written.append(self.text[start:stop] if instead is None else instead)
            if instead is None:
                places.extend(self.places[start:stop])
            else:
                places.extend([self.places[start]] * len(instead))
        return _Pieces("".join(written), places)


# -- HTML -----------------------------------------------------------------------------------------

_TAG = re.compile(
    r"<!--|<(?P<end>/?)(?P<name>[a-zA-Z][a-zA-Z0-9]{0,15})(?P<rest>(?:[\s/][^<>]{0,2000})?)>"
    r"|<![^<>]{0,200}>|(?P<entity>&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});)"
)
_BLOCK = frozenset(
    [
        "p",
        "div",
        "br",
        "li",
        "ul",
        "ol",
        "tr",
        "td",
        "th",
        "table",
        "tbody",
        "thead",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "body",
        "html",
        "section",
        "article",
        "header",
        "footer",
        "pre",
        "center",
        "dl",
        "dt",
        "dd",
        "form",
    ]
)
_INLINE = frozenset(
    [
        "a",
        "b",
        "i",
        "u",
        "em",
        "strong",
        "span",
        "font",
        "small",
        "big",
        "sub",
        "sup",
        "wbr",
        "img",
        "code",
        "tt",
        "mark",
        "abbr",
        "cite",
        "q",
        "kbd",
        "o",
        "label",
        "button",
        "input",
        "meta",
        "link",
        "base",
        "ins",
        "bdi",
        "bdo",
        "time",
        "var",
        "samp",
        "nobr",
        "svg",
        "path",
    ]
)
_ASIDE = frozenset(
    [
        "style",
        "script",
        "head",
        "title",
        "template",
        "blockquote",
        "del",
        "s",
        "strike",
        "noscript",
        "textarea",
    ]
)
_VOID = frozenset(["br", "wbr", "img", "hr", "input", "meta", "link", "base"])
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*[0-8](?:\.\d+)?px"
    r"|gmail_(?:quote|signature|attr)|moz-(?:cite-prefix|signature)|yahoo_quoted|divRplyFwdMsg"
    r"|protonmail_(?:quote|signature)|appendonsend|OutlookMessageHeader|\bhidden\b",
    re.IGNORECASE,
)


_KNOWN = frozenset({*_BLOCK, *_INLINE, *_ASIDE})


def _without_html(pieces: _Pieces, *, certain: bool) -> _Pieces:  # noqa: C901
    text, parts = pieces.text, list[tuple[int, int, str | None]]()
    at, aside, depth, last_comment = 0, "", 0, text.rfind("-->")
    for match in islice(_TAG.finditer(text), TAGS_MAX):
        if match.start() < at:
            continue
        name, stop, instead = (match["name"] or "").lower(), match.end(), ""
        if name and not certain and name not in _KNOWN:
            continue
        if match.group() == "<!--":
            if last_comment < stop:
                continue
            stop = text.index("-->", stop) + 3
        elif match["entity"]:
            instead = unescape(match["entity"]).replace("\xa0", " ")
        elif name in _BLOCK:
            instead = "\n"
        if not aside:
            parts.append((at, match.start(), None))
            hides = name in _ASIDE or bool(match["rest"] and _HIDDEN.search(match["rest"]))
            if hides and not match["end"] and name not in _VOID:
                aside, depth = name, 1
            if instead:
                parts.append((match.start(), match.start(), instead))
        elif name == aside:
            depth += -1 if match["end"] else 1
            aside = aside if depth else ""
        at = stop
    if not parts and not at:
        return pieces
    if not aside:
        parts.append((at, len(text), None))
    return pieces.keep(parts)


# -- mail -----------------------------------------------------------------------------------------

_QUOTE = re.compile(r"[ \t]{0,3}>(?![:;=(){}<.]{1,2}(?:\s|$))")
_WROTE = re.compile(
    r"(?:wrote|writes|schrieb|escribió|escribio|a écrit|ha scritto|escreveu|schreef|napisała?"
    r"|napisał\(a\)|yazdı|написала?|написал\(а\)|пишет|كتب|写道|寫道|のメール|作成|書きました|작성|썼습니다"
    r"|লিখেছেন|ने लिखा|skrev|kirjoitti|napsala?|írta|έγραψε|כתב|menulis|đã viết|a scris|va escriure"
    r"|نوشت|เขียน)\W{0,3}$",
    re.IGNORECASE,
)
_DATED = re.compile(r"\d{1,4}[./年-]\s?\d{1,2}|\b\d{4}\b|<[^<>\s]+@[^<>\s]+>|\d{1,2}:\d\d|,")
_ADDRESSED = re.compile(r"<[^<>\s]{1,120}@[^<>\s]{1,120}>[^\n]{0,40}[:：]\s*$")
_REST = re.compile(
    r"[ \t>]*(?:[-_=]{2,}\s{0,3}[^\W_][^\n]{2,60}?\s{0,3}[-_=]{2,}|_{10,}|-{20,})\s*$"
    r"|[ \t>]*(?:Begin forwarded message|Anfang der weitergeleiteten|Début du message"
    r"|Inicio del mensaje re|Inizio (?:del )?messaggio in|Início da mensagem|Begin doorgestuurd"
    r"|Początek przekazywanej|Начало пере|Forwarded message|Original message"
    r"|Iletilen ileti|İletilen ileti|转发的邮件|轉寄的郵件|転送メッセージ|전달된 메시지)",
    re.IGNORECASE,
)
_FROM = re.compile(
    r"[ \t>*]*(?:From|Von|De|Da|Van|Od|Från|Fra|Kimden|Gönderen|От|От кого|من|发件人|寄件者|寄件人"
    r"|差出人|送信者|보낸 ?사람|प्रेषक|Expéditeur|Remitente|Mittente|Remetente|Afzender|Nadawca)\*?\s?[:：]",
    re.IGNORECASE,
)
_FIELD = re.compile(r"[ \t>*]*[^\W\d_][^\n:：]{0,24}[:：]\*?(?:\s|[^\s/])")
_DELIMITER = re.compile(r"(?:--|—|__)[ \t\xa0]?$")
_SENT_FROM = re.compile(
    r"\W{0,3}(?:Sent (?:from|with|via) |Get Outlook|Von meine[mr] .{1,40}gesendet|Gesendet (?:von|mit)"
    r"|Enviado (?:do|desde|de|a partir|com|con) |Envoyé (?:de|depuis|à partir) |Inviato (?:da|dal) "
    r"|Verzonden (?:vanaf|met|van|vanuit) |Verstuurd |Wysłan[eoy] z |.{1,30}(?:gönderildi|'dan gönderilmiştir)"
    r"|Отправлено (?:с|из) |أُ?رسلت? من |.{0,20}から送信|나의 .{1,20}에서 보냄|.{1,20}에서 보냄|发自我的|从我的"
    r"|傳送自|從我的|Skickat från|Sendt fra|Lähetetty |मेरे .{1,20}से भेजा)",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?:(?:kind|best|warm|many)?\s?regards|yours (?:sincerely|faithfully|truly)|sincerely|cheers"
    r"|mit freundlichen grü(?:ß|ss)en|freundliche grü(?:ß|ss)e|viele grü(?:ß|ss)e|(?:beste|liebe) grü(?:ß|ss)e"
    r"|mfg|lg|(?:bien )?cordialement|bien à vous|salutations.{0,40}|(?:un )?(?:cordial )?saludos?(?: cordial(?:es)?)?"
    r"|atentamente|atenciosamente|att|cumprimentos|com os melhores cumprimentos|cordiali saluti"
    r"|distinti saluti|saluti|met vriendelijke groet(?:en)?|vriendelijke groet(?:en)?|groet(?:en|jes)?"
    r"|pozdrawiam|z poważaniem|с уважением|saygılarımla|saygılar|مع التحية|सादर|敬具|此致|謹上)\W{0,2}$",
    re.IGNORECASE,
)
_FOOTER = re.compile(
    r"intended recipient|vorgesehene[rn]? empfänger|destinatari[oa] (?:previst|indicad)"
    r"|(?:mail|message|communication|nachricht|mensage|mensaje|correo|courriel|messaggio|bericht"
    r"|wiadomoś|сообщени|письмо|رسال|mesaj|iletisi|ileti|本メール|邮件|郵件|메일|संदेश)[^\n]{0,80}"
    r"(?:confiden|vertraul|riservat|vertrouwel|poufn|privileg|конфиденц|سري|gizli|機密|保密|기밀|गोपनीय|心当たり)"
    r"|(?:confiden|vertraul|riservat|vertrouwel|poufn|конфиденц|secret professionnel|gizli)[^\n]{0,80}"
    r"(?:gdpr|dsgvo|rgpd|rodo|lgpd|avg|recipient|message|mail|nachricht|wiadomo|courriel|mensa|berich|messagg)"
    r"|^\W{0,3}(?:warning|caution|disclaimer|aviso legal|mentions? légales?|rechtlicher hinweis"
    r"|beware of|hinweis zum datenschutz|datenschutzhinweis|confidentiality|vertraulich|haftungsausschluss"
    r"|ai sensi|en cumplimiento|conform[eé]ment a|im sinne der|※|免责声明|免責|yasal uyarı|avvertenza)\b"
    r"|(?:privacy|data protection) (?:notice|policy|statement)|datenschutzerklärung|contact our legal team"
    r"|let op valse mails|attorney-client|legally privileged|under (?:the )?gdpr, see",
    re.IGNORECASE | re.MULTILINE,
)


def _without_quotes(pieces: _Pieces) -> _Pieces:
    text = pieces.text
    if text.count("\n") > LINES_MAX:
        return pieces
    lines = [(m.start(), m.end()) for m in re.finditer(r"[^\n]*\n|[^\n]+$", text)]
    written = [text[start:stop].rstrip() for start, stop in lines]
    kept = _paragraphs(written, _answer_lines(written))
    if len(kept) == len(lines):
        return pieces
    return pieces.keep([(lines[number][0], lines[number][1], None) for number in kept])


def _answer_lines(written: list[str]) -> list[int]:
    """The lines that are no quote, header, signature or forwarded part."""
    kept: list[int] = []
    quoted = [bool(_QUOTE.match(line)) for line in written]
    skip = -1
    for number, line in enumerate(written):
        if number <= skip or quoted[number]:
            continue
        short = len(line) <= LINE_CHARS_MAX
        following = written[number + 1] if number + 1 < len(written) else ""
        if (
            short
            and line
            and (_REST.match(line) or (_FROM.match(line) and _FIELD.match(following)))
        ):
            break
        if short and (_DELIMITER.match(line) or (kept and _CLOSING.match(line.strip()))):
            break
        if short and line and (header := _header(line, following)):
            skip = number + header - 1
            after = next((n for n in range(skip + 1, len(written)) if written[n]), None)
            if after is None or quoted[after]:
                continue
            break
        if short and line and _SENT_FROM.match(line):
            continue
        kept.append(number)
    return kept


def _header(line: str, following: str) -> int:
    """How many lines a reply header takes here: one, two (wrapped), or none."""
    if (_WROTE.search(line) and _DATED.search(line)) or _ADDRESSED.search(line):
        return 1
    joined = f"{line} {following}"
    wraps = following and len(joined) <= LINE_CHARS_MAX and line[-1:] not in ".!?"
    if wraps and _WROTE.search(following) and "@" in joined and _DATED.search(line):
        return 2
    return 0


def _paragraphs(written: list[str], kept: list[int]) -> list[int]:
    """Without the paragraphs, after the first, that are a company's footer."""
    groups: list[list[int]] = [[]]
    for before, number in pairwise([-1, *kept]):
        if not written[number] or (groups[-1] and number != before + 1):
            groups.append([])
        groups[-1].append(number)
    result: list[int] = []
    spoken = False
    for group in groups:
        body = "\n".join(written[number] for number in group)
        if spoken and body and _FOOTER.search(body[:4000]):
            continue
        spoken = spoken or bool(body)
        result += group
    return result


# -- Markdown -------------------------------------------------------------------------------------

_MARKDOWN = re.compile(
    r"(?P<fence>```)|~~(?=\S)(?P<struck>[^~\n]{1,500})~~|`(?P<code>[^`\n]{1,500})`"
    r"|!?\[(?P<link>[^\[\]\n]{1,300})\]\([^()\s]{1,500}\)"
    r"|(?<!\w)(?P<mark>\*\*|__)(?=\S)(?P<bold>[^*_\n]{1,300})(?P=mark)"
    r"|(?<!\w)(?P<slant>[*_])(?=\S)(?P<italic>[^*_\n]{1,300})(?P=slant)(?!\w)"
)


def _without_markdown(pieces: _Pieces) -> _Pieces:
    text, parts, at = pieces.text, list[tuple[int, int, str | None]](), 0
    if not any(mark in text for mark in "`~*_["):
        return pieces
    for match in islice(_MARKDOWN.finditer(text), TAGS_MAX):
        if match.start() < at:
            continue
        stop, inner = match.end(), match["link"] or match["bold"] or match["italic"]
        if match["fence"]:
            close = text.find("```", stop)
            if close < 0:
                continue
            stop = close + 3
        parts.append((at, match.start(), None))
        if inner:
            start = text.index(inner, match.start())
            parts.append((start, start + len(inner), None))
        elif match["code"]:
            parts.append((match.start(), match.start(), " , "))
        at = stop
    if not parts:
        return pieces
    return pieces.keep([*parts, (at, len(text), None)])
