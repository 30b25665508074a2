"""The client beside a real service: typed, safe to repeat, bounded, and as the API describes it."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import pytest

from service.client import (
    AsyncBaton,
    Baton,
    ClientOptions,
    ConflictError,
    NotAnsweredError,
    RefusedError,
    RefusedItem,
    RetryPolicy,
    answers,
    operations,
)
from service.client.connection import CONVERSATIONS_MAX, HeldTurns, asks_for_a_person
from service.client.retries import RETRIED, Attempts
from service.runtime.settings import Settings
from service.web.app import create_app
from tests.service_in_process import ASKS, QUIET, InProcess, Place, serving

ROOT = Path(__file__).parents[3]
QUICK = ClientOptions(retries=RetryPolicy(timeout_seconds=1.0, deadline_seconds=30.0))
DEGRADING = ClientOptions(on_error="continue", retries=RetryPolicy(retries=0))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest.fixture
def place(service: InProcess) -> Place:
    return service.workspace()


def client(place: Place, role: str = "bot", **more: Any) -> Baton:
    return Baton(place.service.url, place.keys[role], **more)


class Far:
    """The far side of a connection: it fails as told, else hands on to a real service."""

    def __init__(self, place: Place, failures: list[int | str]) -> None:
        self.failures, self.requests = failures, []  # type: tuple[list[int | str], list[Any]]
        self._onward = httpx.HTTPTransport()
        self._place = place

    def close(self) -> None:
        self._onward.close()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        failure = self.failures.pop(0) if self.failures else None
        if failure == "unreachable":
            raise httpx.ConnectError("nobody listens")
        if isinstance(failure, int):
            return httpx.Response(failure, json={"error": {"code": "x", "message": "so told"}})
        response = self._onward.handle_request(request)
        response.read()
        if failure == "lost":
            raise httpx.ReadError("the answer was lost")
        return response


Through = Callable[..., tuple[Baton, Far]]


@pytest.fixture
def through() -> Iterator[Through]:
    """Clients of a service behind a far side that fails as told; all are closed at the end."""
    with ExitStack() as open_:

        def connect(
            place: Place, *failures: int | str, options: ClientOptions = QUICK
        ) -> tuple[Baton, Far]:
            far = Far(place, list(failures))
            open_.callback(far.close)
            bot = client(place, options=options, transport=httpx.MockTransport(far))
            return open_.enter_context(bot), far

        yield connect


def test_from_a_key_to_a_decision_are_three_lines(service: InProcess, place: Place) -> None:
    url, key = service.url, place.keys["bot"]
    lines = f"""
from service.client import Baton
baton = Baton({url!r}, {key!r})
print(baton.score("c", "I want to talk to a human please").action)
"""
    assert len(lines.strip().splitlines()) == 3
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", lines],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "escalate\n", run.stderr


def test_a_conversation_from_its_first_message_to_its_verdict(place: Place) -> None:
    with client(place) as bot, client(place, "agent") as agent:
        kept = bot.score("c", QUIET, id="m1", bot={"intent": "hours"}, attributes={"plan": "pro"})
        assert (kept.action, kept.degraded, kept.handoff) == ("continue", False, None)
        said = {"id": "b1", "author": "bot", "text": "from 8 to 18"}
        called = bot.score("c", ASKS, id="m2", history=[said], language="en")
        assert called.action == "escalate"
        assert called.handoff is not None
        assert [one.name for one in called.triggers] == ["request"]
        assert [one.id for one in agent.handoffs("waiting")] == [called.handoff.id]
        claimed = agent.claim(called.handoff.id)
        assert claimed.status == "claimed"
        assert bot.score("c", "hello?", id="m3").action == "human_active"
        assert bot.conversation("c").human_active
        assert agent.give_back(called.handoff.id).status == "returned"
        learned = agent.record_verdict(called.handoff.id, "needed", since="m2", note="refund")
        assert (learned.verdict, learned.handoff_id) == ("needed", called.handoff.id)
        assert bot.add_messages("c", [said]).appended == 0
        assert bot.close("c", "resolved").status == "closed"
        assert agent.report_outcome("c", "fine", "agent").verdict == "fine"


def test_a_bot_hands_over_by_itself_and_an_offer_is_answered(place: Place) -> None:
    with client(place) as bot:
        bot.score("c", QUIET)
        handoff = bot.hand_over("c", "stuck", summary="knows no further")
        assert (handoff.opened_by, handoff.reason) == ("bot", "stuck")
        place.offering()
        offered = bot.score("d", "my parcel is not here")
        assert offered.action == "offer"
        assert offered.decision_id is not None
        answered = bot.answer_offer(offered.decision_id, True)
        assert (answered.answer, answered.handoff is None) == ("accepted", False)


def test_a_batch_has_a_decision_or_a_refusal_for_each_item(place: Place) -> None:
    good = {"conversation_id": "c", "message": {"id": "m1", "text": ASKS}}
    with client(place) as bot:
        decided, refused = bot.score_batch([good, {"conversation_id": "c"}])
    assert not isinstance(decided, RefusedItem)
    assert decided.action == "escalate"
    assert isinstance(refused, RefusedItem)
    assert refused.status == 422


@pytest.mark.parametrize("failure", ["unreachable", "lost", *sorted(RETRIED)])
def test_what_was_not_answered_is_sent_again_and_has_one_effect(
    through: Through, place: Place, failure: int | str
) -> None:
    bot, far = through(place, failure)
    assert bot.score("c", ASKS).action == "escalate"
    assert bot.hand_over("c").status == "waiting"
    sent = [one.content for one in far.requests if one.url.path.endswith("/score")]
    assert len(sent) >= 2
    assert set(sent) == {sent[0]}
    assert bot.conversation("c").length == 2, "the message, and that it was handed over"


def test_a_post_without_a_natural_id_carries_one_key_through_all_attempts(
    through: Through, place: Place
) -> None:
    bot, far = through(place, 503, "lost")
    bot.add_messages("c", [{"id": "b1", "author": "bot", "text": "hello"}])
    bot.add_messages("c", [{"id": "b2", "author": "bot", "text": "hello"}])
    keys = [request.headers["Idempotency-Key"] for request in far.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_a_contradiction_is_never_sent_again(through: Through, place: Place) -> None:
    bot, far = through(place)
    bot.score("c", QUIET, id="m1")
    with pytest.raises(ConflictError) as refusal:
        bot.score("c", ASKS, id="m1")
    assert (refusal.value.code, refusal.value.status) == ("message_differs", 409)
    assert refusal.value.hint
    assert len(far.requests) == 2


def test_a_refusal_says_what_to_do(place: Place) -> None:
    with client(place) as bot, pytest.raises(RefusedError) as refusal:
        bot.handoffs()
    assert (refusal.value.status, refusal.value.code) == (403, "role_too_low")
    assert "agent" in str(refusal.value)


def test_whoever_is_no_baton_is_not_believed(place: Place) -> None:
    def page(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html="<p>Sign in to the hotel's network</p>")

    with (
        client(place, transport=httpx.MockTransport(page)) as bot,
        pytest.raises(NotAnsweredError, match="is the address right"),
    ):
        bot.score("c", QUIET)


def test_attempts_end_at_their_number_and_at_the_deadline() -> None:
    attempts = Attempts(RetryPolicy(), begun=100.0)
    assert attempts.timeout(100.0) == 2.0
    first, second = attempts.pause(100.0), attempts.pause(100.5)
    assert first is not None
    assert second is not None
    assert 0.125 <= first <= 0.25 <= second <= 0.5
    assert attempts.pause(101.0) is None, "two follow the first"
    late = Attempts(RetryPolicy(), begun=100.0)
    assert late.timeout(102.5) == 0.5
    assert late.pause(102.9) is None, "no attempt begins after the deadline"
    asked = Attempts(RetryPolicy(), begun=100.0)
    assert asked.pause(100.0, "2") == 2.0
    assert asked.pause(100.0, "3") is None, "Retry-After may ask for more than there is"


def test_retry_after_of_any_shape_is_no_error() -> None:
    for header in ("", "soon", "-1", "1.5", "²", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 400):
        pause = Attempts(RetryPolicy(), begun=0.0).pause(0.0, header)
        assert pause is None or pause <= 0.25


def test_a_client_that_degrades_goes_on_and_tells_the_turn_with_the_next(
    through: Through, place: Place
) -> None:
    bot, _ = through(place, "unreachable", 503, options=DEGRADING)
    first = bot.score("c", "my parcel is lost", id="m1", bot={"intent": "track"})
    said = {"id": "b1", "author": "bot", "text": "here is our page"}
    second = bot.score("c", "it is still lost", id="m2", history=[said])
    assert [(one.action, one.degraded) for one in (first, second)] == [("continue", True)] * 2
    third = bot.score("c", QUIET, id="m3")
    assert not third.degraded
    turns = [(one.id, one.author) for one in bot.conversation("c").messages]
    assert turns == [("m1", "user"), ("b1", "bot"), ("m2", "user"), ("m3", "user")]
    bot.score("c", QUIET, id="m4")
    assert bot.conversation("c").length == 5


def test_an_answer_that_was_lost_while_degraded_is_no_contradiction(
    through: Through, place: Place
) -> None:
    bot, _ = through(place, "lost", options=DEGRADING)
    assert bot.score("c", "my parcel is lost", id="m1").degraded
    assert not bot.score("c", QUIET, id="m2").degraded
    assert bot.conversation("c").length == 2


def test_a_plain_request_escalates_while_baton_is_away(through: Through, place: Place) -> None:
    bot, _ = through(place, *["unreachable"] * 3, options=DEGRADING)
    called = bot.score("c", ASKS, id="m1")
    assert (called.action, called.degraded) == ("escalate", True)
    assert called.triggers[0].message_ids == ["m1"]
    assert bot.score("c", ASKS, author="bot").action == "continue", "a bot asks for nobody"


def test_a_client_that_degrades_still_raises_what_was_refused(
    through: Through, place: Place
) -> None:
    bot, _ = through(place, 422, options=DEGRADING)
    with pytest.raises(RefusedError):
        bot.score("c", QUIET)


@pytest.mark.parametrize(
    "text,asks",
    [
        ("I want to talk to a human", True),
        ("can someone call? let me speak with a real person please", True),
        ("agent", True),
        ("human please", True),
        ("Ich möchte mit einem Mitarbeiter sprechen", True),
        ("je veux parler à un conseiller", True),
        ("quiero hablar con una persona", True),
        ("where is my parcel", False),
        ("my travel agent booked it", False),
        ("the person at the door took it", False),
        ("", False),
        ("talk " * 4000, False),
    ],
)
def test_only_a_plain_request_is_read_without_baton(text: str, asks: bool) -> None:
    assert asks_for_a_person(text) is asks


def test_what_is_held_is_bounded() -> None:
    held = HeldTurns()
    for number in range(CONVERSATIONS_MAX + 5):
        held.hold(f"c{number}", [{"id": str(turn)} for turn in range(300)])
    assert held.before("c0", []) == []
    assert [turn["id"] for turn in held.before("c9", [])] == [str(n) for n in range(100, 300)]
    newest = held.before("c9", [{"id": "299"}, {"id": "x"}])
    assert (len(newest), newest[-1]["id"]) == (200, "x")


def test_the_asynchronous_client_does_the_same(place: Place) -> None:
    async def story() -> list[str]:
        async with AsyncBaton(place.service.url, place.keys["bot"], options=QUICK) as bot:
            first, *others = await asyncio.gather(*(bot.score(f"c{n}", ASKS) for n in range(5)))
            assert {one.action for one in others} == {first.action}
            state = await bot.conversation("c0")
            with pytest.raises(ConflictError):
                await bot.score("c0", "other", id=state.messages[0].id)
            return [first.action, (await bot.hand_over("c0")).status]

    assert asyncio.run(story()) == ["escalate", "waiting"]


def test_both_clients_have_the_same_methods() -> None:
    def of(kind: type) -> dict[str, str]:
        return {
            name: str(get_type_hints(member))
            for name, member in vars(kind).items()
            if isinstance(member, types.FunctionType) and not name.startswith("_")
        }

    plain, asynchronous = of(Baton), of(AsyncBaton)
    assert set(plain) - {"close_connection"} == set(asynchronous) - {"aclose"}
    for name in set(plain) & set(asynchronous) - {"events"}:
        assert plain[name] == asynchronous[name], name


# The description of the API is the contract.

DESCRIBED = create_app(Settings(home=Path("nowhere"))).openapi()
SCHEMAS = DESCRIBED["components"]["schemas"]

ASKED: dict[str, Callable[[], operations.Operation[Any]]] = {
    "POST /v1/score": lambda: operations.score(
        "c",
        "text",
        id=None,
        history=[{"id": "b", "author": "bot", "text": "x"}],
        attributes={"plan": "pro"},
        bot={"intent": "x"},
        advice={"judge": 0.4},
        author="user",
        at="2026-11-28T09:30:00Z",
        language="en",
        format="text",
        attachments=[{"type": "image"}],
    ),
    "POST /v1/score/batch": lambda: operations.score_batch([{}]),
    "POST /v1/decisions/{decision_id}/answer": lambda: operations.answer_offer("d", True),
    "POST /v1/decisions/{decision_id}/advice": lambda: operations.add_advice("d", {"j": 0.5}),
    "POST /v1/conversations/{conversation_id}/messages": lambda: operations.add_messages("c", [{}]),
    "POST /v1/conversations/{conversation_id}/close": lambda: operations.close("c", "resolved"),
    "GET /v1/conversations/{conversation_id}": lambda: operations.conversation_state("c", 2),
    "POST /v1/conversations/{conversation_id}/outcome": lambda: operations.report_outcome(
        "c", "missed", "agent", "m", "note"
    ),
    "POST /v1/handoffs": lambda: operations.hand_over(
        "c", "stuck", summary="x", team="support", priority=1, taken_by="Ana"
    ),
    "GET /v1/handoffs": lambda: operations.list_handoffs("waiting", "support"),
    "GET /v1/handoffs/{handoff_id}": lambda: operations.handoff_packet("h"),
    "POST /v1/handoffs/{handoff_id}/claim": lambda: operations.change_handoff("h", "claim"),
    "POST /v1/handoffs/{handoff_id}/reply": lambda: operations.reply("h", "hello", None),
    "POST /v1/handoffs/{handoff_id}/assign": lambda: operations.change_handoff(
        "h", "assign", {"user": "ana"}
    ),
    "POST /v1/handoffs/{handoff_id}/return": lambda: operations.change_handoff("h", "return"),
    "POST /v1/handoffs/{handoff_id}/resolve": lambda: operations.change_handoff("h", "resolve"),
    "POST /v1/handoffs/{handoff_id}/outcome": lambda: operations.record_verdict(
        "h", "needed", "m", "note", "support"
    ),
}
READ = {
    "DecisionResponse": answers.Decision,
    "ThresholdsResponse": answers.Thresholds,
    "TriggerResponse": answers.Trigger,
    "ReasonResponse": answers.DecisionReason,
    "HandoffSummary": answers.HandoffSummary,
    "WordsResponse": answers.Words,
    "BatchItemError": answers.RefusedItem,
    "Error": answers.ItemError,
    "OfferAnswerResponse": answers.OfferAnswered,
    "LateAdviceResponse": answers.LateAdvice,
    "MessagesResponse": answers.Appended,
    "CloseResponse": answers.Closed,
    "MessageResponse": answers.StoredTurn,
    "Transcript": answers.ConversationState,
    "HandoffResponse": answers.HandoffState,
    "OutcomeResponse": answers.RecordedOutcome,
    "ReplyResponse": answers.Reply,
}


def shape_of(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return dict(SCHEMAS[schema["$ref"].rsplit("/", 1)[1]])
    return schema


@pytest.mark.parametrize("route", ASKED)
def test_what_the_client_sends_is_what_the_api_describes(route: str) -> None:
    method, path = route.split()
    described = DESCRIBED["paths"][path][method.lower()]
    asked = ASKED[route]()
    assert asked.method == method
    url = httpx.URL(asked.path)
    assert [part for part in path.split("/") if "{" not in part] == [
        part for part in url.path.split("/") if len(part) != 1
    ]
    parameters = {one["name"] for one in described.get("parameters", ()) if one["in"] == "query"}
    assert set(url.params) <= parameters
    if asked.body:
        content = described["requestBody"]["content"]["application/json"]["schema"]
        check_body(asked.body, shape_of(content))


def check_body(body: dict[str, Any], shape: dict[str, Any]) -> None:
    """Each field that is sent is described, and each one required is sent."""
    assert set(shape.get("required", ())) <= set(body)
    assert set(body) <= set(shape["properties"])
    for name, value in body.items():
        inner = shape_of(shape["properties"][name])
        if isinstance(value, dict) and "properties" in inner:
            check_body(value, inner)


def test_every_operation_of_the_client_is_held_to_the_description() -> None:
    source = (ROOT / "service" / "client" / "operations.py").read_text()
    made = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and "Operation[" in ast.unparse(node.returns or node)
    } - {"post", "get"}
    named = {name for ask in ASKED.values() for name in ask.__code__.co_names}
    assert made <= named


@pytest.mark.parametrize("name", READ)
def test_what_the_client_reads_is_what_the_api_describes(name: str) -> None:
    """Under its name, always there unless the client can do without, null where it may be."""
    shape, kind = SCHEMAS[name], READ[name]
    for one in dataclasses.fields(kind):
        if answers.LOCAL in one.metadata:
            continue
        assert one.name in shape["properties"], one.name
        optional = one.default is not dataclasses.MISSING
        assert one.name in shape.get("required", ()) or optional, one.name
        nullable = "null" in str(shape["properties"][one.name])
        if nullable:
            assert type(None) in get_args(get_type_hints(kind)[one.name]), one.name


def test_every_answer_that_the_client_reads_is_held_to_the_description() -> None:
    local = {kind for kind in vars(answers).values() if dataclasses.is_dataclass(kind)}
    assert local == set(READ.values())


def test_the_wheel_needs_httpx_and_nothing_of_the_server(tmp_path: Path, place: Place) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path)],
        cwd=ROOT / "service" / "client",
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("baton_client-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (metadata,) = (tmp_path / "site").glob("*.dist-info/METADATA")
    required = [line for line in metadata.read_text().splitlines() if "Requires-Dist" in line]
    assert required == ["Requires-Dist: httpx>=0.28"]
    assert (tmp_path / "site" / "baton_client" / "py.typed").exists()
    packages = Path(httpx.__file__).parents[1]
    program = f"""
import sys
sys.path[:0] = [{str(tmp_path / "site")!r}]
sys.path.append({str(packages)!r})
from baton_client import Baton
print(Baton({place.service.url!r}, {place.keys["bot"]!r}).score("c", {ASKS!r}).action)
ours = ("service", "learning", "experiments", "fastapi", "pydantic", "numpy", "sqlalchemy")
print([name for name in ours if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "escalate\n[]\n", run.stderr
