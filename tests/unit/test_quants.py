"""``quants``: what there is of a release, and how large it is."""

from __future__ import annotations

import json

import pytest

from ollama_tools.__main__ import run


def test_the_quants_of_the_default_release(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quants"]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "Devstral-Small-2507, hf.co/unsloth/Devstral-Small-2507-GGUF"
    assert header.split() == ["QUANT", "SIZE", "FILE"]
    assert len(rows) == 26
    assert [row.split()[0] for row in rows if row.endswith("  default")] == ["UD-Q4_K_XL"]
    cells = {row.split()[0]: row.split(None, 1)[1] for row in rows}
    assert cells["Q4_K_M"] == "13.3 GiB        Devstral-Small-2507-Q4_K_M.gguf"
    assert cells["IQ4_XS"] == "about 11.9 GiB  Devstral-Small-2507-IQ4_XS.gguf"


def test_json_has_bytes_and_says_which_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quants", "123B", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["release"] == "Devstral-2-123B-Instruct-2512"
    assert document["default"] == "UD-Q4_K_XL"
    found = {each["name"]: each for each in document["quants"]}
    assert found["Q6_K"] == {
        "name": "Q6_K",
        "bytes": 102_575_189_216,
        "estimated": True,
        "file": "Q6_K/Devstral-2-123B-Instruct-2512-Q6_K-*.gguf",
        "split": True,
    }


def test_quiet_has_names_only_smallest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quants", "2505", "--quiet"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert (names[0], names[-1], len(names)) == ("UD-IQ1_S", "BF16", 26)


def test_a_release_that_is_unknown_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quants", "2506"]) == 2
    assert "no release '2506'" in capsys.readouterr().err
