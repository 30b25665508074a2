"""Judge: a language model asked about decisions that its answer could change, while the customer
writes on. What it answers is late advice; no decision waits for it.

A question is committed before it is sent, so it counts against the budget whatever comes of it,
and is never sent twice.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping
from typing import Any

import httpx
import structlog
from sqlalchemy import Connection

from learning.models.mixture.advisers import SHARE
from service.connections.http.addresses import AddressPolicy
from service.connections.http.http_request import HttpAnswer, send
from service.connections.judge.breaker import Breaker
from service.connections.judge.chat_answer import P_MIN, NoLogprobsError, read_probability
from service.connections.judge.question import (
    Form,
    adviser_name,
    request_body,
    transcript_digest,
    transcript_json,
)
from service.runtime.errors import RequestRefused
from service.runtime.ids import new_id
from service.runtime.settings import Settings
from service.scoring import late_advice
from service.store.conversations import conversation_rows
from service.store.conversations.batch import Batch, StateCache
from service.store.database.clock import database_time
from service.store.database.transactions import Store
from service.store.reports import judgement_rows

TIMEOUT_SECONDS = 8.0
AT_ONCE = 4
LOOK_SECONDS = 0.5
RECENT_SECONDS = 60.0
"""Older decisions are left alone: the customer has written on, or gone."""

NEAR = 1.0
"""So far from a bar, in log odds, an answer is likely enough to matter."""

LOOKED_AT_MAX = 100
TURNS_READ = 24
GROUP = "judge"

_OWN_CHOICE = AddressPolicy(loopback=True, private=True)
"""Its address is the operator's own setting, and often a model on this machine."""

_FAILED = "failed"
_log = structlog.get_logger("baton.judge")


class Judge:
    """Claims decisions worth a question, asks, and records the answers as late advice."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._url = settings.judge_url.rstrip("/") + "/chat/completions"
        named = settings.judge_workspaces.split(",")
        self._workspaces = [name.strip() for name in named if name.strip()]
        self._form: Form = "logprob"
        self._breaker = Breaker()
        self._next_look = 0.0

    @property
    def adviser(self) -> str:
        return adviser_name(self._settings.judge_model, self._form)

    @staticmethod
    def group(_row: dict[str, Any]) -> str:
        return GROUP

    def claim_due(self, room: int, busy: Mapping[str, int]) -> list[dict[str, Any]]:
        """Commit the questions that are to be asked now; gives them. What was answered to the same
        transcript before is not asked again.
        """
        now = time.monotonic()
        free = min(room, self._breaker.room(now, AT_ONCE) - busy.get(GROUP, 0))
        if free <= 0 or now < self._next_look:
            return []
        self._next_look = now + LOOK_SECONDS
        with self._store.read() as connection:
            questions = self._questions(connection, free)
        if not questions:
            return []
        with self._store.write() as connection:
            at = database_time(connection)
            for one in questions:
                judgement_rows.add(connection, one["judgement"] | {"asked_at": at})
                if one["judgement"]["status"] == "cached":
                    self._advise(connection, one["judgement"])
        return [one for one in questions if one["judgement"]["status"] == "asking"]

    def _questions(self, connection: Connection, most: int) -> list[dict[str, Any]]:
        """The questions that could change most, within the budget."""
        now = database_time(connection)
        rows = judgement_rows.unjudged(
            connection, now - RECENT_SECONDS, LOOKED_AT_MAX, self._workspaces
        )
        near = [(distance, row) for row in rows if (distance := _distance(row)) is not None]
        questions: list[dict[str, Any]] = []
        spent: dict[str, int] = {}
        for _, row in sorted(near, key=lambda pair: pair[0]):
            if len(questions) == most:
                break
            if row.workspace not in spent:
                spent[row.workspace] = judgement_rows.asked_today(connection, row.workspace, now)
            if (question := self._question(connection, row)) is None:
                continue
            if question["judgement"]["status"] == "asking":
                if spent[row.workspace] >= self._settings.judge_per_day:
                    continue
                spent[row.workspace] += 1
            questions.append(question)
        return questions

    def _question(self, connection: Connection, decision: Any) -> dict[str, Any] | None:
        """The question about a decision, with what is known of its transcript; None where its
        message is not the customer's.
        """
        turns = judgement_rows.last_turns(
            connection, decision.workspace, decision.conversation_id, decision.seq, TURNS_READ
        )
        transcript = transcript_json(turns)
        if transcript is None:
            return None
        digest = transcript_digest(self.adviser, transcript)
        known = judgement_rows.known_probability(connection, decision.workspace, digest)
        judgement = {
            "id": new_id("j"),
            "workspace": decision.workspace,
            "conversation_id": decision.conversation_id,
            "decision_id": decision.id,
            "adviser": self.adviser,
            "digest": digest,
            "status": "asking" if known is None else "cached",
            "probability": known,
        }
        return {"judgement": judgement, "transcript": transcript, "form": self._form}

    async def deliver(self, client: httpx.AsyncClient, row: dict[str, Any]) -> None:
        """Ask, and record what was answered."""
        form, body = (
            self._form,
            request_body(self._settings.judge_model, self._form, row["transcript"]),
        )
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._settings.judge_key:
            headers["authorization"] = f"Bearer {self._settings.judge_key}"
        raw = json.dumps(body, ensure_ascii=False).encode()
        answer = await send(
            client, "POST", self._url, headers, raw, _OWN_CHOICE, TIMEOUT_SECONDS, reads=True
        )
        status, probability = self._read(answer, form)
        await asyncio.to_thread(self._record, row["judgement"], status, probability)

    def _read(self, answer: HttpAnswer, form: Form) -> tuple[str, float | None]:
        """What came of a question, and the probability where there is one."""
        if form == "logprob" and answer.status in (400, 422):
            return self._without_logprobs()
        if not answer.is_success:
            why = answer.error or f"it answered {answer.status}"
            self._breaker.failed(time.monotonic(), answer.retry_after)
            _log.warning("not_judged", why=why, adviser=self.adviser)
            return _FAILED, None
        self._breaker.succeeded()
        try:
            probability = read_probability(answer.body, form)
        except NoLogprobsError:
            return self._without_logprobs()
        return ("unreadable" if probability is None else "answered"), probability

    def _without_logprobs(self) -> tuple[str, None]:
        """From now on the model has to say a probability itself."""
        if self._form == "logprob":
            _log.info("no_logprobs", adviser=self.adviser)
            self._form = "said"
        return _FAILED, None

    def _record(self, judgement: dict[str, Any], status: str, probability: float | None) -> None:
        answered = judgement | {"status": status, "probability": probability}
        with self._store.write() as connection:
            judgement_rows.change(
                connection, judgement["id"], status=status, probability=probability
            )
            if probability is not None:
                self._advise(connection, answered)

    def _advise(self, connection: Connection, judgement: dict[str, Any]) -> None:
        """Late advice, as a bot would send it. What is gone meanwhile is left alone."""
        workspace, said = judgement["workspace"], judgement["probability"]
        decision = conversation_rows.decision(connection, workspace, judgement["decision_id"])
        if decision is None:
            return
        batch = Batch(connection, StateCache())
        try:
            late_advice.record(batch, workspace, decision, {judgement["adviser"]: said})
        except RequestRefused as refusal:
            _log.info("advice_refused", why=refusal.message, decision=decision.id)
            return
        batch.flush()


def _distance(decision: Any) -> float | None:
    """How far a decision is from a bar that is near and that an answer could carry it over, in log
    odds; None where there is none. An adviser's say is taken to be what it is at first.
    """
    own, sure = _log_odds(decision.probability), _log_odds(1 - P_MIN)
    low, high = own + SHARE * (-sure - own), own + SHARE * (sure - own)
    bars = [_log_odds(decision.offer_threshold), _log_odds(decision.escalate_threshold)]
    reached = (abs(bar - own) for bar in bars if low <= bar <= high)
    return min((distance for distance in reached if distance <= NEAR), default=None)


def _log_odds(probability: float) -> float:
    p = min(1 - 1e-9, max(1e-9, probability))
    return math.log(p / (1 - p))
