// pi: its command line, told of the server by models.json; the second turn is its own --continue.

"use strict";

const { execFileSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const garden = require("./garden.cjs");

const CLI = path.join(
  process.env.NODE_PATH,
  "@mariozechner/pi-coding-agent/dist/cli.js",
);
const USERS = ["What does the note say?", "And now?"];

async function converse(session) {
  fs.writeFileSync("note.txt", "Prune the roses.\n");
  const home = fs.mkdtempSync(path.join(process.cwd(), "pi-"));
  const provider = {
    baseUrl: `${session.base}/v1`,
    api: "openai-completions",
    apiKey: "none",
    models: [{ id: session.model }],
  };
  fs.writeFileSync(path.join(home, "models.json"), JSON.stringify({ providers: { own: provider } }));
  const environment = { ...process.env, PI_CODING_AGENT_DIR: home, PI_OFFLINE: "1", PI_TELEMETRY: "0" };
  USERS.forEach((user, number) => {
    const resume = number ? ["--continue"] : [];
    const output = execFileSync(
      process.execPath,
      [CLI, "--print", "--mode", "json", "--provider", "own", "--model", session.model, ...resume, user],
      { env: environment, cwd: process.cwd(), encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] },
    );
    for (const line of output.split("\n").filter(Boolean)) {
      const event = JSON.parse(line);
      if (event.type === "tool_execution_start") session.calls.push([event.toolName, event.args]);
      if (event.type === "turn_end" && !event.toolResults.length) {
        session.answers.push(event.message.content.map((part) => part.text ?? "").join(""));
      }
    }
  });
}

// It always streams.
garden.drive(converse, [true]);
