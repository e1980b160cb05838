"""``python -m tests.faults`` puts faults to the product and says what comes of them.

Without options it runs all cases, which takes about an hour where many do not end.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.bed import fault_bed
from tests.faults.cases import Case, all_cases, selection
from tests.faults.judge import findings
from tests.faults.run import LIMIT, Runner
from tests.faults.table import DOCUMENT, Row, markdown, summary


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", metavar="REGEX", help="cases whose name has this in it")
    parser.add_argument("--group", action="append", help="cases of this table; repeatable")
    parser.add_argument("--selected", action="store_true", help="those that run with every change")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds until one has no end")
    parser.add_argument("--list", action="store_true", help="only print their names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was seen")
    parser.add_argument(
        "--write",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="write docs/reference/faults.md; with files, from what --json wrote into them, the "
        "last of a case counting",
    )
    parser.add_argument("--verbose", action="store_true", help="print what the product said")
    options = parser.parse_args()
    cases = chosen(options)
    if options.list:
        print(*(each.id for each in cases), sep="\n")
        return 0
    if options.write:
        rows = told(cases, options.write)
    else:
        rows = run(cases, options.limit, options.json, verbose=options.verbose)
    print(*summary(rows), sep="\n")
    if options.write is not None:
        if len(rows) < len(all_cases()):
            parser.error(f"--write wants all cases, not {len(rows)} of {len(all_cases())}")
        DOCUMENT.write_text(markdown(rows), encoding="utf-8")
    return 1 if any(each.wrong for each in rows) else 0


def told(cases: list[Case], files: list[Path]) -> list[Row]:
    """What earlier runs wrote about cases; the last word about each."""
    found = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = Row.parse(json.loads(line)["row"])
            found[row.case] = row
    return [found[each.id] for each in cases if each.id in found]


def chosen(options: argparse.Namespace) -> list[Case]:
    """The cases that the options name."""
    cases = [
        each
        for each in (selection() if options.selected else all_cases())
        if (not options.only or re.search(options.only, each.id))
        and (not options.group or each.group in options.group)
    ]
    if options.sample is not None and options.sample < len(cases):
        drawn = random.Random(options.seed).sample(range(len(cases)), options.sample)
        cases = [cases[each] for each in sorted(drawn)]
    return cases


def run(
    cases: list[Case], limit: float, file: Path | None = None, *, verbose: bool = False
) -> list[Row]:
    """Run cases one after the other, with a line for each.

    Args:
        cases: The cases.
        limit: Seconds until one has no end.
        file: Where to write what was seen, a line of JSON for each case.
        verbose: Whether to print what the product said.
    """
    rows: list[Row] = []
    started = time.monotonic()
    if file is not None:
        file.write_text("")
    with fault_bed() as bed:
        runner = Runner(bed, limit)
        for number, case in enumerate(cases, 1):
            result = runner.run(case)
            found = findings(result)
            row = Row.of(result, found)
            rows.append(row)
            passed = time.monotonic() - started
            print(
                f"[{number}/{len(cases)} {passed:.0f} s] {'FAIL' if found else 'ok  '} {case.id}: "
                f"exit {result.ended.code}, {result.ended.seconds:.1f} s, {result.served}",
                flush=True,
            )
            for each in found:
                print(f"    {each}", flush=True)
            if verbose:
                print(result.ended.text, flush=True)
            if file is not None:
                document = {"row": asdict(row), **result.as_json()}
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(f"{json.dumps(document)}\n")
    return rows


if __name__ == "__main__":
    sys.exit(main())
