"""User mapping of OpenID Connect: which user somebody is who signed in at a provider, and whether
they may come in.

Only a user of Baton may: known by their verified e-mail at first, and by the provider's own id of
them from then on. Where groups are given roles, who is in one becomes a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from service.runtime.errors import Forbidden
from service.runtime.settings import PEOPLE_ROLES, Settings
from service.store import access
from service.web.access.keys import RESERVED, SIGN_IN, Principal, add_key, new_secret


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider vouches for. `subject` has the issuer before it: another's is another."""

    subject: str
    email: str | None
    name: str
    groups: tuple[str, ...]


def refused(code: str, message: str, hint: str = "try again, or sign in with a key") -> Forbidden:
    return Forbidden(code, message, hint=hint)


@dataclass(frozen=True, slots=True)
class SignInRules:
    """Who may sign in by OpenID Connect."""

    domains: frozenset[str]
    roles: Mapping[str, str]
    workspace: str

    @classmethod
    def of(cls, settings: Settings) -> SignInRules:
        named = (name.strip().lower().lstrip("@") for name in settings.oidc_domains.split(","))
        return cls(
            frozenset(filter(None, named)), settings.roles_by_group(), settings.oidc_workspace
        )

    def role(self, identity: Identity) -> str | None:
        """The highest role that their groups give."""
        given = {self.roles[group] for group in identity.groups if group in self.roles}
        return max(given, key=PEOPLE_ROLES.index) if given else None


@dataclass(frozen=True, slots=True)
class Admission:
    """A user who may sign in; `is_new` where they become one with it."""

    workspace: str
    user_id: str
    role: str
    is_new: bool = False


def admit(
    connection: Connection, rules: SignInRules, identity: Identity, workspace: str
) -> Admission:
    """The user whom the provider vouches for, in the workspace they asked for, if any was asked
    for. Raises Forbidden.
    """
    _check_domain(rules, identity)
    rows = access.users_known_as(connection, identity.subject, identity.email)
    present = [row for row in rows if row.removed_at is None and row.role in PEOPLE_ROLES]
    if workspace:
        present = [row for row in present if row.workspace == workspace]
    if len(present) > 1:
        present = _narrowed(present, identity)
    if present:
        return _known(rules, identity, present[0])
    role = rules.role(identity)
    is_removed = any(row.workspace == rules.workspace for row in rows)
    if role is None or is_removed or workspace not in ("", rules.workspace):
        raise _unknown(identity)
    name = identity.email or identity.subject.partition(" ")[2]
    if name in RESERVED or access.user_ever(connection, rules.workspace, name) is not None:
        raise _unknown(identity)
    return Admission(rules.workspace, name, role, is_new=True)


def principal_of(
    connection: Connection, admission: Admission, identity: Identity, now: float
) -> Principal:
    """Let them in: the user, bound to the provider's subject, and the key that the session hangs
    on. Its secret nobody gets; whoever revokes it, or removes the user, ends the sessions.

    Raises Forbidden for a user who was removed, or bound to another, in the meantime.
    """
    where = (connection, admission.workspace, admission.user_id)
    if admission.is_new:
        row = {"workspace": admission.workspace, "id": admission.user_id, "teams": []}
        made = {"name": identity.name or admission.user_id, "role": admission.role}
        access.add_user(connection, row | made | {"made_by": SIGN_IN, "created_at": now})
    user = access.user(*where)
    if user is None or user.subject not in (None, identity.subject):
        raise _unknown(identity)
    access.change_user(*where, subject=identity.subject, role=admission.role)
    key = access.sign_in_key(*where, SIGN_IN)
    if key is None:
        add_key(*where[:2], admission.role, admission.user_id, new_secret(), made_by=SIGN_IN)
        key = access.sign_in_key(*where, SIGN_IN)
        assert key is not None
    elif key.role != admission.role:
        access.set_key_role(connection, key.id, admission.role)
    return Principal(key.id, key.workspace, admission.role, key.name, key.hash)


def _check_domain(rules: SignInRules, identity: Identity) -> None:
    domain = (identity.email or "").rpartition("@")[2]
    if rules.domains and domain not in rules.domains:
        raise refused(
            "domain_refused",
            "your account has no verified e-mail address of this installation's domains",
            "use another account, or ask who administers Baton",
        )


def _narrowed(present: list[Row[Any]], identity: Identity) -> list[Row[Any]]:
    """The one of several users who it must be. Raises Forbidden where they may choose."""
    places = sorted({row.workspace for row in present})
    if len(places) > 1:
        raise refused(
            "several_workspaces",
            f"you are a user of {', '.join(places)}",
            f"say which: /console/sign-in?workspace={places[0]}",
        )
    return [row for row in present if row.subject == identity.subject] or [
        row for row in present if row.email
    ]


def _known(rules: SignInRules, identity: Identity, row: Row[Any]) -> Admission:
    role = row.role
    if row.made_by == SIGN_IN and rules.roles:
        given = rules.role(identity)
        if given is None:
            raise refused(
                "no_group",
                "none of your groups may use Baton any longer",
                "ask who administers Baton",
            )
        role = given
    return Admission(row.workspace, row.id, role)


def _unknown(identity: Identity) -> Forbidden:
    known = identity.subject.partition(" ")[2]
    who = identity.email or f"the account {known}, without a verified e-mail address,"
    return refused(
        "unknown_user",
        f"{who} is no user of Baton",
        "ask who administers Baton to let you in at People",
    )
