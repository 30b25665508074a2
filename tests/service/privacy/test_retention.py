"""What is removed by time is never what standing at a kept position, or a replay, still needs."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from sqlalchemy import func, select, update

from experiments.registry.registered_versions import Registry
from learning.decision.policy import AuditBudget
from learning.ledger import checkpoint
from learning.ledger.model_state import TextRemovedError
from service.jobs.maintenance import Maintenance
from service.jobs.registry_retention import RegistryRetention
from service.outcomes import audit_tasks
from service.privacy.erasure import erase
from service.privacy.retention import Retention
from service.runtime.settings import Settings
from service.store.database.transactions import table
from service.store.ledger import entries, mlflow_rows, version_rows
from service.store.tables import Conversation, Evaluation, MessageRow, Version
from service.versions import switches
from service.versions.challengers.challenger_lines import ChallengerLines
from service.versions.mlflow.publish_version import MlflowPublisher
from service.versions.model_lines import ModelLines
from service.versions.restore import restore
from tests.postgres import on_both
from tests.running import NOWHERE
from tests.service_in_process import ASKS, OTHERS, InProcess, Place, refusal, serving

EVERY = 3
DAYS = 7.0
store_url = on_both()


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("retention")
    with serving(home, database=store_url, checkpoint_entries=EVERY) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace(mode="shadow")


@pytest.fixture
def published_place(service: InProcess) -> Place:
    """One whose name no other test gives to MLflow."""
    return service.workspace(mode="shadow", name=f"kept-{secrets.token_hex(4)}")


class Keeping:
    """The jobs of one workspace's retention."""

    def __init__(self, place: Place, **given: Any) -> None:
        self.place, self.store = place, place.service.baton.store
        known = {"checkpoint_entries": EVERY, "mlflow_url": NOWHERE} | given
        self.settings = Settings(**known)
        self.upkeep = Maintenance(self.store, self.settings)
        self.registry = Registry(self.settings.mlflow_url)
        retention = Retention(self.store, self.settings)
        self.publishing = MlflowPublisher(self.store, self.registry)
        self.surplus = RegistryRetention(self.store, self.registry, retention)

    def taught(self, names: list[str], verdict: str = "missed") -> list[str]:
        """Conversations with an outcome each; their decisions."""
        found = []
        for name in names:
            said = OTHERS[sum(map(ord, name)) % len(OTHERS)]
            found.append(self.place.bot.decided(name, "m", said)["decision_id"])
            self.place.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": verdict})
            self.upkeep.checkpoint()
        return found

    def aged(self, *names: str) -> None:
        """As if these had been quiet for longer than anything is kept."""
        rows = table(Conversation)
        with self.store.write() as connection:
            connection.execute(
                update(rows)
                .where(rows.c.workspace == self.place.name, rows.c.id.in_(names))
                .values(last_at=rows.c.last_at - 2 * DAYS * 86_400)
            )

    def texts(self) -> set[str]:
        """Conversations whose messages are there."""
        rows = table(MessageRow)
        with self.store.read() as connection:
            found = connection.execute(
                select(rows.c.conversation_id).where(rows.c.workspace == self.place.name)
            )
            return set(found.scalars())

    def versions(self) -> list[Any]:
        with self.store.read() as connection:
            return list(reversed(version_rows.versions(connection, self.place.name)))

    def digest(self) -> str:
        return str(self.place.engineer.got("/v1/standing")["digest"])

    def stood(self) -> str:
        return checkpoint.digest(restore(self.store, self.place.name))

    def replayed(self, decision: str) -> Any:
        return self.place.agent.got(f"/v1/decisions/{decision}/replay")["identical"]


def named(count: int, kind: str = "c") -> list[str]:
    return [f"{kind}{number}" for number in range(count)]


def test_by_default_nothing_is_ever_removed(place: Place) -> None:
    keeping = Keeping(place)
    keeping.taught(named(10))
    keeping.aged(*named(10))
    before = place.content(), len(keeping.versions())
    keeping.upkeep.remove_old_text()
    keeping.surplus.retire()
    assert (place.content(), len(keeping.versions())) == before


def test_text_goes_when_its_time_is_over_and_two_checkpoints_are_past_it(place: Place) -> None:
    keeping = Keeping(place, keep_days=DAYS)
    keeping.taught(named(11))  # positions 3 to 13, checkpoints at 3, 6, 9, 12
    keeping.aged(*named(9))
    new = keeping.taught(["n0", "n1"])  # 14 and 15; the checkpoint at 15 is the newest
    before = keeping.digest()
    keeping.upkeep.remove_old_text()
    # c9 stays and was decided at position 11, which is stood at from 9 on: 10 and 11 are needed
    assert keeping.texts() == {"c7", "c8", "c9", "c10", "n0", "n1"}
    assert keeping.stood() == keeping.digest() == before
    assert [keeping.replayed(decision) for decision in new] == [True, True]
    assert len(place.ledger()) == 13
    found = place.agent.got("/v1/conversations/c0")
    assert (found["status"], found["messages"], found["decisions"]) == ("removed", [], [])
    assert found["outcomes"][0]["verdict"] == "missed"
    place.engineer.got("/v1/quality")


def test_the_newest_checkpoint_may_be_damaged_after_text_was_removed(place: Place) -> None:
    keeping = Keeping(place, keep_days=DAYS)
    keeping.taught(named(14))
    keeping.aged(*named(14))
    keeping.upkeep.remove_old_text()
    assert keeping.texts(), "the tail behind the last checkpoint but one stays"
    newest, rows = keeping.versions()[-1], table(Version)
    with keeping.store.write() as connection:
        connection.execute(
            update(rows)
            .where(rows.c.workspace == place.name, rows.c.number == newest.number)
            .values(state=b"damaged")
        )
    assert keeping.stood() == keeping.digest()


def test_a_standing_that_would_need_removed_text_is_refused_and_not_silently_another(
    place: Place,
) -> None:
    keeping = Keeping(place, keep_days=DAYS)
    old = keeping.taught(named(12))
    keeping.aged(*named(12))
    keeping.taught(["new"])
    keeping.upkeep.remove_old_text()
    rows = table(Version)
    served = (rows.c.workspace == place.name, rows.c.line > 0)
    with keeping.store.write() as connection:
        kept = [dict(row._mapping) for row in connection.execute(rows.select().where(*served))]
        connection.execute(rows.delete().where(*served))
    with pytest.raises(TextRemovedError, match="was removed"):
        restore(keeping.store, place.name)
    with keeping.store.write() as connection:
        connection.execute(rows.insert(), kept)
    assert keeping.stood() == keeping.digest()
    refusal(place.agent.get(f"/v1/decisions/{old[0]}/replay"), 404, "no_decision")


def test_a_conversation_that_was_removed_goes_on_under_a_new_name_only(place: Place) -> None:
    keeping = Keeping(place, keep_days=DAYS)
    keeping.taught(named(12))
    keeping.aged("c0")
    keeping.taught(["new"])
    keeping.upkeep.remove_old_text()
    refusal(place.bot.score("c0", "m2", OTHERS[0]), 409, "conversation_removed")
    place.bot.decided("c0-again", "m", OTHERS[0])


def test_whoever_waits_keeps_the_text_and_all_that_their_decision_stands_on(
    service: InProcess,
) -> None:
    place = service.workspace(mode="live")
    keeping = Keeping(place, keep_days=DAYS)
    decided = place.bot.decided("waiting", "m", ASKS)
    keeping.taught(named(12), "fine")
    keeping.aged("waiting", *named(12))
    keeping.taught(["new"])
    keeping.upkeep.remove_old_text()
    assert {"waiting", *named(12)} < keeping.texts()
    assert keeping.replayed(decided["decision_id"]) is True
    place.agent.posted(f"/v1/handoffs/{decided['handoff']['id']}/resolve")
    keeping.aged("waiting")
    keeping.upkeep.remove_old_text()
    assert not {"waiting", "c0", "c1"} & keeping.texts()


def test_what_a_promotion_s_predecessor_has_yet_to_learn_stays(place: Place) -> None:
    """Rolled back to, it goes on with what it learned in the shadow."""
    keeping = Keeping(place, keep_days=DAYS)
    keeping.taught(named(7))
    place.engineer.posted("/v1/versions/2/promote", {"reason": "a test"})
    keeping.taught(named(9, "d"))
    keeping.aged(*named(7), *named(9, "d"))
    Retention(keeping.store, keeping.settings).remove_text()
    assert "c0" not in keeping.texts()
    previous = ModelLines(keeping.store).previous(place.name)
    assert previous is not None
    assert previous.position == place.engineer.got("/v1/standing")["position"]


def test_what_a_challenger_has_yet_to_learn_stays(place: Place) -> None:
    """Until it is built that is everything, then what came since."""
    keeping = Keeping(place, keep_days=DAYS)
    everything = {*named(12), *named(9, "d")}
    keeping.taught(named(12))
    place.engineer.posted("/v1/challengers", {"recipe": "bayes-4", "reason": "a test"})
    keeping.aged(*named(12))
    keeping.upkeep.remove_old_text()
    assert keeping.texts() == set(named(12))
    keeping.upkeep.build_challengers()
    keeping.taught(named(9, "d"))
    keeping.aged(*everything)
    keeping.upkeep.remove_old_text()
    assert "c0" not in keeping.texts()
    head = place.engineer.got("/v1/standing")["position"]
    (one,) = ChallengerLines(keeping.store).open(place.name, head)
    assert one.model_state.position == head


def test_the_checkpoint_that_a_decision_stands_on_stays_as_long_as_the_decision(
    place: Place,
) -> None:
    """The text before it is gone, so that no older one reaches the decision."""
    keeping = Keeping(place, keep_days=DAYS, keep_checkpoints=2)
    keeping.taught(named(9))  # positions 3 to 11, checkpoints at 3, 6, 9
    stays = place.bot.decided("stays", "m", OTHERS[0])["decision_id"]
    keeping.taught(named(12, "d"))
    keeping.aged(*named(9))
    keeping.upkeep.remove_old_text()
    assert "c0" not in keeping.texts()
    keeping.surplus.retire()
    assert [row.position for row in keeping.versions() if row.line] == [9, 12, 15, 18, 21]
    assert keeping.replayed(stays) is True


def test_what_waits_for_a_review_stays(place: Place) -> None:
    keeping = Keeping(place, keep_days=DAYS)
    place.bot.decided("kept", "m", OTHERS[0])
    place.bot.posted("/v1/conversations/kept/close", {"resolution": "resolved"})
    everyone = AuditBudget(uniform_share=1.0, targeted_share=0.0, double_share=0.0)
    with keeping.store.write() as connection:
        audit_tasks.draw_audits(connection, place.name, everyone, time.time() + 60)
    keeping.aged("kept")
    keeping.upkeep.remove_old_text()
    audit = place.agent.got("/v1/audits/next")["audit"]
    assert [turn["id"] for turn in audit["transcript"]] == ["m"]
    place.agent.posted(f"/v1/audits/{audit['id']}/outcome", {"verdict": "unknowable"})
    keeping.taught(named(12))
    keeping.aged("kept", *named(12))
    keeping.taught(["new"])
    keeping.upkeep.remove_old_text()
    assert "kept" not in keeping.texts()


def test_two_checkpoints_of_a_line_stay_and_those_behind_aliases_and_those_asked_for(
    place: Place,
) -> None:
    keeping = Keeping(place, keep_checkpoints=1)
    keeping.taught(named(16))
    packed = switches.SerializedState.of(ModelLines(keeping.store).champion(place.name))
    with keeping.store.write() as connection:
        version_rows.mark_published(connection, place.name, 3, "3")
        mlflow_rows.record_alias(connection, place.name, "champion", intended="3")
        for number in (1, 2, 4, 5, 6, 7):
            version_rows.mark_published(connection, place.name, number, str(number))
        for _ in range(4):  # asked for and never served: an engineer or a challenger wants them
            switches.save_version(connection, place.name, packed, line=0, reason="asked for")
    gone = [
        number
        for number, _ in Retention(keeping.store, keeping.settings).surplus_versions(place.name)
    ]
    assert gone == [2, 4, 5]


def mlflow_has(keeping: Keeping) -> dict[int, str]:
    """Baton's numbers of the versions that MLflow has, with the place of their files."""
    client, name = keeping.registry._client, f"baton-{keeping.place.name}"
    found = {}
    for version in client.search_model_versions(f"name = '{name}'", max_results=100):
        model = client.get_logged_model(version.source.removeprefix("models:/"))
        found[int(version.tags["baton.version"])] = model.artifact_location
    return found


def files(keeping: Keeping, location: str) -> list[str]:
    url = keeping.registry.tracking_uri
    return [str(one.path) for one in mlflow.artifacts.list_artifacts(location, tracking_uri=url)]


@pytest.mark.long
def test_checkpoints_beyond_those_kept_go_from_mlflow_too_with_their_files(
    published_place: Place, mlflow_url: str
) -> None:
    keeping = Keeping(published_place, mlflow_url=mlflow_url, keep_checkpoints=2)
    name = published_place.name
    keeping.taught(named(16))
    keeping.publishing.publish(name)
    before = mlflow_has(keeping)
    assert sorted(before) == [1, 2, 3, 4, 5, 6, 7]
    third = next(row for row in keeping.versions() if row.number == 3).registry_version
    keeping.registry.set_alias(name, "mine", third)

    away = Keeping(published_place, keep_checkpoints=2)
    away.surplus.retire(name)
    assert len(keeping.versions()) == 7, "nothing goes while MLflow is away"

    keeping.surplus.retire(name)
    # 1 is named by the switch, 3 has an engineer's alias, the two newest are kept
    assert [row.number for row in keeping.versions()] == [1, 3, 6, 7]
    assert sorted(mlflow_has(keeping)) == [1, 3, 6, 7]
    assert [files(keeping, before[number]) != [] for number in sorted(before)] == [
        *(True, False, True, False, False, True, True),
    ]  # fmt: skip
    aliases = keeping.registry.aliases(name)
    assert aliases["mine"] == third
    assert {"champion", "anchor"} < set(aliases)
    assert keeping.stood() == keeping.digest()

    keeping.registry.drop_alias(name, "mine")
    keeping.surplus.retire(name)
    assert sorted(mlflow_has(keeping)) == [1, 6, 7]


@pytest.mark.long
def test_evaluations_beyond_those_kept_go_from_both_sides_unless_they_led_to_something(
    published_place: Place, mlflow_url: str
) -> None:
    keeping = Keeping(published_place, mlflow_url=mlflow_url, keep_evaluations=2)
    store, name = keeping.store, published_place.name
    for number in range(6):
        keeping.taught([f"e{number}"])
        keeping.upkeep.evaluate_one(name)
    rows = table(Evaluation)
    mine = rows.c.workspace == name

    def kept() -> list[Any]:
        with store.read() as connection:
            found = connection.execute(rows.select().where(mine).order_by(rows.c.position))
            return list(found.all())

    acted = kept()[1]
    with store.write() as connection:
        report = acted.report | {"verdict": "roll back"}
        connection.execute(update(rows).where(rows.c.id == acted.id).values(report=report))
    keeping.surplus.retire(name)
    assert len(kept()) == 6, "what MLflow is still owed stays"
    for _ in range(2):
        keeping.publishing.publish(name)
    all_of_them = kept()
    assert None not in [row.run_id for row in all_of_them]

    keeping.surplus.retire(name)
    assert [row.id for row in kept()] == [acted.id, *(row.id for row in all_of_them[-2:])]
    client = keeping.registry._client
    experiment = client.get_experiment_by_name(f"baton/{name}").experiment_id
    runs = client.search_runs([experiment], max_results=1000)
    made = {run.data.tags.get("baton.evaluation") for run in runs} - {None}
    assert made == {row.id for row in kept()}
    gone = client.get_run(all_of_them[0].run_id)
    assert gone.info.lifecycle_stage == "deleted"
    assert files(keeping, gone.info.artifact_uri) == []


def test_an_erased_conversation_leaves_the_runs_that_showed_it_and_they_come_anew_without_it(
    published_place: Place, mlflow_url: str, tmp_path: Path
) -> None:
    keeping = Keeping(published_place, mlflow_url=mlflow_url)
    store, name = keeping.store, published_place.name
    keeping.taught(["shown-one", "shown-other"])
    keeping.upkeep.evaluate_one(name)
    rows = table(Evaluation)

    def newest() -> Any:
        with store.read() as connection:
            return mlflow_rows.last_evaluation(connection, name)

    mistakes = [
        {"conversation": one, "position": 3, "what": "missed", "probability": 0.1, "cost": 4.0}
        | {"at": 1.0, "regret": 3.6}
        for one in ("shown-one", "shown-other")
    ]
    with store.write() as connection:
        report = newest().report | {"mistakes": mistakes}
        changed = update(rows).where(rows.c.id == newest().id).values(report=report)
        connection.execute(changed)
    keeping.publishing.publish(name)
    before = newest().run_id
    client = keeping.registry._client

    def shown(run: str) -> str:
        (tmp_path / run).mkdir(exist_ok=True)
        folder = mlflow.artifacts.download_artifacts(
            artifact_uri=client.get_run(run).info.artifact_uri,
            dst_path=str(tmp_path / run),
            tracking_uri=mlflow_url,
        )
        texts = [path.read_text() for path in Path(folder).rglob("*.*") if path.suffix != ".png"]
        return "".join(texts) + str(client.get_run(run).data.tags)

    assert "shown-one" in shown(before)
    erase(store, name, "shown-one", actor="dana")
    keeping.publishing.publish(name)
    after = newest().run_id
    assert after not in {None, before}
    assert client.get_run(before).info.lifecycle_stage == "deleted"
    assert files(keeping, client.get_run(before).info.artifact_uri) == []
    assert "shown-one" not in shown(after)
    assert "shown-other" in shown(after)


def test_versions_named_by_a_switch_stay_and_can_serve_again(place: Place) -> None:
    keeping = Keeping(place, keep_checkpoints=2)
    keeping.taught(named(7))
    target = keeping.versions()[1].number
    answer = place.engineer.posted("/v1/rollback", {"to": target, "reason": "a test"})
    assert answer["serving"] is True
    keeping.taught(named(9, "d"))
    keeping.surplus.retire()
    assert target in [row.number for row in keeping.versions()]
    assert keeping.stood() == keeping.digest()
    place.engineer.posted(f"/v1/versions/{target}/promote", {"reason": "again"})
    assert keeping.stood() == keeping.digest()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_in_any_order_what_stays_can_be_stood_at_and_decided_again(place: Place, seed: int) -> None:
    draw = random.Random(seed)
    keeping = Keeping(place, keep_days=DAYS, keep_checkpoints=2)
    decisions: dict[str, str] = {}
    for step in range(12):
        names = [f"s{step}-{n}" for n in range(draw.randint(1, 6))]
        made = keeping.taught(names, draw.choice(("missed", "fine")))
        decisions |= dict(zip(names, made, strict=True))
        what = draw.randrange(5)
        if what == 0 and step > 3:
            served = [row.number for row in keeping.versions() if row.line]
            try_it = {"to": draw.choice(served[-2:]), "reason": "a test"}
            place.engineer.posted("/v1/rollback", try_it)
        elif what >= 2:
            keeping.aged(*draw.sample(sorted(decisions), len(decisions) // 2))
            keeping.upkeep.remove_old_text()
        if what % 2:
            keeping.surplus.retire()
        assert keeping.stood() == keeping.digest()
        kept = keeping.texts()
        recent = [
            d for name, d in decisions.items() if name in kept and name.startswith(f"s{step}")
        ]
        assert {keeping.replayed(decision) for decision in recent} <= {True}
    with keeping.store.read() as connection:
        head = entries.heads(connection, [place.name])[place.name][0]
        rows = table(Conversation)
        gone = connection.execute(
            select(func.count())
            .select_from(rows)
            .where(rows.c.workspace == place.name, rows.c.status == "removed")
        ).scalar_one()
    assert head > 20
    assert gone > 0
