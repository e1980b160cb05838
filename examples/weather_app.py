"""An app that brings its own model: it makes sure that Devstral is there, then lets it use a tool.

Run it against your server:

    python examples/weather_app.py UD-Q4_K_XL
"""

from __future__ import annotations

import sys

import ollama

from ollama_tools import DevstralError, ensure_model


def get_current_weather(city: str, at: str = "now") -> str:
    """Get the current weather in a city.

    Args:
        city: Name of the city.
        at: Time of day, as noon.
    """
    return f"20 degrees and sunny in {city} ({at})"


def ask(client: ollama.Client, model: str, question: str) -> str:
    """Ask a question, and run the tool as often as the model calls it."""
    messages: list[ollama.Message] = [ollama.Message(role="user", content=question)]
    while True:
        reply = client.chat(model, messages, tools=[get_current_weather]).message
        if not reply.tool_calls:
            return reply.content or ""
        messages.append(reply)
        for call in reply.tool_calls:
            print(f"{call.function.name}({dict(call.function.arguments)})")
            result = get_current_weather(**call.function.arguments)
            messages.append(
                ollama.Message(role="tool", tool_name=call.function.name, content=result)
            )


def main() -> int:
    """Make sure of the model, then ask it."""
    reference = sys.argv[1] if len(sys.argv) > 1 else "UD-Q4_K_XL"
    try:
        model = ensure_model(reference, context=65536)
    except DevstralError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    print(f"{model.name}: {'made' if model.changed else 'unchanged'}, {model.carrier.value}")
    print(
        ask(ollama.Client(host=model.server), model.name, "What is the weather in Paris at noon?")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
