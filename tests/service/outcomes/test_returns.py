"""A customer who comes back after the end and is not settled had been missed: caught, counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from learning.decision.policy import AuditBudget, Policy
from service.jobs.maintenance import Maintenance
from service.outcomes import audit_tasks, reopened
from service.privacy.erasure import erase
from service.privacy.retention import Retention
from service.quality import dashboard_data
from service.runtime.settings import Settings
from service.store.database.transactions import Store, table
from service.store.ledger import entries
from service.store.tables import Conversation, Reopening
from service.versions.evaluation import recent_rates
from tests.postgres import on_both
from tests.running import until
from tests.service_in_process import ASKS, OTHERS, QUIET, InProcess, Place, at_once, serving

DAY = 86_400.0
UNSETTLED = "that still does not work, this is ridiculous"
THANKS = "many thanks for all of this"
NEVER = {"unneeded": 1e6, "missed": 1e-3, "ask": 1e6}
"""Costs under which the model alone hands nothing over."""

EVERYONE = AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=0.0)
store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("returns"), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    made = service.workspace()
    made.policy(costs=NEVER)
    return made


@pytest.fixture
def store(place: Place) -> Store:
    return place.service.baton.store


def close(place: Place, name: str = "c", resolution: str = "resolved") -> None:
    place.bot.posted(f"/v1/conversations/{name}/close", {"resolution": resolution})


def kept(place: Place, *names: str, resolution: str = "resolved") -> None:
    """Conversations of one question, and the bot's answer to it; the bot ended them."""
    for name in names:
        place.bot.decided(name, "m1", QUIET)
        answer = [{"id": "b1", "author": "bot", "text": "From ten to four."}]
        place.bot.posted(f"/v1/conversations/{name}/messages", {"messages": answer})
        close(place, name, resolution)


def came_back(place: Place, *names: str, text: str = ASKS, message: str = "m2") -> str:
    """The customers say something after the end; the last one's handoff, if it opened one."""
    found: Any = None
    for name in names:
        found = place.bot.decided(name, message, text)["handoff"]
    return "" if found is None else str(found["id"])


def look(place: Place, later: float = 0.0) -> int:
    return reopened.detect_missed(place.service.baton.store, place.name, time.time() + later)


def ended_earlier(place: Place, seconds: float) -> None:
    """As if what was reopened had been closed so long before its customers came back."""
    rows = table(Reopening)
    with place.service.baton.store.write() as connection:
        connection.execute(
            update(rows)
            .where(rows.c.workspace == place.name)
            .values(closed_at=rows.c.closed_at - seconds)
        )


def reopenings(place: Place) -> list[str]:
    rows = table(Reopening)
    wanted = select(rows.c.status).where(rows.c.workspace == place.name).order_by(rows.c.at)
    with place.service.baton.store.read() as connection:
        return list(connection.execute(wanted).scalars())


def reviewed(place: Place, missed: tuple[str, ...] = ()) -> None:
    """Every kept conversation is drawn and reviewed."""
    with place.service.baton.store.write() as connection:
        audit_tasks.draw_audits(connection, place.name, EVERYONE, time.time() + 60)
    while (audit := place.agent.got("/v1/audits/next")["audit"]) is not None:
        verdict = {"verdict": "missed" if audit["conversation_id"] in missed else "fine"}
        place.agent.posted(f"/v1/audits/{audit['id']}/outcome", verdict)


def missed(place: Place) -> Any:
    return place.engineer.got("/v1/quality")["missed"]


def told(place: Place, name: str = "c") -> list[Any]:
    """What holds of a conversation as a whole: verdict and source."""
    found = place.agent.got(f"/v1/conversations/{name}")["outcomes"]
    return [
        (one["verdict"], one["source"])
        for one in found
        if one["handoff_id"] is None and one["retracted_at"] is None
    ]


def test_who_comes_back_and_asks_for_a_person_had_been_missed_before(place: Place) -> None:
    """What it teaches is about the decisions up to the end, and not about what was said since."""
    before = place.bot.decided("probe", "m1", QUIET)["probability"]
    kept(place, "c")
    assert came_back(place, "c")
    Maintenance(place.service.baton.store, Settings()).detect_missed()
    (entry,) = place.ledger()
    assert (entry["verdict"], entry["source"], entry["agent"]) == ("missed", "returned", "baton")
    assert (entry["begins"], entry["covers"], entry["handoff_id"]) == (1, 2, None)
    (outcome,) = place.agent.got("/v1/conversations/c")["outcomes"]
    assert outcome["reason"] == "asked for a person"
    learned = outcome["position"]
    until(lambda: place.engineer.got("/v1/standing")["position"] == learned, "learned")
    assert place.bot.decided("probe2", "m1", QUIET)["probability"] > before


@pytest.mark.parametrize(
    "resolution, text, why",
    [
        ("resolved", QUIET, "asked the same again"),
        ("resolved", UNSETTLED, "was upset"),
        ("unknown", QUIET, None),
        ("abandoned", UNSETTLED, None),
        ("resolved", THANKS, None),
        ("resolved", OTHERS[5], None),
    ],
)
def test_whether_coming_back_shows_a_miss_depends_on_what_is_said_and_how_it_had_ended(
    place: Place, resolution: str, text: str, why: str | None
) -> None:
    kept(place, "c", resolution=resolution)
    assert came_back(place, "c", text=text) == ""
    close(place)
    assert look(place) == (why is not None)
    assert [one["verdict"] for one in place.ledger()] == ["missed"] * (why is not None)
    assert reopenings(place) == ["missed" if why else "passed"]
    outcomes = place.agent.got("/v1/conversations/c")["outcomes"]
    assert [one["reason"] for one in outcomes] == [why] * (why is not None)


def test_a_request_counts_however_the_conversation_had_ended(place: Place) -> None:
    kept(place, "c", resolution="unknown")
    came_back(place, "c")
    assert look(place) == 1


def test_who_says_the_same_twice_after_the_end_repeats_nothing_from_before_it(place: Place) -> None:
    kept(place, "c")
    came_back(place, "c", text=OTHERS[0])
    came_back(place, "c", text=OTHERS[0], message="m3")
    close(place)
    assert look(place) == 0


def test_who_comes_back_after_the_waiting_time_was_not_missed_and_the_policy_sets_it(
    place: Place,
) -> None:
    place.policy(silence={"after_seconds": 3600})
    kept(place, "c", "d")
    came_back(place, "c")
    ended_earlier(place, 7200)
    came_back(place, "d")
    assert look(place) == 1
    assert (told(place, "c"), told(place, "d")) == ([], [("missed", "returned")])


def test_an_open_conversation_is_looked_at_once_its_waiting_time_is_over(place: Place) -> None:
    kept(place, "c")
    came_back(place, "c", text=UNSETTLED)
    assert look(place) == 0
    assert look(place, later=2 * DAY) == 0
    assert look(place, later=4 * DAY) == 1
    assert look(place, later=8 * DAY) == 0
    assert len(place.ledger()) == 1


def test_each_end_is_judged_by_what_was_said_until_the_next(place: Place) -> None:
    """The customer is settled after the first end, and not after the second."""
    kept(place, "c")
    came_back(place, "c", text=THANKS)
    close(place)
    came_back(place, "c", message="m3")
    assert look(place) == 1
    assert reopenings(place) == ["passed", "missed"]
    assert [one["covers"] for one in place.ledger()] == [3]


def test_what_a_person_had_is_not_looked_at(place: Place) -> None:
    handoff = came_back(place, "c", message="m1")
    place.agent.posted(f"/v1/handoffs/{handoff}/claim")
    place.agent.posted(f"/v1/handoffs/{handoff}/resolve")
    close(place)
    came_back(place, "c")
    assert reopenings(place) == []


def test_in_the_shadow_nothing_was_missed_that_would_have_been_escalated(
    service: InProcess,
) -> None:
    place = service.workspace(mode="shadow")
    place.policy(costs=NEVER)
    kept(place, "missed")
    assert place.bot.decided("asked", "m1", ASKS)["action"] == "escalate"
    close(place, "asked")
    came_back(place, "asked", "missed")
    for name in ("asked", "missed"):
        close(place, name)
    assert look(place) == 1
    assert (told(place, "asked"), told(place, "missed")) == ([], [("missed", "returned")])


def test_caught_misses_are_a_stratum_of_the_estimate_and_leave_the_sample(place: Place) -> None:
    """Of ten one was found missed by its review and came back, one was found fine and came back,
    one was found missed. The two are escalated now, and count as what they were: kept, and missed.
    """
    names = tuple(f"c{n}" for n in range(10))
    kept(place, *names)
    reviewed(place, missed=("c0", "c1"))
    before = missed(place)
    assert (before["rate"], before["caught"], before["audits_answered"]) == (0.2, 0, 10)
    came_back(place, "c0", "c2")
    assert look(place) == 2
    after = missed(place)
    assert (after["kept_conversations"], after["caught"]) == (10, 2)
    assert after["caught_by"] == {"returned": 2}
    assert (after["audits_answered"], after["audits_found_missed"]) == (8, 1)
    assert after["rate"] == pytest.approx(0.2 + 0.8 / 8)
    about = [(one["conversation_id"], one["verdict"]) for one in place.ledger()]
    assert about.count(("c0", "missed")) == 1, "what was audited is not taught twice"


def test_every_view_of_the_missed_rate_counts_them_alike(place: Place, store: Store) -> None:
    kept(place, *(f"c{n}" for n in range(6)))
    reviewed(place, missed=("c0",))
    came_back(place, "c1", "c2")
    came_back(place, "c3", text=UNSETTLED)
    look(place, later=4 * DAY)
    quality = place.engineer.got("/v1/quality")
    assert (quality["conversations"]["kept"], quality["conversations"]["escalated"]) == (3, 2)
    whole = quality["missed"]
    assert (whole["kept_conversations"], whole["caught"]) == (6, 3)
    for name in ("by_version", "by_language", "by_team"):
        (part,) = quality[name].values()
        assert part["missed"] == whole
    with store.read() as connection:
        policy = Policy.model_validate(entries.newest_policy(connection, place.name))
        report = recent_rates.count_rates(connection, place.name, 0.0)
        day = dashboard_data.load_dashboard(connection, place.name, policy, 1, time.time())
    assert (day.missed["kept_conversations"], day.missed["caught"]) == (6, 3)
    assert report.kept + report.late == 6
    assert sum(part["missed"]["caught"] for part in quality["over_time"]["points"]) == 3
    paid = quality["cost"]["low"] * quality["cost"]["conversations"]
    assert paid == pytest.approx(NEVER["missed"] * 6 * whole["low"])


def test_a_review_that_is_answered_later_changes_nothing(place: Place) -> None:
    kept(place, "c")
    with place.service.baton.store.write() as connection:
        audit_tasks.draw_audits(connection, place.name, EVERYONE, time.time() + 60)
    came_back(place, "c")
    look(place)
    audit = place.agent.got("/v1/audits/next")["audit"]
    place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "missed"})
    found = missed(place)
    assert (found["caught"], found["audits_answered"], len(place.ledger())) == (1, 0, 1)


def test_a_complaint_beside_it_is_one_miss_and_a_person_may_say_more_or_otherwise(
    place: Place,
) -> None:
    names = ("before", "after", "since", "fine")
    kept(place, *names)
    complaint: dict[str, Any] = {"verdict": "missed", "source": "complaint"}
    place.bot.posted("/v1/conversations/before/outcome", complaint)
    came_back(place, *names)
    assert look(place) == 4
    assert [one["conversation_id"] for one in place.ledger()] == list(names)
    place.bot.posted("/v1/conversations/after/outcome", complaint)
    assert len(place.ledger()) == 4, "it adds nothing"
    since = {"verdict": "missed", "source": "agent", "first_needed_message_id": "m1"}
    place.agent.posted("/v1/conversations/since/outcome", since)
    assert place.ledger()[-1]["since"] == 1
    place.agent.posted("/v1/conversations/fine/outcome", {"verdict": "fine"})
    found = missed(place)
    assert found["caught_by"] == {"agent": 1, "complaint": 2}
    assert told(place, "fine") == [("fine", "agent")]


@pytest.mark.parametrize("first", ["the look", "the agent"])
@pytest.mark.parametrize(
    "said, holds",
    [
        ({"verdict": "needed"}, True),
        ({"verdict": "needed", "first_needed_message_id": "m1"}, True),
        ({"verdict": "needed", "first_needed_message_id": "m2"}, False),
        ({"verdict": "not_needed"}, False),
        ({"verdict": "unknowable"}, True),
    ],
)
def test_the_agent_who_took_over_knows_better_whoever_speaks_first(
    place: Place, first: str, said: dict[str, str], holds: bool
) -> None:
    kept(place, "c")
    handoff = came_back(place, "c")
    if first == "the look":
        look(place)
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", said)
    look(place)
    assert told(place) == [("missed", "returned")] * holds
    assert missed(place)["caught"] == holds


def test_an_agent_who_corrects_themselves_is_believed_too(place: Place) -> None:
    kept(place, "c")
    handoff = came_back(place, "c")
    outcome = place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
    look(place)
    place.agent.put(f"/v1/outcomes/{outcome['id']}", json={"verdict": "fine"}).raise_for_status()
    assert told(place) == []


def test_an_agent_does_not_take_back_what_a_review_had_found(place: Place) -> None:
    kept(place, "c")
    reviewed(place, missed=("c",))
    handoff = came_back(place, "c")
    look(place)
    assert told(place) == [("missed", "returned")]
    place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "not_needed"})
    assert told(place) == [("missed", "audit")]


def test_two_jobs_at_once_catch_each_miss_once(place: Place, store: Store) -> None:
    names = [f"c{n}" for n in range(8)]
    kept(place, *names)
    came_back(place, *names)
    others = [Store(store.url.render_as_string(hide_password=False)) for _ in range(2)]
    try:
        now = time.time()
        found = at_once(2, lambda n: reopened.detect_missed(others[n], place.name, now))
    finally:
        for one in others:
            one.close()
    assert sum(found) == 8
    assert sorted(one["conversation_id"] for one in place.ledger()) == names
    assert look(place) == 0


def test_another_workspace_is_left_alone(service: InProcess, place: Place) -> None:
    other = service.workspace()
    for one in (place, other):
        kept(one, "c")
        came_back(one, "c")
    assert look(other) == 1
    assert (reopenings(place), reopenings(other)) == (["open"], ["missed"])
    assert place.ledger() == []
    assert missed(place)["caught"] == 0


def test_what_is_erased_is_looked_at_no_more(place: Place, store: Store) -> None:
    kept(place, "caught", "open")
    came_back(place, "caught", text=UNSETTLED)
    close(place, "caught")
    assert look(place) == 1
    came_back(place, "open", text=UNSETTLED)
    for name in ("caught", "open"):
        erase(store, place.name, name, actor="dana")
    assert reopenings(place) == ["missed", "passed"]
    assert look(place, later=4 * DAY) == 0
    assert missed(place)["caught"] == 1, "that it was stays known"


def test_what_is_removed_by_time_is_looked_at_no_more(place: Place, store: Store) -> None:
    kept(place, "c")
    came_back(place, "c", text=UNSETTLED)
    rows = table(Conversation)
    with store.write() as connection:
        here = rows.c.workspace == place.name
        connection.execute(update(rows).where(here).values(last_at=rows.c.last_at - 9 * DAY))
    Retention(store, Settings(keep_days=7)).remove_text()
    assert place.agent.got("/v1/conversations/c")["status"] == "removed"
    assert reopenings(place) == ["passed"]
    assert look(place, later=4 * DAY) == 0
