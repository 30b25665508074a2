"""Whatever is sent: the right status, the one shape of errors, a field, a way out, nothing written.

Requests go over a real socket, because half of what can be wrong is wrong before it is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.web.middleware import BODY_BYTES_MAX
from tests.service_in_process import QUIET, InProcess, Place, refusal, serving

JSON = {"Content-Type": "application/json"}
NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("bad")) as running:
        yield running


@pytest.fixture(scope="module")
def written(service: InProcess) -> Place:
    """One workspace for all tests; those that write say so by asking for it by this name."""
    place = service.workspace()
    place.bot.decided("there", "m1", QUIET)
    return place


@pytest.fixture
def place(written: Place) -> Iterator[Place]:
    """The same, and nothing may have been written to it in the end."""
    before = written.content()
    yield written
    assert written.content() == before


def scored(**changes: Any) -> dict[str, Any]:
    return {"conversation_id": "bad", "message": {"id": "m", "text": "x"}} | changes


def message(**changes: Any) -> dict[str, Any]:
    return scored(message={"id": "m", "text": "x"} | changes)


def turn(**changes: Any) -> dict[str, Any]:
    return scored(history=[{"id": "h", "author": "bot", "text": "x"} | changes])


def turns(count: int) -> list[dict[str, Any]]:
    return [{"id": f"h{n}", "author": "bot", "text": "x"} for n in range(count)]


SHAPES: list[tuple[dict[str, Any], str, str]] = [
    # the body, the field at fault, what the message must say
    ({"message": {"id": "m", "text": "x"}}, "conversation_id", "is required"),
    ({"conversation_id": "bad"}, "message", "is required"),
    (scored(message={"text": "x"}), "message.id", "is required"),
    (scored(message={"id": "m"}), "message", "needs text, or attachments"),
    (scored(nope=1), "nope", "is not a field here"),
    (message(nope=1), "message.nope", "is not a field here"),
    (turn(nope=1), "history.0.nope", "is not a field here"),
    (scored(bot={"nope": 1}), "bot.nope", "is not a field here"),
    (scored(conversation_id=5), "conversation_id", "string"),
    (scored(conversation_id=True), "conversation_id", "string"),
    (scored(conversation_id=""), "conversation_id", "at least 1"),
    (scored(conversation_id="x" * 201), "conversation_id", "at most 200"),
    (scored(conversation_id="a\x00b"), "conversation_id", "control characters"),
    (message(id="a\nb"), "message.id", "control characters"),
    (scored(conversation_id="baton:x"), "conversation_id", "baton:"),
    (scored(conversation_id=".."), "conversation_id", "choose another id"),
    (scored(message=[]), "message", "object"),
    (scored(message=None), "message", "object"),
    (message(id="baton:returned:h1"), "message.id", "baton:"),
    (message(text=5), "message.text", "string"),
    (message(text=None), "message.text", "string"),
    (message(text="a\x00b"), "message.text", "U+0000"),
    (message(author="agent"), "message.author", "'user' or 'bot'"),
    (message(language="x" * 36), "message.language", "35"),
    (message(at="soon"), "message.at", "datetime"),
    (message(at=NAN), "message.at", "NaN"),
    (message(at=1e30), "message.at", "9999"),
    (message(at=10**400), "message.at", "datetime"),
    (message(at=-1), "message.at", "1971"),
    (message(at="0001-01-01T00:00:00+14:00"), "message.at", "1971"),
    (message(at="9999-12-31T23:59:59-14:00"), "message.at", "2999"),
    (message(at=[2026]), "message.at", "datetime"),
    (turn(author="customer"), "history.0.author", "'user', 'bot', 'agent' or 'system'"),
    (turn(id=""), "history.0.id", "at least 1"),
    (turn(at="2026-13-01"), "history.0.at", "datetime"),
    (scored(history={}), "history", "list"),
    (scored(history=["x"]), "history.0", "object"),
    (scored(history=turns(201)), "history", "200"),
    (scored(history=turns(10_000)), "history", "200"),
    (scored(bot="good"), "bot", "object"),
    (scored(bot={"confidence": 1.5}), "bot.confidence", "less than or equal to 1"),
    (scored(bot={"confidence": NAN}), "bot.confidence", "finite"),
    (scored(bot={"confidence": "high"}), "bot.confidence", "number"),
    (scored(bot={"fallback": "perhaps"}), "bot.fallback", "boolean"),
    (scored(bot={"tool_error": "x" * 501}), "bot.tool_error", "500"),
    (scored(attributes=[]), "attributes", "object"),
    (scored(attributes={"a": NAN}), "attributes.a", "finite"),
    (scored(attributes={"a": INFINITE}), "attributes.a", "finite"),
    (scored(attributes={"a": {}}), "attributes.a", "text"),
    (scored(attributes={"a": None}), "attributes.a", "text"),
    (scored(attributes={"a": "x" * 501}), "attributes.a", "500"),
    (scored(attributes={"": 1}), "attributes.", "at least 1"),
    (scored(attributes={f"a{n}": n for n in range(51)}), "attributes", "50"),
]


@pytest.mark.parametrize("body, field, says", SHAPES)
def test_a_score_out_of_shape_is_refused_by_field(
    place: Place, body: dict[str, Any], field: str, says: str
) -> None:
    answer = place.bot.post("/v1/score", content=json.dumps(body), headers=JSON)
    error = refusal(answer, 422)
    assert error["field"] == field
    assert error["message"].startswith(f"{field}: ")
    assert says in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("body, field, says", SHAPES)
def test_in_a_batch_the_same_fault_is_that_items_alone(
    place: Place, body: dict[str, Any], field: str, says: str
) -> None:
    content = json.dumps({"items": [body]})
    (result,) = place.bot.post("/v1/score/batch", content=content, headers=JSON).json()["results"]
    assert (result["status"], result["error"]["field"]) == (422, field)
    assert says in result["error"]["message"]
    assert result["error"]["hint"]


OTHERS: list[tuple[str, str, Any, str, str]] = [
    ("POST", "/v1/score/batch", {"items": []}, "items", "at least 1"),
    ("POST", "/v1/score/batch", {"items": [{}] * 257}, "items", "256"),
    ("POST", "/v1/score/batch", {"items": ["x"]}, "items.0", "object"),
    ("POST", "/v1/score/batch", {"item": []}, "items", "is required"),
    ("POST", "/v1/conversations/there/messages", {"messages": []}, "messages", "at least 1"),
    ("POST", "/v1/conversations/there/messages", {"messages": turns(201)}, "messages", "200"),
    ("POST", "/v1/conversations/there/close", {}, "resolution", "is required"),
    ("POST", "/v1/conversations/there/close", {"resolution": "done"}, "resolution", "'resolved'"),
    ("POST", "/v1/conversations/there/outcome", {}, "body", "either verdict or labels"),
    ("POST", "/v1/conversations/there/outcome", {"verdict": "yes"}, "verdict", "'missed'"),
    ("POST", "/v1/conversations/there/outcome", {"labels": []}, "labels", "at least 1"),
    (
        "POST",
        "/v1/conversations/there/outcome",
        {"labels": [{"message_id": "m1", "label": 1.5}]},
        "labels.0.label",
        "less than or equal to 1",
    ),
    (
        "POST",
        "/v1/conversations/there/outcome",
        {"labels": [{"message_id": "m1", "label": 1, "weight": 0}]},
        "labels.0.weight",
        "greater than 0",
    ),
    (
        "POST",
        "/v1/conversations/there/outcome",
        {"labels": [{"message_id": f"m{n}", "label": 1} for n in range(2001)]},
        "labels",
        "2000",
    ),
    (
        "POST",
        "/v1/conversations/there/outcome",
        {"verdict": "fine", "note": "x" * 4001},
        "note",
        "4000",
    ),
    ("POST", "/v1/handoffs/h/outcome", {"verdict": "missed"}, "verdict", "'needed'"),
    ("POST", "/v1/decisions/d/answer", {"accepted": "perhaps"}, "accepted", "boolean"),
    ("POST", "/v1/rollback", {}, "reason", "is required"),
    ("POST", "/v1/rollback", {"reason": "x", "to": 0}, "to", "greater than or equal to 1"),
    ("POST", "/v1/rollback", {"reason": "x", "to": 10**30}, "to", "2147483647"),
    ("POST", "/v1/versions/0/promote", {}, "number", "greater than or equal to 1"),
    ("GET", "/v1/versions/99999999999999999999", None, "number", "2147483647"),
    ("GET", f"/v1/versions/{'9' * 5000}", None, "number", "integer"),
    ("GET", "/v1/versions/one", None, "number", "integer"),
    ("GET", "/v1/handoffs?status=open", None, "status", "'waiting'"),
    ("GET", "/v1/handoffs?limit=1001", None, "limit", "1000"),
    ("GET", "/v1/handoffs?limit=0", None, "limit", "1"),
    ("GET", "/v1/handoffs?team=%00", None, "team", "U+0000"),
    ("GET", f"/v1/handoffs/{'x' * 201}", None, "handoff_id", "200"),
    ("GET", "/v1/conversations/%00", None, "conversation_id", "control"),
    ("GET", "/v1/conversations/%2E%2E", None, "conversation_id", "choose another id"),
    ("GET", "/v1/conversations/", None, "conversation_id", "at least 1"),
    ("POST", "/v1/keys", {"role": "owner"}, "role", "'bot', 'agent', 'lead', 'engineer', 'admin'"),
    ("POST", "/v1/keys", {"role": "bot", "name": ""}, "name", "at least 1"),
    ("PUT", "/v1/workspaces/x/mode", {"mode": "off"}, "mode", "'live' or 'shadow'"),
]


@pytest.mark.parametrize("method, path, body, field, says", OTHERS)
def test_every_other_route_names_the_field_too(
    place: Place, method: str, path: str, body: Any, field: str, says: str
) -> None:
    error = refusal(place.admin.request(method, path, json=body), 422)
    assert error["field"] == field
    assert says in error["message"]
    assert error["hint"]


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"hello",
    "half": b'{"conversation_id": "bad", ',
    "not UTF-8": b'{"conversation_id": "bad\xff", "message": {"id": "m", "text": "x"}}',
    "UTF-16": json.dumps(scored()).encode("utf-16"),
    "a lone surrogate as a byte": json.dumps(scored()).encode().replace(b'"x"', b'"\xed\xa0\x80"'),
    "nested too deeply": b"[" * 100_000,
    "objects nested too deeply": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 5000 digits": b'{"attributes": {"a": ' + b"9" * 5000 + b"}}",
}
ROUTES = ("/v1/score", "/v1/conversations/there/messages")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_body_that_is_no_json_is_400_and_says_why(place: Place, path: str, kind: str) -> None:
    answer = place.bot.post(path, content=UNREADABLE[kind], headers=JSON)
    if not UNREADABLE[kind] and path != "/v1/score":
        assert refusal(answer, 422, "missing")["field"] == "body"
        return
    if kind in ("UTF-16", "a lone surrogate as a byte") and path != "/v1/score":
        refusal(answer, 422)
        return
    error = refusal(answer, 400, "not_json")
    assert "body is not JSON" in error["message"]
    assert "UTF-8" in error["hint"]


SURROGATES = [
    {"conversation_id": "\ud800", "message": {"id": "m", "text": "x"}},
    message(id="\udfff"),
    message(text="a \ud83d b"),
    scored(attributes={"\ud800": 1}),
    scored(attributes={"a": "\ud800"}),
    {"\ud800": 1},
]


@pytest.mark.parametrize("body", SURROGATES)
def test_lone_surrogates_are_refused_wherever_they_stand(place: Place, body: Any) -> None:
    alone = place.bot.post("/v1/score", content=json.dumps(body), headers=JSON)
    assert alone.status_code in (400, 422)
    refusal(alone, alone.status_code)
    batch = place.bot.post(
        "/v1/score/batch", content=json.dumps({"items": [body, body]}), headers=JSON
    )
    assert [one["status"] for one in batch.json()["results"]] == [422, 422]
    raw = place.bot.post(
        "/v1/conversations/there/messages",
        content=json.dumps({"messages": [{"id": "s", "author": "bot", "text": "\ud800"}]}),
        headers=JSON,
    )
    assert refusal(raw, 422)["field"] == "messages.0.text"


@pytest.mark.parametrize("body", ["null", "[]", '"x"', "5", "true"])
@pytest.mark.parametrize("path", [*ROUTES, "/v1/score/batch"])
def test_a_body_must_be_an_object(place: Place, path: str, body: str) -> None:
    error = refusal(place.bot.post(path, content=body, headers=JSON), 422)
    assert error["field"] == "body"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_another_content_type_is_refused_with_the_right_one_named(place: Place, kind: str) -> None:
    body = json.dumps({"messages": turns(1)})
    answer = place.bot.post(
        "/v1/conversations/there/messages", content=body, headers={"Content-Type": kind}
    )
    assert "application/json" in refusal(answer, 422)["hint"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_even_without_a_length(
    place: Place, path: str, chunked: bool
) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 2**20 + 1):
            yield b" " * 2**20

    content: Any = pieces() if chunked else b"".join(pieces())
    error = refusal(place.bot.post(path, content=content, headers=JSON), 413, "body_too_large")
    assert str(BODY_BYTES_MAX) in error["message"]
    assert error["hint"]


def test_a_body_in_pieces_without_a_length_is_read(written: Place) -> None:
    body = json.dumps(scored(conversation_id="pieces")).encode()
    answer = written.bot.post(
        "/v1/score", content=iter([body[:9], body[9:40], body[40:]]), headers=JSON
    )
    assert answer.status_code == 200


IDS = (
    "a/b",
    "/",
    "a//b/",
    "with space",
    "100%",
    "%2F",
    "%00",
    "a/../b",
    "...",
    "a?b#c&d=e",
    "x/messages",
    "x/outcome/close",
    "😀",
    "ünï·çøde",
    "日本語",
    "नमस्ते",
    "'; DROP TABLE conversation; --",
    "<b>\\\"'</b>",
    "x" * 200,
)


@pytest.mark.parametrize(
    "name", [" ", "\u3000", "a\u202eb", "a\u200bb", "\ufeffa", "a\u2028b", "a\x85b", "a\u2067b"]
)
def test_an_id_that_would_show_as_another_is_refused(place: Place, name: str) -> None:
    answer = place.bot.post("/v1/score", json=scored(conversation_id=name))
    assert refusal(answer, 422)["field"] == "conversation_id"


@pytest.mark.parametrize("name", IDS)
def test_an_id_may_hold_any_character_and_comes_back_as_it_was(written: Place, name: str) -> None:
    decided = written.bot.decided(name, name, QUIET)
    path = f"/v1/conversations/{quote(name, safe='')}"
    sent = {"messages": [{"id": f"b{name}"[:200], "author": "bot", "text": "ok"}]}
    assert written.bot.posted(f"{path}/messages", sent)["conversation_id"] == name
    told = written.bot.posted(f"{path}/outcome", {"verdict": "fine"})
    assert told["conversation_id"] == name
    assert written.bot.posted(f"{path}/close", {"resolution": "resolved"})["status"] == "closed"
    found = written.agent.got(path)
    assert (found["id"], found["messages"][0]["id"]) == (name, name)
    assert found["decisions"][0]["id"] == decided["decision_id"]
    assert written.agent.got(f"/v1/decisions/{decided['decision_id']}/replay")["identical"] is True


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\u200b", "🙂" * 10_000, "a" * 20_000, "!" * 20_000, "I' m " * 4000]
)
def test_any_text_within_the_limit_is_decided(written: Place, text: str) -> None:
    name = f"text {len(text)} {text[:3]!r}"
    decided = written.bot.decided(name, "m", text)
    assert 0 <= decided["probability"] <= 1
    assert written.agent.got(f"/v1/conversations/{quote(name, safe='')}")["messages"][0][
        "text"
    ] == (text)


@pytest.mark.parametrize("path", ["/x", "/v1", "/v2/score", "/v1/scores", "/v1/handoffs/a/b", "//"])
def test_an_unknown_path_says_where_the_routes_are_listed(place: Place, path: str) -> None:
    error = refusal(place.admin.get(place.service.url + path), 404, "no_route")
    assert "/openapi.json" in error["hint"]


@pytest.mark.parametrize(
    "method, path",
    [("GET", "/v1/score"), ("DELETE", "/v1/policy"), ("PATCH", "/v1/rollback"), ("PUT", "/readyz")],
)
def test_an_unknown_method_names_those_that_are(place: Place, method: str, path: str) -> None:
    answer = place.admin.request(method, path)
    refusal(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


def test_a_key_is_asked_for_before_the_shape_is_told(place: Place) -> None:
    stranger = place.service.caller()
    for path in (*ROUTES, "/v1/rollback"):
        refusal(stranger.post(path, json={"nope": 1}), 401, "no_key")
    refusal(place.bot.post("/v1/rollback", json={"nope": 1}), 403, "role_too_low")


@pytest.mark.parametrize(
    "route",
    [
        "GET /v1/decisions/none",
        "GET /v1/handoffs/none",
        "DELETE /v1/outcomes/none",
        "DELETE /v1/challengers/none",
        "GET /v1/versions/99",
        "DELETE /v1/keys/none",
        "DELETE /v1/webhooks/none",
        "POST /v1/deliveries/none/resend",
    ],
)
def test_what_is_not_there_says_where_to_look(place: Place, route: str) -> None:
    error = refusal(place.admin.request(*route.split()), 404)
    assert "/v1/" in error["hint"]


def test_every_answer_carries_the_requests_id(place: Place) -> None:
    given_ = place.bot.get("/v1/nope", headers={"X-Request-Id": "abc-123"})
    assert given_.headers["x-request-id"] == "abc-123"
    odd = place.bot.get("/v1/nope", headers={"X-Request-Id": "x" * 101})
    assert len(odd.headers["x-request-id"]) == 16


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["conversation_id", "message", "id", "text", "history", "bot"])
                | st.text(max_size=5),
                inner,
                max_size=6,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_whatever_breaks_anything(written: Place, body: Any) -> None:
    for path in ("/v1/score", "/v1/conversations/there/outcome", "/v1/rollback"):
        answer = written.admin.post(path, content=json.dumps(body), headers=JSON)
        if answer.status_code != 200:
            assert answer.status_code in (400, 404, 409, 422)
            refusal(answer, answer.status_code)
