"""langchain-ollama: ``ChatOllama``."""

from __future__ import annotations

from functools import reduce
from operator import add

import functions
import garden
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_ollama import ChatOllama


def converse(session: garden.Session) -> None:
    tools = {
        function.__name__: StructuredTool.from_function(function)
        for function in functions.with_models(session)
    }
    chat = ChatOllama(model=session.model, base_url=session.base).bind_tools(list(tools.values()))
    messages = [SystemMessage(garden.SYSTEM)]
    for user in garden.USERS:
        messages.append(HumanMessage(user))
        while True:
            message = (
                reduce(add, chat.stream(messages)) if session.stream else chat.invoke(messages)
            )
            messages.append(message)
            if not message.tool_calls:
                session.answers.append(message.content)
                break
            for call in message.tool_calls:
                result = tools[call["name"]].invoke(call["args"])
                messages.append(ToolMessage(result, tool_call_id=call["id"]))


if __name__ == "__main__":
    garden.drive(converse)
