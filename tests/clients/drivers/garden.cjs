// What all drivers in JavaScript share: the session, the caller's tools, and what came of it.

"use strict";

const fs = require("node:fs");
const path = require("node:path");

const told = JSON.parse(fs.readFileSync(path.join(__dirname, "session.json"), "utf8"));

class Session {
  constructor(base, model, stream, options) {
    Object.assign(this, { base, model, stream, options, calls: [], answers: [], error: "" });
  }

  // The caller's side of a tool call.
  use(name, given) {
    this.calls.push([name, typeof given === "string" ? JSON.parse(given) : given]);
    return told.results[name];
  }

  get report() {
    const { model, stream, calls, answers, error } = this;
    return { model, stream, calls, answers, error };
  }
}

// Arguments of the command line: the server's URL, models by comma, options of the driver.
async function drive(converse, ways = [false, true]) {
  const [base, models, ...options] = process.argv.slice(2);
  const reports = [];
  for (const model of models.split(",")) {
    for (const stream of ways) {
      const session = new Session(base, model, stream, options);
      try {
        await converse(session);
      } catch (error) {
        // Told with the session; others go on.
        session.error = String(error);
      }
      reports.push(session.report);
    }
  }
  console.log("\n" + JSON.stringify(reports));
}

module.exports = { ...told, drive };
