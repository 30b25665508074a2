"""An erased conversation's text is gone at once, and every process still comes to one model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select
from sqlmodel import SQLModel

from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions
from service.privacy.erasure import erase
from service.runtime.errors import Contradiction, NotFound
from service.store.database.transactions import Store
from service.store.ledger import entries
from service.store.ledger.version_rows import of_line
from service.versions import switches
from service.versions.model_lines import ModelLines, rebuild
from service.versions.restore import advance, restore
from tests.postgres import BOTH, on_both
from tests.running import until
from tests.service_in_process import OTHERS, InProcess, Place, refusal, serving

SECRET = "my card is 5500 0000 0000 0004 and the parcel is broken again"
store_url = on_both(stores=BOTH)


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("erasure"), database=store_url) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace(mode="shadow")


@pytest.fixture
def store(place: Place) -> Store:
    return place.service.baton.store


def taught(place: Place, *names: str, text: str | None = None) -> None:
    for name in names:
        said = text or OTHERS[sum(map(ord, name)) % len(OTHERS)]
        place.bot.decided(name, "m", said)
        place.bot.posted(f"/v1/conversations/{name}/outcome", {"verdict": "missed", "note": said})


def digest(place: Place) -> str:
    return str(place.engineer.got("/v1/standing")["digest"])


def everything(store: Store) -> str:
    """All that the database holds, as text."""
    with store.read() as connection:
        rows = [connection.execute(select(one)).all() for one in SQLModel.metadata.sorted_tables]
    return repr(rows)


def test_its_text_is_nowhere_and_the_model_that_serves_is_the_same(
    place: Place, store: Store
) -> None:
    taught(place, "a", "b")
    taught(place, "secret", text=SECRET)
    taught(place, "c")
    before = digest(place)
    assert "5500 0000" in everything(store)
    done = erase(store, place.name, "secret", actor="dana")
    assert len(done.outcomes) == 1
    assert "5500 0000" not in everything(store)
    found = place.agent.got("/v1/conversations/secret")
    assert (found["status"], found["messages"]) == ("removed", [])
    until(lambda: place.engineer.got("/v1/standing")["position"] == done.position, "followed")
    assert digest(place) == before
    assert checkpoint.digest(restore(store, place.name)) == before
    taught(place, "d")
    assert checkpoint.digest(restore(store, place.name)) == digest(place)


def test_a_rebuild_is_as_if_its_outcomes_had_never_come(place: Place, store: Store) -> None:
    other = place.service.workspace(mode="shadow")
    taught(place, "a", "secret", "b")
    taught(other, "a", "b")
    erase(store, place.name, "secret", actor="dana")
    without = rebuild(store, place.name, "bayes-4", Exclusions())
    never = rebuild(store, other.name, "bayes-4", Exclusions())
    assert checkpoint.digest(without) == checkpoint.digest(never) != digest(place)


def test_erasing_twice_is_erasing_once(place: Place, store: Store) -> None:
    taught(place, "a", "secret")
    first = erase(store, place.name, "secret", actor="dana")
    assert erase(store, place.name, "secret", actor="dana") == first
    assert len(place.ledger("erasure")) == 1


def test_what_comes_later_to_an_erased_conversation_is_refused(place: Place, store: Store) -> None:
    taught(place, "secret")
    erase(store, place.name, "secret", actor="dana")
    refusal(place.bot.score("secret", "m2", OTHERS[0]), 409, "conversation_removed")


def test_a_conversation_with_a_person_at_it_is_not_erased(service: InProcess, store: Store) -> None:
    live = service.workspace()
    live.bot.decided("c", "m", "let me speak to a human agent please")
    with pytest.raises(Contradiction, match="a person is at"):
        erase(store, live.name, "c", actor="dana")
    assert live.agent.got("/v1/conversations/c")["messages"]


def test_a_conversation_that_never_was_is_named(place: Place, store: Store) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        erase(store, place.name, "nobody", actor="dana")


def test_a_version_from_before_can_be_promoted_and_leaves_it_out(
    place: Place, store: Store
) -> None:
    taught(place, "a")
    old = restore(store, place.name)
    with store.write() as connection:
        number = switches.save_version(
            connection, place.name, switches.SerializedState.of(old), line=0, reason="before"
        )
    taught(place, "secret", "b")
    erase(store, place.name, "secret", actor="dana")
    place.engineer.posted(f"/v1/versions/{number}/promote", {"reason": "it was better"})
    taught(place, "c")
    other = place.service.workspace(mode="shadow")
    taught(other, "a", "b", "c")
    assert digest(place) == digest(other)
    assert checkpoint.digest(restore(store, place.name)) == digest(place)


def test_a_process_that_had_not_learned_it_yet_stands_behind_it(place: Place, store: Store) -> None:
    taught(place, "a")
    lagging = ModelLines(store)
    lagging.champion(place.name)
    taught(place, "secret", "b")
    erase(store, place.name, "secret", actor="dana")
    assert checkpoint.digest(lagging.champion(place.name)) == digest(place)


def test_the_predecessor_goes_on_in_the_shadow_without_it(place: Place, store: Store) -> None:
    taught(place, "a")
    with store.write() as connection:
        kept = switches.save_version(
            connection,
            place.name,
            switches.SerializedState.of(restore(store, place.name)),
            line=0,
            reason="x",
        )
    lines = ModelLines(store)
    place.engineer.posted(f"/v1/versions/{kept}/promote", {"reason": "try it"})
    assert lines.previous(place.name) is not None
    taught(place, "secret", "b")
    erase(store, place.name, "secret", actor="dana")
    taught(place, "c")
    for one in (lines, ModelLines(store)):
        previous = one.previous(place.name)
        assert previous is not None
        assert previous.position == place.engineer.got("/v1/standing")["position"]


def test_the_line_is_saved_past_it_once(place: Place, store: Store) -> None:
    taught(place, "secret", "other")
    for name in ("secret", "other"):
        erase(store, place.name, name, actor="dana")
    with store.read() as connection:
        line = entries.switches(connection, place.name)[-1].position
        assert len(of_line(connection, place.name, line, entries.EVER)) == 1
    standing = restore(store, place.name)
    assert checkpoint.digest(advance(store, place.name, standing, 10**6)) == digest(place)
