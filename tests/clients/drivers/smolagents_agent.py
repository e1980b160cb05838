"""smolagents: a ``ToolCallingAgent`` on the OpenAI surface, ended by its number of steps."""

from __future__ import annotations

from typing import Any

import garden
from smolagents import OpenAIModel, Tool, ToolCallingAgent

STEPS = 2


class Forecast(Tool):
    """Its inputs are a schema that the agent sends as it is."""

    name = "get_forecast"
    description = "How much rain is coming to a place."
    inputs = {  # noqa: RUF012 - read by the agent as a class attribute
        "place": {"type": "object", "description": "Where the garden lies: name and country."},
        "days": {"type": "integer", "description": "How many days ahead."},
    }
    output_type = "string"

    def __init__(self, session: garden.Session) -> None:
        super().__init__()
        self.session = session

    def forward(self, place: dict[str, Any], days: int) -> str:
        """What the tool does."""
        return self.session.use(self.name, {"place": place, "days": days})


def converse(session: garden.Session) -> None:
    model = OpenAIModel(session.model, api_base=f"{session.base}/v1", api_key="none")
    agent = ToolCallingAgent(
        tools=[Forecast(session)],
        model=model,
        instructions=garden.SYSTEM,
        max_steps=STEPS,
        stream_outputs=session.stream,
        verbosity_level=0,
    )
    for number, user in enumerate(garden.USERS):
        session.answers.append(agent.run(user, reset=number == 0))


if __name__ == "__main__":
    garden.drive(converse)
