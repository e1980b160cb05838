// ollama: `chat`.

"use strict";

const { Ollama } = require("ollama");
const garden = require("./garden.cjs");

async function joined(chunks) {
  const message = { role: "assistant", content: "" };
  for await (const chunk of chunks) {
    message.content += chunk.message.content;
    if (chunk.message.tool_calls) {
      message.tool_calls = [...(message.tool_calls ?? []), ...chunk.message.tool_calls];
    }
  }
  return message;
}

async function converse(session) {
  const client = new Ollama({ host: session.base });
  const messages = [{ role: "system", content: garden.system }];
  for (const user of garden.users) {
    messages.push({ role: "user", content: user });
    for (;;) {
      const request = { model: session.model, messages, tools: garden.tools };
      const message = session.stream
        ? await joined(await client.chat({ ...request, stream: true }))
        : (await client.chat(request)).message;
      messages.push(message);
      if (!message.tool_calls?.length) {
        session.answers.push(message.content);
        break;
      }
      for (const { function: call } of message.tool_calls) {
        const content = session.use(call.name, call.arguments);
        messages.push({ role: "tool", tool_name: call.name, content });
      }
    }
  }
}

garden.drive(converse);
