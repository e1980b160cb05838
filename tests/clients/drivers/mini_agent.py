"""mini-swe-agent: its default agent with the prompts of its own ``mini.yaml``."""

from __future__ import annotations

import tempfile

import garden
import yaml
from minisweagent.agents.default import DefaultAgent
from minisweagent.config import builtin_config_dir
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel


def converse(session: garden.Session) -> None:
    (provider,) = session.options
    base = f"{session.base}/v1" if provider == "openai" else session.base
    config = yaml.safe_load((builtin_config_dir / "mini.yaml").read_text(encoding="utf-8"))
    # These belong to its command line.
    agent = {
        key: value
        for key, value in config["agent"].items()
        if key in ("system_template", "instance_template")
    }
    templates = {key: value for key, value in config["model"].items() if key.endswith("_template")}

    class Witness(LocalEnvironment):
        def execute(self, action: dict, *args: object, **more: object) -> dict:
            session.calls.append(("bash", {"command": action["command"]}))
            return super().execute(action, *args, **more)

    model = LitellmModel(
        model_name=f"{provider}/{session.model}",
        model_kwargs={"api_base": base, "api_key": "none", "drop_params": True},
        cost_tracking="ignore_errors",
        **templates,
    )
    with tempfile.TemporaryDirectory() as directory:
        environment = Witness(cwd=directory, env=config["environment"].get("env", {}))
        found = DefaultAgent(model, environment, **agent, step_limit=6).run("Look at the note.")
    session.answers.append(f"{found['exit_status']}: {found['submission']}")


if __name__ == "__main__":
    # It never streams.
    garden.drive(converse, ways=(False,))
