"""The hub's client against answers that the hub does not give."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from ollama_tools.errors import HubError
from ollama_tools.files import hub


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>It works!</html>",
        "7",
        '{"path": 7}',
        "[" * 100_000,
        '[{"type": "file"}]',
    ],
)
def test_a_list_of_files_that_is_none_is_one_message(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", httpserver.url_for("").rstrip("/"))
    httpserver.expect_request("/api/models/me/x-GGUF/tree/main").respond_with_data(body)
    with pytest.raises(HubError) as caught:
        hub.gguf_files("me/x-GGUF", None)
    assert "me/x-GGUF" in caught.value.what
    assert "HF_ENDPOINT" in caught.value.fix
