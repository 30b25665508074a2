"""Names of a closed list (states, roles, topics, kinds) as pages show them, to be translated.

A name that somebody gave, such as a rule's of one's own, is shown as it is.
"""

from __future__ import annotations

from service.web.console.language.translations import gettext


def N_(message: str) -> str:  # noqa: N802  gettext's own name for a text that is translated later
    return message


NAMES = (
    # states of a handoff, answers and verdicts
    *(N_("waiting"), N_("claimed"), N_("resolved"), N_("returned"), N_("abandoned")),
    *(N_("unanswered"), N_("needed"), N_("not needed"), N_("unknowable"), N_("missed"), N_("fine")),
    *(N_("continue"), N_("offer"), N_("escalate"), N_("accepted"), N_("declined")),
    # authors and roles
    *(N_("user"), N_("bot"), N_("agent"), N_("lead"), N_("engineer"), N_("admin"), N_("system")),
    N_("connector"),
    # topics and rules
    *(N_("request"), N_("identity"), N_("security"), N_("safety"), N_("legal"), N_("refund")),
    *(N_("cancellation"), N_("complaint"), N_("technical"), N_("identity mention")),
    *(N_("legal mention"), N_("repeated by customer"), N_("repeated briefly")),
    *(N_("failed automation"), N_("repeated by bot"), N_("frustration"), N_("upset")),
    *(N_("model offer"), N_("model escalate")),
    # what messages show
    *(N_("urgency"), N_("complexity"), N_("anger"), N_("questions"), N_("repeats"), N_("failures")),
    # facts that a customer has given, and attachments
    *(N_("email"), N_("order"), N_("invoice"), N_("ticket"), N_("booking"), N_("tracking")),
    *(N_("reference"), N_("amount"), N_("date"), N_("phone"), N_("name"), N_("product")),
    *(N_("image"), N_("file"), N_("audio"), N_("video"), N_("location"), N_("contact")),
    # who told of an outcome
    *(N_("audit"), N_("customer request"), N_("closed"), N_("silence"), N_("reopened")),
    # what changes
    *(N_("alarm"), N_("recommendation"), N_("agent suspected"), N_("challenger failed")),
    *(N_("challenger opened"), N_("challenger closed"), N_("model"), N_("policy"), N_("rollback")),
    *(N_("promotion"), N_("costs"), N_("rules"), N_("teams"), N_("capacity"), N_("audits")),
    *(N_("offers"), N_("routing"), N_("switching"), N_("phrases"), N_("retention")),
    *(
        N_("default team"),
        N_("urgent team"),
        N_("holdout"),
        N_("claim seconds"),
        N_("cooldown messages"),
    ),
    *(N_("cooldown seconds"), N_("floor"), N_("lost"), N_("price"), N_("holdout")),
)


def named(word: str) -> str:
    """A name for people, its underscores as spaces."""
    return gettext(word.replace("_", " "))
