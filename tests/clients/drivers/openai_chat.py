"""openai: ``client.chat.completions``, with the loop that its users write."""

from __future__ import annotations

from typing import Any

import garden
from openai import OpenAI


def converse(session: garden.Session) -> None:
    client = OpenAI(base_url=f"{session.base}/v1", api_key="none", max_retries=0)
    messages: list[Any] = [{"role": "system", "content": garden.SYSTEM}]
    for user in garden.USERS:
        messages.append({"role": "user", "content": user})
        while True:
            request = {"model": session.model, "messages": messages, "tools": garden.TOOLS}
            if session.stream:
                message = joined(client.chat.completions.create(**request, stream=True))
                content, calls = message["content"], message.get("tool_calls", [])
            else:
                message = client.chat.completions.create(**request).choices[0].message
                content = message.content
                calls = [call.model_dump() for call in message.tool_calls or []]
            messages.append(message)
            if not calls:
                session.answers.append(content)
                break
            for call in calls:
                function = call["function"]
                result = session.use(function["name"], function["arguments"])
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


def joined(chunks: Any) -> dict[str, Any]:
    """The message of a stream."""
    content, calls = "", {}
    for chunk in chunks:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            for part in choice.delta.tool_calls or []:
                call = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
                call["id"] += part.id or ""
                call["name"] += part.function.name or ""
                call["arguments"] += part.function.arguments or ""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls.values()
        ]
    return message


if __name__ == "__main__":
    garden.drive(converse)
