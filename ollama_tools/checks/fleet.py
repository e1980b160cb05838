"""The smoke reports of many hosts as one, and what they serve beside one another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ollama_tools.checks.result import CheckResult, Report, Status
from ollama_tools.safe_text import printable

_NO_REPORT = "look at the host: it was not reached, or the check could not be asked"


def fleet_report(results: Mapping[str, Mapping[str, Any] | None]) -> Report:
    """One report over all hosts.

    Args:
        results: By host, what ``smoke --json`` printed there; None where there is nothing.
    """
    versions = sorted({str(each["version"]) for each in results.values() if each})
    return Report(
        subject=f"{len(results)} hosts",
        server=", ".join(results),
        version=", ".join(versions),
        checks=tuple(_checks(results)),
    )


def _checks(results: Mapping[str, Mapping[str, Any] | None]) -> Iterator[CheckResult]:
    for host, report in results.items():
        if not report:
            yield CheckResult(f"{host}: report", Status.FAIL, "there is no report", _NO_REPORT)
            continue
        for each in report["checks"]:
            yield CheckResult(
                f"{host}: {each['id']}",
                Status(each["status"]),
                str(each["saw"]),
                str(each["fix"]),
                float(each["seconds"]),
            )


def fleet_text(results: Mapping[str, Mapping[str, Any] | None]) -> str:
    """A line for each host, and one for each check that failed there."""
    width = max((len(host) for host in results), default=0)
    lines = []
    for host, report in results.items():
        if not report:
            lines.append(f"{host:{width}}  no report: {_NO_REPORT}")
            continue
        failed = [each for each in report["checks"] if each["status"] == Status.FAIL]
        verdict = f"{len(failed)} of {len(report['checks'])} checks failed" if failed else "passed"
        lines.append(f"{host:{width}}  {report['subject']} on {report['version']}: {verdict}")
        lines += [f"{'':{width}}    {each['id']}: {each['saw']}" for each in failed]
    return "\n".join(map(printable, lines))


def unlike_peers(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Hosts that serve another model than hosts of which the same is asked.

    Each of them may serve what is asked: a file can be published anew between two visits, and what
    serves stays. Manifests say nothing here, since each version of a server writes its own.

    Args:
        hosts: By host, what was ``asked`` of it, its ``version``, and the ``build`` with its
            ``weights`` that serve there.

    Returns:
        By host, in which way it is unlike the first of its peers; peers are alike but for that.
    """
    first: dict[str, str] = {}
    found = {}
    for host, seen in hosts.items():
        # What differs from what is asked is told already.
        if not seen.get("build") or seen.get("problems"):
            continue
        peers = json.dumps([seen["asked"], seen["version"]], sort_keys=True)
        peer = first.setdefault(peers, host)
        for field in ("weights", "build"):
            own, other = seen[field], hosts[peer][field]
            if own != other:
                found[host] = [f"{field}: {own} instead of {other} as on {peer}"]
                break
    return found
