"""``python -m benchmarks.fleet``: a converge with nothing to do, per host, in one run.

Both ways have made their model before. Printed are seconds and changed tasks per host, the least
of three rounds in turns, and what clients notice: whether the model's manifest was written anew.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.fleet.fleet import MODEL, QUANT, Fleet, wheels
from tests.testbed.hosts import BLOBS, CONTROLLER, FileServer, Host, Hosts
from tests.testbed.hub import Hub
from tests.testbed.models import devstral_repositories

_HERE = Path(__file__).parent
_HOSTS = 3
_ROUNDS = 3


def _modified(host: Host, name: str) -> str:
    code = (
        "import json, urllib.request as u;"
        "print(json.dumps({each['name']: each['modified_at'] for each in json.load("
        "u.urlopen('http://127.0.0.1:11434/api/tags'))['models']}))"
    )
    return str(json.loads(host.run("python3 -", stdin=code).stdout)[name])


def main() -> None:
    """Measure and print."""
    repositories = devstral_repositories(heads=1, kv_heads=1)
    with (
        Hosts(_HOSTS, disk="64g") as hosts,
        Hub(repositories, address=hosts.controller, name=CONTROLLER, bytes_name=BLOBS) as hub,
        FileServer(hosts.controller, name=CONTROLLER) as files,
    ):
        fleet = Fleet(hosts, hub, files, wheels())
        made = fleet.play("site")
        if made.code:
            raise SystemExit(made.output)
        base = f"{hub.registry}/unsloth/Devstral-Small-2507-GGUF:{QUANT}"
        modelfile = f"FROM {base}\nPARAMETER num_ctx 32768\n"
        ways = {
            "this collection": ("by_module.yml", {}, MODEL),
            "by command": (
                "by_command.yml",
                {"base": base, "modelfile": modelfile},
                "by-command:latest",
            ),
        }
        best: dict[str, tuple[float, int, bool]] = {}
        for number in range(_ROUNDS + 1):
            for way, (playbook, variables, name) in ways.items():
                host = hosts.hosts[0]
                before = _modified(host, name) if number else ""
                run = fleet.play(str(_HERE / playbook), **variables)
                if run.code:
                    raise SystemExit(run.output)
                if number:
                    found = (run.seconds, len(run.changed()), _modified(host, name) != before)
                    best[way] = min(best.get(way, found), found)
    print(
        f"{'converge with nothing to do':28} {'s per host':>10} {'changed':>8} {'written anew':>13}"
    )
    for way, (seconds, changed, written) in best.items():
        anew = "yes" if written else "no"
        print(f"{way:28} {seconds / _HOSTS:10.2f} {changed / _HOSTS:8.1f} {anew:>13}")
    ratio = best["by command"][0] / best["this collection"][0]
    print(f"by command takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
