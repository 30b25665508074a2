"""Sentences that the rest of Baton makes in English, found again by their patterns.

The API answers in English, so refusals, reasons why something is not known, and what was recorded
come here as text. `SENTENCES` has those that pages show; each is a text of the catalogue, and what
stands in its holes is put into the translation. Any other sentence stays English, and is marked so.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from markupsafe import Markup

from service.web.console.language.names import N_, named
from service.web.console.language.translations import current, gettext, is_source

SENTENCES = (
    # refusals and what to do about them
    N_("handoff %(handoff)s is claimed by %(agent)s"),
    N_("ask another admin"),
    N_("begin a new one"),
    N_("nobody removes themselves"),
    N_("nobody takes their own role away"),
    N_("sign in with a key"),
    N_("the message says nothing"),
    N_("the sign-in service does not answer as it should"),
    N_("there is no decision %(decision)s in this chat"),
    N_("there is no handoff %(handoff)s in this chat"),
    N_("this chat has %(count)s turns"),
    N_("try again in a minute, or sign in with a key"),
    N_("write as a customer"),
    N_("try again, or sign in with a key"),
    N_("this sign-in was not begun here"),
    N_("this sign-in took too long"),
    N_("this answer belongs to another sign-in"),
    N_("this answer comes from another sign-in service"),
    N_("the sign-in service let nobody in (%(why)s)"),
    N_("the sign-in service did not confirm it"),
    N_("what the sign-in service sent is not valid"),
    N_("your account has no verified e-mail address of this installation's domains"),
    N_("use another account, or ask who administers Baton"),
    N_("you are a user of %(workspaces)s"),
    N_("say which: /console/sign-in?workspace=%(workspace)s"),
    N_("none of your groups may use Baton any longer"),
    N_("ask who administers Baton"),
    N_("%(who)s is no user of Baton"),
    N_("ask who administers Baton to let you in at People"),
    N_("take another from GET /v1/handoffs?status=waiting; a lead may take_over"),
    N_("the key %(key)s acts for its own holder only"),
    N_("leave agent out, or use a key of role connector"),
    N_("its agent or a lead assigns it"),
    N_("its agent ends it, or claim it once the claim has expired"),
    N_("its agent transfers it, or claim it once the claim has expired"),
    N_("handoff %(handoff)s is already %(name)s"),
    N_("GET /v1/handoffs?status=waiting lists those that wait"),
    N_("there is no handoff %(handoff)s in this workspace"),
    N_("there is no handoff %(handoff)s"),
    N_("the handoffs of conversation %(conversation)s have %(count)s notes already"),
    N_("resolve it, or say the rest in the conversation"),
    N_("message %(message)s is already recorded with another author or text"),
    N_("a corrected text is a new message with a new id"),
    N_("workspace %(workspace)s is in shadow mode: it opens no handoff"),
    N_("PUT /v1/workspaces/%(workspace)s/mode makes it live"),
    N_("there is no team %(team)s"),
    N_("the policy speaks of %(teams)s"),
    N_("%(agent)s answered audit %(audit)s before: %(name)s"),
    N_("correct the outcome with PUT /v1/outcomes/{id}"),
    N_("there is no audit %(audit)s in this workspace"),
    N_("audit %(audit)s was answered by another"),
    N_("outcome %(outcome)s was retracted"),
    N_("post a new outcome for its handoff or conversation"),
    N_("outcome %(outcome)s already says %(name)s"),
    N_("correct it with PUT /v1/outcomes/%(outcome)s"),
    N_("there is no outcome %(outcome)s in this workspace"),
    N_("conversation %(conversation)s has no message %(message)s"),
    N_("GET /v1/conversations/%(conversation)s lists its messages"),
    N_("message %(message)s came after the handoff this outcome is about"),
    N_("name the message that first needed a person, up to the escalating one"),
    N_("message %(message)s was not scored, so a label teaches nothing"),
    N_("label only messages that went through POST /v1/score"),
    N_("there is no user %(user)s in this workspace"),
    N_("the reply says nothing"),
    N_("write to the customer"),
    N_("start from the queue"),
    N_("there is no file %(file)s"),
    N_("reload the page"),
    N_("there is no language %(language)s"),
    N_("choose another"),
    N_("there is no review of yours that decides about this conversation"),
    N_("what a colleague found stands; tell them"),
    N_("there is no conversation %(conversation)s in this workspace"),
    N_("search for another of its words, or look further back"),
    N_("there is no such page"),
    N_("there is no key %(key)s"),
    N_("a canned reply needs a name"),
    N_("name it in a word or two"),
    N_("there are %(count)s canned replies already"),
    N_("remove one that nobody uses"),
    N_("this form was not sent from a page of this session"),
    N_("go back, reload the page, and send it again"),
    N_("the request carries no key"),
    N_("send the header Authorization: Bearer <key>"),
    N_("%(user)s is Baton's own name"),
    N_("a key of workspace %(workspace)s is already named %(user)s"),
    N_("give each person a name of their own, or revoke the older key first"),
    N_("this needs the role %(name)s; the key %(key)s has %(own)s"),
    N_("use a key with the role %(name)s or above"),
    N_("the key is unknown, was revoked, or has expired"),
    N_("`baton key create` or POST /v1/keys makes one"),
    N_("%(count)s wrong keys came from this address"),
    N_("wait %(seconds)s seconds, then try again"),
    N_("the text of conversation %(conversation)s was removed after its time"),
    N_("go on under a new conversation_id"),
    N_("conversation %(conversation)s came with a warm start: it has ended"),
    N_("conversation %(conversation)s would have more than %(count)s messages"),
    N_("the database does not answer"),
    N_("send it again"),
    N_("the disk of the database is full"),
    N_("send it again later"),
    N_("the database's tables are not this build's"),
    N_("`baton doctor` on the server says what is wrong and how to mend it"),
    N_("workspace %(workspace)s is broken and not served; nothing was recorded"),
    N_("the model is being reloaded"),
    N_("this process is shutting down"),
    N_("too many requests are waiting"),
    N_("%(field)s: is required"),
    N_("add this field"),
    N_("send one of the values named"),
    N_("see /docs for this route's shape"),
    # why something is not known, and what became of an answer
    N_("no audit is answered yet, so the rate is not known"),
    N_("all that are over were handed to a person: none was kept that could be missed"),
    N_("none of these conversations was kept and closed yet"),
    N_("no conversation has ended in this time"),
    N_("this reviewer has done today's reviews"),
    N_("nothing waits for review"),
    N_("it was taken back, and what it had taught is gone from the model"),
    N_("it was taken back; what it had taught leaves the model at the next rebuild"),
    N_("it teaches nothing: it is counted apart"),
    N_("this process has yet to learn it"),
    N_("this process learned it long ago, or the version that serves leaves it out"),
    # why Today asks for attention, and what changed
    N_("1 request waited in vain"),
    N_("%(count)s requests waited in vain"),
    N_("1 conversation waits longer than was promised"),
    N_("%(count)s conversations wait longer than was promised"),
    N_("the bot keeps too many: at least %(share)s needed a person"),
    N_("rules alone would cost less than the model does"),
    N_("1 alarm since yesterday"),
    N_("%(count)s alarms since yesterday"),
    N_("the workspace begins"),
    N_("began with version %(version)s: %(reason)s"),
    N_("moved to version %(version)s: %(reason)s"),
    N_("went back to version %(version)s: %(reason)s"),
    N_("other %(names)s"),
    # teams that are away
    N_("nobody of team %(team)s is there until %(day)s %(time)s"),
    N_("team %(team)s has as many waiting as it can serve"),
    *(N_("Mon"), N_("Tue"), N_("Wed"), N_("Thu"), N_("Fri"), N_("Sat"), N_("Sun")),
    # what Baton itself says in a conversation
    N_("Handed over to a person."),
    N_("Given back to the bot."),
    N_("Settled by a person."),
    N_("No person came in time."),
    N_("Closed before a person came."),
    N_("The customer declined a person."),
    N_("The customer did not answer the offer of a person."),
    N_("The customer removed a message."),
    # how an attempt of the bot failed
    N_("a tool failed: %(error)s"),
    N_("it did not understand"),
    N_("it was only %(share)s sure"),
    # what moves the model
    N_("automation failed once"),
    N_("automation failed %(count)s times"),
    N_("asked nearly the same before"),
    N_("the bot answered nearly the same before"),
    N_("the customer is upset"),
    N_("the customer is in a hurry"),
    N_("it is about %(name)s"),
    N_("the conversation is long"),
    N_("the bot took it for %(intent)s"),
    N_("the bot tried %(attempt)s"),
)

_HOLE = re.compile(r"%\((\w+)\)s")
NAMED = ("name", "own", "day")
"""Holes in which a name of a closed list stands."""


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Each sentence as an expression that finds it, those that say most first."""
    ordered = sorted(SENTENCES, key=lambda sentence: -len(_HOLE.sub("", sentence)))
    return tuple((sentence, _pattern(sentence)) for sentence in ordered)


def _pattern(sentence: str) -> re.Pattern[str]:
    parts = _HOLE.split(sentence)
    text = "".join(
        f"(?P<{part}>.+?)" if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )
    return re.compile(text, re.DOTALL)


def worded(text: str) -> str:
    """A sentence in the language in force; English where the catalogue has none."""
    return text if is_source() else _found(current().code, text) or text


def marked(text: str) -> str | Markup:
    """The same for a page, on which a sentence that stays English is marked so."""
    if is_source() or not text:
        return text
    found = _found(current().code, text)
    return Markup('<span lang="en">{}</span>').format(text) if found is None else found


@lru_cache(4096)
def _found(_code: str, text: str) -> str | None:
    for sentence, pattern in _patterns():
        if match := pattern.fullmatch(text):
            return gettext(sentence) % {
                name: _inside(name, value) for name, value in match.groupdict().items()
            }
    return None


def _inside(name: str, value: str) -> str:
    if name == "names":
        return ", ".join(map(named, value.split(", ")))
    if name == "reason":
        return worded(value)
    return named(value) if name in NAMED else value


def capital(text: str) -> str:
    """A text with a capital at its beginning, the rest as it is."""
    return text[:1].upper() + text[1:]


def capitalized(text: str) -> str | Markup:
    """A sentence for a page, with a capital at its beginning."""
    found = marked(text)
    if isinstance(found, Markup):
        return Markup('<span lang="en">{}</span>').format(capital(text))
    return capital(found)
