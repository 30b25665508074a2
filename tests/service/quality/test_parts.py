"""Rates by rule, team, language, version and time are those of a recount, and add up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from experiments.evaluation.decision_costs import ALWAYS_CONTINUE, RULES_ONLY
from learning.decision.policy import AuditBudget, Costs
from learning.estimation.rate_intervals import missed_rate, under_drift
from service.jobs.maintenance import Maintenance
from service.outcomes import audit_tasks
from service.quality.segment_rates import NO_TRIGGER, SPANS_MAX, VERDICTS, Segment, over_time
from service.runtime.settings import Settings
from service.store.conversations import removal
from service.store.database.transactions import table
from service.store.tables import Audit, Conversation, Decision, Handoff, MessageRow, Outcome
from service.versions import switches
from service.versions.restore import restore
from tests.postgres import on_both
from tests.service_in_process import ASKS, OTHERS, InProcess, serving

store_url = on_both()

PARTITIONS = ("by_team", "by_language", "by_version")
LEGAL, HACKED = "I will sue you, my lawyer will call", "someone hacked my account"
COUNTS = ("all", "closed", "escalated", "kept")
NEVER = {"unneeded": 1e6, "missed": 1e-6, "ask": 1e6}
"""Costs under which the model alone hands nothing over."""


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("parts"), database=store_url) as running:
        yield running


class Town:
    """Traffic of every kind in one workspace, told by a seed; it knows who needed a person."""

    def __init__(self, service: InProcess, seed: int, count: int = 70) -> None:
        self.place = service.workspace()
        self.store = service.baton.store
        self.needed: dict[str, bool] = {}
        self._draw = Random(seed)
        self.place.policy(costs=NEVER)
        for number in range(count):
            if number == count // 2:
                self._second_version()
                self.place.offering()
            self._conversation(f"c{number}")
        self._audited()

    def _second_version(self) -> None:
        name = self.place.name
        standing = restore(self.store, name)
        with self.store.write() as connection:
            made = switches.save_version(
                connection,
                name,
                switches.SerializedState.of(standing),
                line=standing.switch,
                reason="test",
            )
        self.place.engineer.posted(f"/v1/versions/{made}/promote", {"reason": "test"})

    def _conversation(self, name: str) -> None:
        draw, bot = self._draw, self.place.bot
        language = draw.choice((None, "en", "de"))
        self.needed[name] = draw.random() < 0.3
        for turn in range(draw.randint(1, 3)):
            text = draw.choice((ASKS, LEGAL, HACKED, *OTHERS[:9]))
            message = {"id": f"m{turn}", "text": f"{text} {turn}", "language": language}
            asked = {"conversation_id": name, "message": message}
            asked["attributes"] = {"channel": "app" if int(name[1:]) % 2 else "mail"}
            said = bot.posted("/v1/score", asked)
            if said["action"] == "offer" and draw.random() < 0.7:
                answer = {"accepted": draw.random() < 0.4}
                path = f"/v1/decisions/{said['decision_id']}/answer"
                said = bot.posted(path, answer)
            if said.get("handoff") and said.get("action") != "human_active":
                self._judge(name, said["handoff"]["id"])
        if draw.random() < 0.85:
            bot.posted(f"/v1/conversations/{name}/close", {"resolution": "resolved"})
            if self.needed[name] and draw.random() < 0.3:
                self._complain(name)

    def _judge(self, name: str, handoff: str) -> None:
        draw, agent, path = self._draw, self.place.agent, f"/v1/handoffs/{handoff}"
        if draw.random() < 0.2:
            agent.posted(f"{path}/transfer", {"team": draw.choice(("legal", "security"))})
        if draw.random() < 0.7:
            agent.posted(f"{path}/return")
        if draw.random() < 0.75:
            verdict = "needed" if self.needed[name] else "not_needed"
            given = "unknowable" if draw.random() < 0.15 else verdict
            told = agent.posted(f"{path}/outcome", {"verdict": given})
            if draw.random() < 0.1:
                agent.delete(f"/v1/outcomes/{told['id']}").raise_for_status()

    def _complain(self, name: str) -> None:
        if self.place.agent.got(f"/v1/conversations/{name}")["escalated"]:
            return
        given = {"verdict": "missed", "source": "complaint"}
        told = self.place.bot.posted(f"/v1/conversations/{name}/outcome", given)
        if self._draw.random() < 0.2:
            self.place.agent.delete(f"/v1/outcomes/{told['id']}").raise_for_status()

    def _audited(self) -> None:
        """Every coin falls; who answers is drawn by the seed."""
        everyone = AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=0.0)
        with self.store.write() as connection:
            audit_tasks.draw_audits(connection, self.place.name, everyone, time.time() + 60)
        while (audit := self.place.agent.got("/v1/audits/next")["audit"]) is not None:
            path, name = f"/v1/audits/{audit['id']}", audit["conversation_id"]
            if self._draw.random() < 0.3:
                self.place.agent.posted(f"{path}/skip")
            else:
                truth = "missed" if self.needed[name] else "fine"
                given = "unknowable" if int(name[1:]) % 9 == 0 else truth
                self.place.agent.posted(f"{path}/outcome", {"verdict": given})

    @property
    def quality(self) -> Any:
        return self.place.engineer.got("/v1/quality")

    def rows(self, model: Any) -> list[Any]:
        rows = table(model)
        with self.store.read() as connection:
            found = connection.execute(select(rows).where(rows.c.workspace == self.place.name))
            return list(found)


class Recount:
    """The counts of every part, one conversation after the other, from what they were made of."""

    def __init__(self, town: Town) -> None:
        self.parts: dict[str, dict[str, Counter[str]]] = {}
        self._conversations = {row.id: row for row in town.rows(Conversation)}
        self._decisions: dict[str, list[Any]] = {}
        for row in sorted(town.rows(Decision), key=lambda row: row.seq):
            if row.probability is not None:
                self._decisions.setdefault(row.conversation_id, []).append(row)
        self._by_id = {row.id: row for rows in self._decisions.values() for row in rows}
        self._handoffs = sorted(town.rows(Handoff), key=lambda row: row.id)
        first = [row for row in town.rows(MessageRow) if row.seq == 1]
        self._language = {row.conversation_id: row.language or "unknown" for row in first}
        holding = [row for row in town.rows(Outcome) if row.retracted_at is None]
        self._verdicts = {row.handoff_id: row.verdict for row in holding if row.handoff_id}
        self._caught = {
            row.conversation_id
            for row in holding
            if row.handoff_id is None and row.verdict == "missed" and row.source != "audit"
        }
        self._audits = {row.conversation_id: row for row in town.rows(Audit)}
        for name, row in self._conversations.items():
            self._count(name, row)
        for row in self._handoffs:
            self._judged(row)

    def _add(self, names: dict[str, set[str]], counts: dict[str, float]) -> None:
        for partition, keys in names.items():
            for key in keys:
                found = self.parts.setdefault(partition, {}).setdefault(key, Counter())
                found.update(counts)

    def _count(self, name: str, row: Any) -> None:
        decided, episodes = (
            self._decisions[name],
            [one for one in self._handoffs if one.conversation_id == name],
        )
        last = self._by_id[episodes[-1].decision_id] if episodes else decided[-1]
        team = episodes[-1].team if episodes else last.team
        names = {
            "by_rule": {t["name"] for one in decided for t in one.triggers} or {NO_TRIGGER},
            "by_team": {team},
            "by_language": {self._language[name]},
            "by_version": {str(last.version)},
            "whole": {""},
        }
        kept = row.status == "closed" and not episodes
        counts: dict[str, float] = {"all": 1, "closed": row.status == "closed"}
        counts |= {"escalated": bool(episodes), "kept": kept}
        if kept and name in self._caught:
            counts["caught"] = 1
        elif kept and name in self._audits:
            said = self._audits[name].verdict or "audits_pending"
            counts[{"unknowable": "audits_unknowable"}.get(said, said)] = 1
        self._add(names, counts)

    def _judged(self, row: Any) -> None:
        decision = self._by_id[row.decision_id]
        names = {
            "by_rule": {t["name"] for t in decision.triggers},
            "by_team": {row.team},
            "by_language": {self._language[row.conversation_id]},
            "by_version": {str(decision.version)},
            "whole": {""},
        }
        self._add(names, {self._verdicts.get(row.id, "pending"): 1})


def same(found: dict[str, Any], counts: Counter[str]) -> None:
    """A part of the answer has the recounted counts, and the rates that follow from them."""
    assert found["conversations"] == {name: counts[name] for name in COUNTS}
    assert {name: found[name] for name in VERDICTS} == {name: counts[name] for name in VERDICTS}
    missed = found["missed"]
    answered = counts["missed"] + counts["fine"]
    expected = missed_rate(counts["kept"], counts["caught"], answered, counts["missed"])
    if 0 < counts["kept"] == counts["caught"]:
        expected = replace(expected, rate=1.0)
    assert missed["kept_conversations"] == counts["kept"]
    assert missed["caught"] == counts["caught"]
    assert (missed["audits_answered"], missed["audits_found_missed"]) == (
        answered,
        counts["missed"],
    )
    for name in ("audits_pending", "audits_unknowable"):
        assert missed[name] == counts[name]
    for name in ("rate", "low", "high"):
        assert missed[name] == pytest.approx(getattr(expected, name)), name
    judged = counts["needed"] + counts["not_needed"]
    false, automation = found["false_escalation_rate"], found["automation_rate"]
    assert (false["count"], false["among"]) == (counts["not_needed"], judged)
    over = counts["kept"] + counts["escalated"]
    assert (automation["count"], automation["among"]) == (counts["kept"] if over else 0, over)
    assert found["cost"]["conversations"] == over


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.long)])
def town(service: InProcess, request: pytest.FixtureRequest) -> Town:
    return Town(service, request.param)


def test_every_part_is_what_a_recount_of_the_rows_gives(town: Town) -> None:
    found, recounted = town.quality, Recount(town).parts
    for partition, parts in recounted.items():
        if partition != "whole":
            assert set(found[partition]) == set(parts), partition
            for name, counts in parts.items():
                same(found[partition][name], counts)
    outcomes = found["handoffs"]["outcomes"]
    same(found | outcomes, recounted["whole"][""])
    assert {"request", "legal", "security", NO_TRIGGER} <= set(found["by_rule"])
    assert set(found["by_version"]) == {"1", "2"}


def test_parts_of_a_partition_and_of_time_add_up_to_the_whole(town: Town) -> None:
    found = town.quality
    whole = found | found["handoffs"]["outcomes"]
    partitions = [list(found[name].values()) for name in PARTITIONS]
    for parts in (*partitions, found["over_time"]["points"]):
        for name in COUNTS:
            assert sum(x["conversations"][name] for x in parts) == whole["conversations"][name]
        for name in VERDICTS:
            assert sum(x[name] for x in parts) == whole[name]
        for name in ("caught", "audits_answered", "audits_pending", "audits_unknowable"):
            assert sum(x["missed"][name] for x in parts) == whole["missed"][name]


def test_every_interval_holds_what_was_true_of_its_part(town: Town) -> None:
    """Of kept conversations by the town's own truth, which no part of the service is told."""
    found, rows = town.quality, town.rows(Conversation)
    kept = [row for row in rows if row.status == "closed" and not row.escalated]
    columns = {"by_language": "language", "by_version": "version", "by_team": "team"}
    held = 0
    for partition, column in columns.items():
        for name, part in found[partition].items():
            these = [r.id for r in kept if str(getattr(r, column) or "unknown") == name]
            if these:
                truth = sum(town.needed[one] for one in these) / len(these)
                assert part["missed"]["low"] - 1e-9 <= truth <= part["missed"]["high"] + 1e-9
                held += 1
    assert held >= 5


def test_what_always_hands_over_has_no_missed_rate_and_says_why(town: Town) -> None:
    asked = town.quality["by_rule"]["request"]
    assert asked["conversations"]["kept"] == 0
    assert (asked["missed"]["rate"], asked["missed"]["low"]) == (None, None)
    assert "handed to a person" in asked["unknown"]["missed"]
    assert asked["missed"]["why"] == asked["unknown"]["missed"]
    assert asked["cost"]["per_conversation"] is not None, "its false escalations are known"
    quiet = town.quality["by_rule"][NO_TRIGGER]
    assert quiet["conversations"]["escalated"] == 0
    assert quiet["unknown"]["false_escalation_rate"] == "there was no handoff"


def test_removed_text_changes_no_rate(service: InProcess) -> None:
    town = Town(service, 3, count=24)
    before = town.quality
    with town.store.write() as connection:
        removal.remove_text(connection, town.place.name, [f"c{n}" for n in range(0, 24, 2)])
    after = town.quality
    for name in ("conversations", "missed", "by_rule", "by_language", "by_version", "by_team"):
        assert after[name] == before[name], name


def test_an_evaluation_tells_its_parts_by_rule_team_language_channel_and_hour(town: Town) -> None:
    report = Maintenance(town.store, Settings()).evaluate_one(town.place.name)
    kinds: dict[str, int] = {}
    for name, part in report.segments.items():
        kind = name.split()[0] if name[0].isalpha() else "hour"
        kinds[kind] = kinds.get(kind, 0) + part["conversations"]
        assert set(part["yardsticks"]) == {RULES_ONLY, ALWAYS_CONTINUE}
    assert set(kinds) == {"rule", "team", "language", "channel", "hour"}
    partitions = {kinds[kind] for kind in ("team", "language", "channel", "hour")}
    assert len(partitions) == 1, "each outcome is in one team, language, channel and hour"
    assert {RULES_ONLY, ALWAYS_CONTINUE} <= set(report.beside["recent"])


def test_the_chart_has_no_more_spans_than_it_shows_and_none_is_empty(town: Town) -> None:
    with town.store.read() as connection:
        for reach in (1.0, 5e4, 5e6, 5e9):
            now = time.time() + 1
            name = town.place.name
            found = over_time(connection, name, Costs(), now - reach, now)
            seconds, points = found["span_seconds"], found["points"]
            times = [point["at"] for point in points]
            assert times == sorted(set(times))
            assert len(points) <= SPANS_MAX
            assert all(point["conversations"]["all"] for point in points)
            assert all((at - 4 * 86_400) % seconds == 0 for at in times)


# The part by itself


@given(
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(0, 400),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_every_figure_is_known_with_its_bounds_or_says_why_not(
    kept: int, escalated: int, missed: int, fine: int, caught: int, needed: int, unneeded: int
) -> None:
    caught = min(caught, kept)
    missed = min(missed, kept - caught)
    fine = min(fine, kept - caught - missed)
    n = missed + fine
    verdicts = Counter({"needed": needed, "not_needed": unneeded})
    part = Segment(all=kept + escalated, escalated=escalated, kept=kept, caught=caught)
    part.found_missed, part.found_fine = missed, fine
    part.weight, part.squares, part.weight_missed = 2.0 * n, 4.0 * n, 2.0 * missed
    part.own_verdicts, part.handed_verdicts = verdicts, verdicts
    found = part.rates(Costs())
    for name in ("automation_rate", "false_escalation_rate", "missed"):
        rate = found[name]
        assert (rate["rate"] is None) == (name in found["unknown"])
        if rate["rate"] is not None:
            assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1
    cost = found["cost"]
    assert (cost["per_conversation"] is None) == ("cost" in found["unknown"])
    if cost["per_conversation"] is not None:
        assert cost["low"] <= cost["per_conversation"] <= cost["high"]


def test_where_all_that_was_kept_was_caught_the_rate_is_known() -> None:
    part = Segment(all=3, kept=3, caught=3)
    assert (part.missed.rate, part.missed.low, part.missed.high) == (1.0, 1.0, 1.0)


def test_intervals_of_parts_hold_a_drifting_truth_in_19_of_20_streams() -> None:
    """Kept conversations whose rate triples, some caught, the rest audited with one chance in 4."""
    draw, held, streams = np.random.default_rng(5), 0, 300
    for _ in range(streams):
        rates = np.linspace(0.05, 0.15, 300)
        missed = draw.random(300) < rates
        caught = missed & (draw.random(300) < 0.2)
        drawn = ~caught & (draw.random(300) < 0.25)
        found = int((missed & drawn).sum())
        part = Segment(kept=300, caught=int(caught.sum()), found_missed=found)
        n = int(drawn.sum())
        part.weight, part.squares, part.weight_missed = 4.0 * n, 16.0 * n, 4.0 * found
        rate = part.missed
        assert rate.low is not None
        assert rate.high is not None
        held += rate.low <= missed.mean() <= rate.high
    assert held >= 0.95 * streams


def test_false_and_automation_rates_are_looked_at_again_and_again() -> None:
    part = Segment(
        kept=30, escalated=10, own_verdicts=Counter({"needed": 6, "not_needed": 2, "pending": 2})
    )
    assert part.false == under_drift(2, 8)
    assert part.automation == under_drift(30, 40)
