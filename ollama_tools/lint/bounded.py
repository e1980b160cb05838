"""Asks a worker: a process of its own, with limits on memory, processor time and output.

A template out of a downloaded file may be a bomb, and Python has no way to stop one inside the
process that runs it. What a worker is stopped for is the template's fault; that it breaks down for
any other reason is never said of the template.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollama_tools.json_text import MalformedJson, parse_json
from ollama_tools.lint.fault import TemplateFault, WorkerCrash

MAX_TEMPLATE = 1 << 20
"""Characters; no chat template has a tenth of it."""
_PATIENCE = 60.0
"""Seconds. A busy worker is stopped long before by the processor time that it takes."""
_WORKER = Path(__file__).with_name("bounded_worker.py")


def ask(module: str, template: str, **more: Any) -> Mapping[str, Any]:
    """What a module's function ``answer`` says of a template.

    Args:
        module: Full name of the module, which is imported in the worker alone.
        template: The template.
        more: What else the function is to know, as JSON can have it.

    Raises:
        TemplateFault: The template is at fault, as by what it costs.
        WorkerCrash: The worker broke down.
    """
    if len(template) > MAX_TEMPLATE:
        # Of a file only so much was read as shows that it is too long.
        raise TemplateFault(
            f"it has at least {len(template)} characters, and more than {MAX_TEMPLATE} are not "
            "tried",
            1,
        )
    # Apart from the directory and the environment that it is started in, it finds what this
    # process finds, wherever that was installed: also where only a user's own packages have it.
    path = [each for each in sys.path if each]
    request = {"path": path, "module": module, "asked": {"template": template, **more}}
    try:
        process = subprocess.run(
            [sys.executable, "-I", str(_WORKER)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WorkerCrash(f"it gave no answer in {_PATIENCE:.0f} seconds") from None
    except OSError as error:
        raise WorkerCrash(f"{sys.executable} cannot be started: {error.strerror}") from None
    if process.returncode == -signal.SIGXCPU:
        raise TemplateFault("it takes too much time")
    if process.returncode:
        raise WorkerCrash(_ending(process.returncode, process.stderr))
    try:
        answer = parse_json(process.stdout)
    except MalformedJson:
        raise WorkerCrash("it gave no answer") from None
    if "fault" in answer:
        raise TemplateFault(str(answer["fault"]), answer.get("line"))
    return dict(answer)


def _ending(code: int, stderr: bytes) -> str:
    last = stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
    try:
        how = f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        how = f"it ended with code {code}"
    return f"{how}: {last}" if last else how
