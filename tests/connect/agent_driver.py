"""Runs in the environment of the frameworks: a customer talks to each agent, whose model is
scripted, while Baton decides; `python agent_driver.py FRAMEWORK`, told of Baton by the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

MODEL_SAYS = "Our model says hello."
Answer = Callable[[str], Awaitable[str]]
asked: list[str] = []
"""What the model was asked."""


def openai_agents(turns: Any, conversation: str) -> Answer:
    from agents import Agent, Model, ModelResponse, SQLiteSession, Usage, set_tracing_disabled
    from openai.types.responses import ResponseOutputMessage, ResponseOutputText
    from openai_agents_bot import answer, guarded

    class Scripted(Model):
        async def get_response(self, *_, input, **__):  # noqa: A002
            asked.append(str(input[-1]["content"]))
            text = ResponseOutputText(text=MODEL_SAYS, type="output_text", annotations=[])
            message = ResponseOutputMessage(
                id="m", content=[text], role="assistant", status="completed", type="message"
            )
            return ModelResponse(output=[message], usage=Usage(), response_id=None)

        def stream_response(self, *_, **__):
            raise NotImplementedError

    set_tracing_disabled(True)
    agent = Agent("shop", model=Scripted(), input_guardrails=[guarded(turns)])
    session = SQLiteSession(conversation)
    return lambda text: answer(turns, agent, conversation, text, session)


def langgraph(turns: Any, conversation: str) -> Answer:
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableLambda
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph_bot import answer, graph_of

    def scripted(messages):
        asked.append(messages[-1].text)
        return AIMessage(MODEL_SAYS)

    graph = graph_of(turns, RunnableLambda(scripted)).compile(checkpointer=InMemorySaver())
    return lambda text: answer(graph, conversation, text)


def pydantic_ai(turns: Any, conversation: str) -> Answer:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai_bot import AskBaton, answer

    def scripted(messages, info):
        asked.append(messages[-1].parts[-1].content)
        return ModelResponse(parts=[TextPart(MODEL_SAYS)])

    model, history = FunctionModel(scripted), []
    agent = Agent(model, deps_type=str, capabilities=[AskBaton(turns)])
    return lambda text: answer(turns, agent, conversation, text, history)


async def talk(framework: str) -> None:
    from baton_client import AsyncBaton, Baton, ClientOptions, RetryPolicy
    from baton_turns import HANDED_OVER, BatonTurns

    url, conversation = os.environ["BATON_AT"], f"{framework}-1"
    patient = ClientOptions(retries=RetryPolicy(timeout_seconds=20.0, deadline_seconds=60.0))
    person = Baton(url, os.environ["AGENT_KEY"], options=patient)
    async with AsyncBaton(url, os.environ["BOT_KEY"], options=patient) as baton:
        say = globals()[framework](BatonTurns(baton), conversation)
        quiet, asks = "what are your opening hours on sunday", "I want to talk to a human please"
        assert await say(quiet) == MODEL_SAYS, "the model answers"
        assert await say(asks) == HANDED_OVER, "it hands over"
        assert await say("hello? my name is Cleo") == "", "it falls silent"
        assert asked == [quiet], "and its model is not asked"
        (handoff,) = [h for h in person.handoffs() if h.conversation_id == conversation]
        person.reply(handoff.id, "Hello Cleo, I am Dana.")
        assert await say("good morning") == "", "while a person is there"
        person.give_back(handoff.id)
        assert await say("do you ship to norway") == MODEL_SAYS, "it resumes"
        assert asked == [quiet, "do you ship to norway"]
        state = await baton.conversation(conversation)
        said = [turn.author for turn in state.messages if turn.author != "system"]
        assert said.count("bot") == 2, "Baton saw what the bot said"
    print("answers, hands over, is silent, resumes")


if __name__ == "__main__":
    asyncio.run(talk(sys.argv[1]))
