"""anthropic: ``client.messages``."""

from __future__ import annotations

from typing import Any

import garden
from anthropic import Anthropic

TOOLS = [
    {
        "name": tool["function"]["name"],
        "description": tool["function"]["description"],
        "input_schema": tool["function"]["parameters"],
    }
    for tool in garden.TOOLS
]


def converse(session: garden.Session) -> None:
    client = Anthropic(base_url=session.base, api_key="none", max_retries=0)
    messages: list[Any] = []
    for user in garden.USERS:
        messages.append({"role": "user", "content": user})
        while True:
            request = {
                "model": session.model,
                "max_tokens": 1024,
                "system": garden.SYSTEM,
                "messages": messages,
                "tools": TOOLS,
            }
            if session.stream:
                with client.messages.stream(**request) as events:
                    message = events.get_final_message()
            else:
                message = client.messages.create(**request)
            messages.append({"role": "assistant", "content": message.content})
            results = [
                {
                    "type": "tool_result",
                    "tool_use_id": block.id,
                    "content": session.use(block.name, block.input),
                }
                for block in message.content
                if block.type == "tool_use"
            ]
            if not results:
                session.answers.append("".join(block.text for block in message.content))
                break
            messages.append({"role": "user", "content": results})


if __name__ == "__main__":
    garden.drive(converse)
