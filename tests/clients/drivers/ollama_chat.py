"""ollama: ``Client.chat``, with functions as tools where plain and schemas where streamed."""

from __future__ import annotations

from typing import Any

import functions
import garden
from ollama import Client, Message


def converse(session: garden.Session) -> None:
    client = Client(host=session.base)
    tools = garden.TOOLS if session.stream else functions.with_dicts(session)
    messages: list[Any] = [{"role": "system", "content": garden.SYSTEM}]
    for user in garden.USERS:
        messages.append({"role": "user", "content": user})
        while True:
            answer = client.chat(session.model, messages, tools=tools, stream=session.stream)
            message = joined(answer) if session.stream else answer.message
            messages.append(message)
            if not message.tool_calls:
                session.answers.append(message.content)
                break
            for call in message.tool_calls:
                name = call.function.name
                result = session.use(name, dict(call.function.arguments))
                messages.append({"role": "tool", "tool_name": name, "content": result})


def joined(chunks: Any) -> Message:
    """The message of a stream."""
    content, calls = "", []
    for chunk in chunks:
        content += chunk.message.content or ""
        calls += chunk.message.tool_calls or []
    return Message(role="assistant", content=content, tool_calls=calls or None)


if __name__ == "__main__":
    garden.drive(converse)
