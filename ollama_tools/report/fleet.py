"""The smoke reports of many hosts as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ollama_tools.checks.result import CheckResult, Report, Status

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
    return "\n".join(lines)
