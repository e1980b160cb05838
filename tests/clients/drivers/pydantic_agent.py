"""pydantic-ai: an ``Agent`` on the OpenAI surface."""

from __future__ import annotations

import functions
import garden
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.ollama import OllamaProvider


def converse(session: garden.Session) -> None:
    provider = OllamaProvider(base_url=f"{session.base}/v1")
    agent = Agent(
        OpenAIChatModel(session.model, provider=provider),
        system_prompt=garden.SYSTEM,
        tools=functions.with_models(session),
    )
    history = None
    for user in garden.USERS:
        if session.stream:
            result = agent.run_stream_sync(user, message_history=history)
            answer = "".join(result.stream_text(delta=True, debounce_by=None))
        else:
            result = agent.run_sync(user, message_history=history)
            answer = result.output
        session.answers.append(answer)
        history = result.all_messages()


if __name__ == "__main__":
    garden.drive(converse)
