"""Golden names of builds: a wish means the same build in every version of this package.

A mark that changes makes every host build its model anew. Where a template or a recommended
parameter changes on purpose, these change with it, and the changelog says so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ollama_tools.devstral.carriers import Carrier
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.system_prompt import NO_SYSTEM, SystemOrigin, SystemPrompt
from ollama_tools.files.packaged import data_path
from ollama_tools.wanted.source import FileSource, HubSource, ServerSource
from ollama_tools.wanted.spec import Spec, merge_parameters

CATALOG = load_catalog(data_path("catalog.yaml"))
RELEASE = CATALOG.release("2507")
WEIGHTS = (f"sha256:{'1' * 64}",)
DIGEST = f"sha256:{'2' * 64}"
SOURCE = HubSource(RELEASE.repository, "UD-Q4_K_XL")
PLAIN = Spec(
    name="devstral-small-2507:UD-Q4_K_XL",
    release=RELEASE,
    source=SOURCE,
    carrier=Carrier.SERVER,
    system=SystemPrompt(SystemOrigin.BUNDLED, "3" * 64, "of that digest"),
    parameters=merge_parameters(RELEASE, None, {}),
)


@pytest.mark.parametrize(
    ("spec", "mark"),
    [
        (PLAIN, "0ec052e93571"),
        (replace(PLAIN, parameters=merge_parameters(RELEASE, 65_536, {})), "7638d7395ff3"),
        (
            replace(PLAIN, parameters=merge_parameters(RELEASE, None, {"temperature": 1})),
            "4454e0e4a899",
        ),
        (
            replace(PLAIN, parameters=merge_parameters(RELEASE, None, {"temperature": "1.0"})),
            "4454e0e4a899",
        ),
        (
            replace(PLAIN, parameters=merge_parameters(RELEASE, None, {"stop": ("B", "A", "B")})),
            "7799a33ef053",
        ),
        (replace(PLAIN, system=NO_SYSTEM), "96dbc8f5e17f"),
        (replace(PLAIN, native=False), "62687cb824f3"),
        # Who sees images has a projector among the weights, which says it.
        (replace(PLAIN, vision=True), "0ec052e93571"),
        (replace(PLAIN, vision=None), "0ec052e93571"),
        (replace(PLAIN, source=FileSource(Path("x.gguf"))), "7c957b96a517"),
        (replace(PLAIN, source=FileSource(Path("y.gguf"), "4" * 64)), "7c957b96a517"),
        (replace(PLAIN, source=ServerSource("x", (DIGEST,))), "65e818814489"),
        (
            replace(PLAIN, source=replace(SOURCE, revision="5" * 40, sha256="6" * 64)),
            "0ec052e93571",
        ),
        (replace(PLAIN, source=HubSource("me/tune", "Q8_0", revision="v2")), "863d4fa0f680"),
    ],
)
def test_a_wish_has_its_build(spec: Spec, mark: str) -> None:
    assert spec.mark(WEIGHTS) == mark
    assert spec.build(WEIGHTS) == f"devstral-small-2507:UD-Q4_K_XL-{mark}"


def test_a_digest_of_other_weights_gives_another_mark() -> None:
    assert PLAIN.mark((DIGEST,)) == "9ab2931ecba0"
    assert PLAIN.mark((*WEIGHTS, DIGEST)) == "3c4ffe08b77c"


def test_the_names_before_0_2_are_known() -> None:
    assert PLAIN.earlier_builds(WEIGHTS) == ("devstral-small-2507:UD-Q4_K_XL-6eba086eab24",)


def test_the_names_of_a_file_that_its_own_digest_was_part_of_are_known() -> None:
    file = FileSource(Path("x.gguf"), "4" * 64)
    assert replace(PLAIN, source=file).earlier_builds(WEIGHTS) == (
        "devstral-small-2507:UD-Q4_K_XL-5036342357b0",
        "devstral-small-2507:UD-Q4_K_XL-da2b4d8bb788",
    )
    assert replace(PLAIN, source=replace(file, sha256=None)).earlier_builds(WEIGHTS) == ()
