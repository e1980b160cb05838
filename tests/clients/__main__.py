"""``python -m tests.clients`` drives the clients and prints how they fare.

With ``--write`` it also writes docs/reference/clients.md; names pick the clients whose name,
driver or surface they are part of.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.clients.clients import CLIENTS
from tests.clients.drive import run
from tests.clients.table import DOCUMENT, markdown, table


def main() -> None:
    """Drive, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/reference/clients.md")
    parser.add_argument("name", nargs="*", help="clients to drive; all by default")
    chosen = parser.parse_args()
    clients = [
        each
        for each in CLIENTS
        if not chosen.name
        or any(name in (each.name + each.driver + each.surface) for name in chosen.name)
    ]
    if chosen.write and len(clients) < len(CLIENTS):
        parser.error("--write wants all clients")
    started = time.monotonic()
    found = run(clients)
    print(*table(found), sep="\n")
    print(f"\n{time.monotonic() - started:.0f} s", file=sys.stderr)
    for each in found:
        for (model, stream), faults in each.faults.items():
            print(f"{each.client.name}, {model}, {stream=}:", *faults, sep="\n  ", file=sys.stderr)
        for place, request, wanted, came in each.unexplained:
            print(f"{place}: {request.body}\n- {wanted}\n+ {came}", file=sys.stderr)
        if each.crashed:
            print(f"{each.client.driver}: {each.crashed}", file=sys.stderr)
    if chosen.write:
        DOCUMENT.write_text(markdown(found), encoding="utf-8")


if __name__ == "__main__":
    main()
