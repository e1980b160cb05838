// openai: `runTools`, which keeps the loop itself; the prompt goes by the role `developer`, as in
// its maker's examples.

"use strict";

const OpenAI = require("openai");
const garden = require("./garden.cjs");

async function converse(session) {
  const client = new OpenAI({ baseURL: `${session.base}/v1`, apiKey: "none", maxRetries: 0 });
  const tools = garden.tools.map((tool) => ({
    type: "function",
    function: {
      ...tool.function,
      function: (given) => session.use(tool.function.name, given),
      parse: JSON.parse,
    },
  }));
  let messages = [{ role: "developer", content: garden.system }];
  for (const user of garden.users) {
    messages.push({ role: "user", content: user });
    const runner = client.chat.completions.runTools({
      model: session.model,
      messages,
      tools,
      stream: session.stream,
    });
    session.answers.push(await runner.finalContent());
    messages = [...runner.messages];
  }
}

garden.drive(converse);
