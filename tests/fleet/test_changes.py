"""What tasks in check mode would change, in words; no host is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.fleet.fleet import collections_path

_CALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.devstral.ollama.plugins.filter.settings import FilterModule
changes = FilterModule().filters()["changes"]
print(json.dumps([changes(each, "role__") for each in json.loads(sys.argv[2])]))
"""
UNIT = "/etc/systemd/system/ollama.service"


def text(before: str | None, after: str | None) -> dict[str, Any]:
    """The answer of a module that writes a file."""
    return {"changed": True, "dest": UNIT, "diff": [{"before": before, "after": after}]}


CASES: list[tuple[Any, list[str]]] = [
    ({"changed": False, "msg": "all is well"}, []),
    ({"changed": True, "skipped": True, "msg": "m"}, ["m"]),
    (text("a\nb\n", "a\nc\n"), [f"{UNIT} has b and lacks c"]),
    (text("a\n\n", "a\n"), [f"{UNIT} has other blank lines"]),
    (text("", "a\n"), [f"{UNIT} is missing"]),
    (text(None, "a\n"), [f"{UNIT} is missing"]),
    (text("a\n", None), [f"{UNIT} has a"]),
    (text("\n".join("abcdef"), ""), [f"{UNIT} has a, b, c, d and 2 more"]),
    (
        {
            "changed": True,
            "diff": {"before": {"path": "/x", "mode": "0777"}, "after": {"path": "/x", "mode": 0}},
        },
        ["/x: mode 0777 instead of 0"],
    ),
    (
        {"changed": True, "diff": {"before": {"path": "/x"}, "after": {"state": "absent"}}},
        ["/x: state none instead of absent"],
    ),
    (
        {"changed": True, "diff": None, "name": "ollama", "msg": None},
        ["ollama is not as it should be"],
    ),
    (
        {"changed": True, "name": "o.service", "enabled": True},
        ["o.service is not started at every boot"],
    ),
    (
        {"changed": True, "name": "o.service", "state": "started", "status": None},
        ["o.service does not run"],
    ),
    ({"failed": True, "changed": False, "msg": None}, ["a task failed"]),
    ({"failed": True, "msg": "no disk"}, ["no disk"]),
    (
        {"results": [{"changed": True, "msg": "one"}, None, {"changed": True, "msg": "one"}]},
        ["one"],
    ),
    (
        text("", "")
        | {"diff": [{"before": "OLLAMA_API_KEY=hush\nP=http://me:hush@proxy\n", "after": "\n"}]},
        [f"{UNIT} has OLLAMA_API_KEY=…, P=http://…@proxy"],
    ),
    (None, []),
]


@pytest.fixture(scope="module")
def told() -> list[list[str]]:
    """What the filter says of each answer, among other variables of a host."""
    other = {"changed": True, "msg": "not asked"}
    known = [{"role__x": answer, "other__x": other, "role__y": None} for answer, _ in CASES]
    command = [sys.executable, "-c", _CALL, str(collections_path()), json.dumps(known)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_change_is_said_in_words_whatever_is_absent(case: int, told: list[list[str]]) -> None:
    assert told[case] == CASES[case][1]


_FAILURE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.devstral.ollama.plugins.filter.failures import FilterModule
failure = FilterModule().filters()["failure"]
print(json.dumps([failure(each, "Do it") for each in json.loads(sys.argv[2])]))
"""


def test_a_failed_loop_says_what_its_items_say() -> None:
    item = {"failed": True, "msg": "The checksum did not match"}
    loop = {"msg": "One or more items failed", "results": [{"failed": False, "msg": "ok"}, item]}
    asked = json.dumps([loop, {"msg": "no"}, {"msg": ""}, {}, {"results": [], "msg": "none"}])
    done = subprocess.run(
        [sys.executable, "-c", _FAILURE, collections_path(), asked],
        capture_output=True,
        text=True,
        check=True,
    )
    nothing = "a task failed: Do it"
    assert json.loads(done.stdout) == [item["msg"], "no", nothing, nothing, "none"]
