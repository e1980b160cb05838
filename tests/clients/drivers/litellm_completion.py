"""litellm: ``completion``; the option is the provider."""

from __future__ import annotations

from typing import Any

import garden
import litellm


def converse(session: garden.Session) -> None:
    (provider,) = session.options
    base = f"{session.base}/v1" if provider == "openai" else session.base
    messages: list[Any] = [{"role": "system", "content": garden.SYSTEM}]
    for user in garden.USERS:
        messages.append({"role": "user", "content": user})
        while True:
            answer = litellm.completion(
                model=f"{provider}/{session.model}",
                api_base=base,
                api_key="none",
                num_retries=0,
                messages=messages,
                tools=garden.TOOLS,
                stream=session.stream,
            )
            if session.stream:
                answer = litellm.stream_chunk_builder(list(answer), messages=messages)
            message = answer.choices[0].message
            messages.append(message)
            if not message.tool_calls:
                session.answers.append(message.content)
                break
            for call in message.tool_calls:
                result = session.use(call.function.name, call.function.arguments)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    garden.drive(converse)
