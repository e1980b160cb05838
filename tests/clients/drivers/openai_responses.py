"""openai: ``client.responses``, the whole conversation sent with every request."""

from __future__ import annotations

from typing import Any

import garden
from openai import OpenAI

TOOLS = [{"type": "function", **tool["function"]} for tool in garden.TOOLS]


def converse(session: garden.Session) -> None:
    client = OpenAI(base_url=f"{session.base}/v1", api_key="none", max_retries=0)
    items: list[Any] = []
    for user in garden.USERS:
        items.append({"role": "user", "content": user})
        while True:
            request = {
                "model": session.model,
                "instructions": garden.SYSTEM,
                "input": items,
                "tools": TOOLS,
                "store": False,
            }
            if session.stream:
                events = client.responses.create(**request, stream=True)
                (response,) = (
                    event.response for event in events if event.type == "response.completed"
                )
            else:
                response = client.responses.create(**request)
            items += response.output
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                session.answers.append(response.output_text)
                break
            for call in calls:
                result = session.use(call.name, call.arguments)
                items.append(
                    {"type": "function_call_output", "call_id": call.call_id, "output": result}
                )


if __name__ == "__main__":
    garden.drive(converse)
