"""A server that is too old is told so, without anything being put on it."""

from __future__ import annotations

from pytest_httpserver import HTTPServer

from ollama_tools import preflight


def test_a_server_that_is_too_old_is_one_failing_line(httpserver: HTTPServer) -> None:
    asked = []

    def answer(path: str, document: dict[str, object]) -> None:
        httpserver.expect_request(path, method="GET").respond_with_json(document)
        asked.append(path)

    answer("/api/version", {"version": "0.11.4"})
    answer("/api/tags", {"models": []})
    answer("/api/ps", {"models": []})
    report = preflight("UD-Q4_K_XL", host=httpserver.url_for(""))
    (failed,) = report.failures
    assert (failed.id, report.version) == ("server-version", "0.11.4")
    assert "0.11.4" in failed.saw
    assert "upgrade" in failed.fix.lower() or "ollama.com" in failed.fix
    assert {request.path for request, _ in httpserver.log} <= set(asked)
