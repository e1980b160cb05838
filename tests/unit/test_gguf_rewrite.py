from __future__ import annotations

import hashlib
import io
import os
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_tools.errors import FileProblem, UsageError
from ollama_tools.files import gguf_rewrite
from ollama_tools.files import remembered as state
from ollama_tools.files.gguf import GgufLayout, parse_layout, read_header
from ollama_tools.files.gguf_rewrite import Rewriting, Rewritten, parts
from ollama_tools.progress import Silence
from tests.unit.test_gguf import (
    ARCHITECTURE,
    ARRAY,
    BOOL,
    SHAPE,
    STRING,
    UINT32,
    UINT64,
    VOCABULARY,
    array,
    file,
    number,
    pair,
    text,
)

F32, F16, Q4_0, NEWER = 0, 1, 2, 999
OURS = "{#- ours -#}{{ bos_token }}{%- for m in messages %}…{%- endfor %}"
TEMPLATE_KEY = "tokenizer.chat_template"
THEIRS = pair(TEMPLATE_KEY, STRING, text("{#- theirs -#}"))
TOOL_USE = pair(f"{TEMPLATE_KEY}.tool_use", STRING, text("{#- for tools -#}"))
NAMES = array("tokenizer.chat_templates", STRING, 1, text("tool_use"))
MIB = 1 << 20


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


# Three tensors, the last one without padding behind it.
TENSORS = (
    tensor("token_embd.weight", (32, 2), Q4_0, 0),
    tensor("output.weight", (4, 2), F32, 64),
    tensor("output_norm.weight", (3,), F16, 96),
)
DATA = bytes(range(102))


def whole(
    *pairs: bytes,
    version: int = 3,
    tensors: tuple[bytes, ...] = TENSORS,
    data: bytes = DATA,
    alignment: int = 32,
    padding: bytes = b"\0",
) -> bytes:
    header = file(*pairs, version=version, tensors=len(tensors)) + b"".join(tensors)
    return header + padding * (-len(header) % alignment if tensors else 0) + data


PLAIN = whole(ARCHITECTURE, *SHAPE, VOCABULARY, THEIRS, pair("last", BOOL, b"\x01"))


def write(directory: Path, data: bytes, name: str = "model.gguf") -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


def rewrite(path: Path, template: str) -> Rewritten:
    return gguf_rewrite.rewrite(path, Rewriting(template))


def known_sha256(path: Path, template: str) -> str | None:
    return gguf_rewrite.known_sha256(path, Rewriting(template))


def layout(data: bytes) -> GgufLayout:
    return parse_layout(io.BytesIO(data), len(data), "x.gguf")


def pieces(data: bytes, found: GgufLayout) -> dict[str, bytes]:
    """The bytes of each key, those of the tensors' descriptions, and those of the data."""
    keys = {each.key: data[each.start : each.end] for each in found.pairs}
    descriptions = data[found.tensors_start : found.tensors_end]
    return {**keys, "": descriptions, "data": data[found.data_start :]}


def check(source: bytes, rewritten: Rewritten, template: str = OURS) -> bytes:
    """All that a rewritten file has to keep, whatever the source was."""
    data = b"".join(rewritten.chunks())
    before, after = layout(source), layout(data)
    assert len(data) == rewritten.size
    assert (after.version, after.tensor_count) == (before.version, before.tensor_count)
    assert after.data_start == len(rewritten.header)
    if before.tensor_count:
        assert after.data_start % before.alignment == 0
    old, new = pieces(source, before), pieces(data, after)
    assert new.pop(TEMPLATE_KEY) == pair(TEMPLATE_KEY, STRING, text(template))
    old.pop(TEMPLATE_KEY, None)
    for key in rewritten.removed:
        del old[key]
    # As lists, since the order of the keys is kept too.
    assert list(new.items()) == list(old.items())
    assert rewritten.is_unchanged == (data == source)
    return data


# --- What comes out ---


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [None, 1, 8, 64, 4096])
@pytest.mark.parametrize("template", [OURS, "x", "long " * 500_000])
def test_a_template_is_replaced(
    tmp_path: Path, version: int, alignment: int | None, template: str
) -> None:
    pairs = [ARCHITECTURE, THEIRS, VOCABULARY]
    if alignment is not None:
        pairs.insert(1, number("general.alignment", alignment))
    source = whole(*pairs, version=version, alignment=alignment or 32)
    path = write(tmp_path, source)
    rewritten = rewrite(path, template)
    assert rewritten.alignment == (alignment or 32)
    check(source, rewritten, template)
    assert read_header(write(tmp_path, b"".join(rewritten.chunks()))).chat_template == template


def test_a_template_that_is_not_there_is_added_as_the_last_key(tmp_path: Path) -> None:
    source = whole(ARCHITECTURE, VOCABULARY)
    data = check(source, rewrite(write(tmp_path, source), OURS))
    assert [each.key for each in layout(data).pairs][-1] == TEMPLATE_KEY


def test_a_template_keeps_its_place(tmp_path: Path) -> None:
    data = check(PLAIN, rewrite(write(tmp_path, PLAIN), OURS))
    assert [each.key for each in layout(data).pairs] == [each.key for each in layout(PLAIN).pairs]


def test_a_template_of_another_type_is_replaced_too(tmp_path: Path) -> None:
    source = whole(ARCHITECTURE, array(TEMPLATE_KEY, STRING, 1, text("x")))
    check(source, rewrite(write(tmp_path, source), OURS))


@pytest.mark.parametrize("first", [True, False])
def test_templates_that_could_win_over_ours_are_left_out(tmp_path: Path, first: bool) -> None:
    pairs = [ARCHITECTURE, TOOL_USE, NAMES] + ([THEIRS] if first else [])
    source = whole(*pairs)
    rewritten = rewrite(write(tmp_path, source), OURS)
    assert rewritten.removed == (f"{TEMPLATE_KEY}.tool_use", "tokenizer.chat_templates")
    keys = [each.key for each in layout(check(source, rewritten)).pairs]
    assert keys == ["general.architecture", TEMPLATE_KEY]


def test_keys_that_only_begin_alike_stay(tmp_path: Path) -> None:
    source = whole(ARCHITECTURE, pair("tokenizer.chat_template_of_mine", BOOL, b"\1"))
    rewritten = rewrite(write(tmp_path, source), OURS)
    assert rewritten.removed == ()
    check(source, rewritten)


def test_what_follows_the_tensors_is_kept(tmp_path: Path) -> None:
    source = PLAIN + b"trailing" * 200_000
    data = check(source, rewrite(write(tmp_path, source), OURS))
    assert data.endswith(DATA + b"trailing" * 200_000)


@pytest.mark.parametrize("data", [b"", b"\0" * 17])
def test_a_file_without_tensors_is_rewritten(tmp_path: Path, data: bytes) -> None:
    source = whole(ARCHITECTURE, THEIRS, tensors=(), data=data)
    check(source, rewrite(write(tmp_path, source), OURS))


def test_tensors_of_a_type_from_the_future_are_kept(tmp_path: Path) -> None:
    source = whole(ARCHITECTURE, tensors=(tensor("t", (32, 2), NEWER, 0),))
    check(source, rewrite(write(tmp_path, source), OURS))


def test_equal_input_gives_equal_bytes_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = rewrite(write(tmp_path, PLAIN), OURS)
    other = rewrite(write(tmp_path / "other", PLAIN, "y.gguf"), OURS)
    assert b"".join(one.chunks()) == b"".join(one.chunks()) == b"".join(other.chunks())
    assert one.sha256(Silence()) == other.sha256(Silence())


def test_rewriting_again_changes_nothing(tmp_path: Path) -> None:
    # Padding is not always zero; afterwards it is.
    source = whole(ARCHITECTURE, THEIRS, TOOL_USE, padding=b"#")
    once = check(source, rewrite(write(tmp_path, source), OURS))
    again = rewrite(write(tmp_path, once, "once.gguf"), OURS)
    assert again.is_unchanged
    assert check(once, again) == once
    assert again.sha256(Silence()) == hashlib.sha256(once).hexdigest()


def test_padding_that_is_not_zero_is_a_difference(tmp_path: Path) -> None:
    first = b"".join(rewrite(write(tmp_path, PLAIN), OURS).chunks())
    found = layout(first)
    assert found.data_start > found.tensors_end
    path = write(tmp_path, first[: found.data_start - 1] + b"#" + first[found.data_start :])
    assert not rewrite(path, OURS).is_unchanged


@pytest.mark.parametrize("template", ["", "a\0b", "\ud800", "x" * (16 * MIB + 1)])
def test_a_template_that_no_header_can_carry_is_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(UsageError, match="the chat template") as caught:
        rewrite(write(tmp_path, PLAIN), template)
    assert not isinstance(caught.value, FileProblem)


# --- Its digest ---


class Listener(Silence):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.transfers: list[tuple[int, int | None]] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def transfer(self, label: str, done: int, total: int | None) -> None:
        self.transfers.append((done, total))


def test_a_digest_is_that_of_the_chunks_and_is_remembered(tmp_path: Path) -> None:
    source = PLAIN + bytes(3 * MIB)
    path = write(tmp_path, source)
    rewritten = rewrite(path, OURS)
    first, second, third = Listener(), Listener(), Listener()
    sha256 = hashlib.sha256(b"".join(rewritten.chunks())).hexdigest()
    assert rewritten.sha256(first) == sha256
    assert first.steps == [f"hashing {path}, with our template in it"]
    assert first.transfers[-1] == (len(source), len(source))
    assert rewrite(path, OURS).sha256(second) == sha256
    assert second.steps == []
    assert known_sha256(path, OURS) == sha256
    assert known_sha256(path, "x") is None
    # Neither another template nor another time is answered with the old digest.
    assert rewrite(path, "x").sha256(third) != sha256
    assert known_sha256(path, OURS) == sha256
    os.utime(path, ns=(1, 1))
    assert known_sha256(path, OURS) is None
    assert rewrite(path, OURS).sha256(third) == sha256
    assert len(third.steps) == 2


def test_both_digests_come_out_of_one_pass(tmp_path: Path) -> None:
    source = PLAIN + bytes(3 * MIB)
    path = write(tmp_path, source)
    rewritten = rewrite(path, OURS)
    first, second = Listener(), Listener()
    own = hashlib.sha256(source).hexdigest()
    new = hashlib.sha256(b"".join(rewritten.chunks())).hexdigest()
    assert rewritten.digests(first) == (own, new)
    assert first.steps == [f"hashing {path}, once as it is and once as it is sent"]
    assert first.transfers[-1] == (len(source), len(source))
    assert rewrite(path, OURS).digests(second) == (own, new)
    assert rewrite(path, OURS).sha256(second) == new
    assert state.file_sha256(path, second) == own
    assert second.steps == []


def test_a_digest_of_an_unchanged_file_is_that_which_is_known_of_it(tmp_path: Path) -> None:
    once = b"".join(rewrite(write(tmp_path, PLAIN), OURS).chunks())
    path = write(tmp_path, once, "once.gguf")
    assert state.file_sha256(path, Silence()) == hashlib.sha256(once).hexdigest()
    listener = Listener()
    assert rewrite(path, OURS).sha256(listener) == hashlib.sha256(once).hexdigest()
    assert listener.steps == []
    assert known_sha256(path, OURS) == hashlib.sha256(once).hexdigest()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_memory_that_is_broken_is_no_obstacle(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, PLAIN)
    sha256 = rewrite(path, OURS).sha256(Silence())
    state._digests().write_text(content)
    assert known_sha256(path, OURS) is None
    assert rewrite(path, OURS).sha256(Silence()) == sha256


# --- A source that changes ---


def test_a_source_that_changed_since_its_header_was_read_gives_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN)
    rewritten = rewrite(path, OURS)
    path.write_bytes(PLAIN + b"more")
    with pytest.raises(FileProblem, match="changed while it was read"):
        next(rewritten.chunks())
    with pytest.raises(FileProblem, match="changed while it was read"):
        rewritten.sha256(Silence())


def test_a_remembered_digest_does_not_stand_for_a_source_that_changed(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN)
    rewritten = rewrite(path, OURS)
    rewritten.sha256(Silence())
    os.utime(path, ns=(1, 1))
    with pytest.raises(FileProblem, match="changed while it was read"):
        rewritten.sha256(Silence())


@pytest.mark.parametrize("change", ["cut", "grow", "touch"])
def test_a_source_that_changes_while_it_is_sent_is_never_sent_whole(
    tmp_path: Path, change: str
) -> None:
    path = write(tmp_path, PLAIN + bytes(4 * MIB))
    rewritten = rewrite(path, OURS)
    sent = 0

    def send() -> None:
        nonlocal sent
        for chunk in rewritten.chunks():
            sent += len(chunk)
            if change == "cut":
                os.truncate(path, 2 * MIB)
            elif change == "grow":
                os.truncate(path, 9 * MIB)
            else:
                os.utime(path, ns=(sent, sent))

    with pytest.raises(FileProblem, match="changed while it was read"):
        send()
    assert sent < rewritten.size


def test_a_source_that_changes_while_it_is_hashed_has_no_digest(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN + bytes(4 * MIB))

    class Toucher(Silence):
        def transfer(self, label: str, done: int, total: int | None) -> None:
            os.utime(path, ns=(done, done))

    rewritten = rewrite(path, OURS)
    with pytest.raises(FileProblem, match="changed while it was read"):
        rewritten.sha256(Toucher())
    listener = Listener()
    rewrite(path, OURS).sha256(listener)
    assert listener.steps, "the digest of the changing file was remembered"


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN)
    rewritten = rewrite(path, OURS)
    path.unlink()
    for attempt in (
        lambda: next(rewritten.chunks()),
        lambda: rewritten.sha256(Silence()),
        lambda: known_sha256(path, OURS),
    ):
        with pytest.raises(FileProblem, match=r"cannot read .*No such file"):
            attempt()


# --- Broken files ---


def refusal(path: Path) -> str:
    with pytest.raises(FileProblem) as caught:
        rewrite(path, OURS)
    assert str(path) in caught.value.what
    assert caught.value.fix
    return caught.value.what


def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    for end in range(len(PLAIN)):
        refusal(write(tmp_path, PLAIN[:end]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (whole(ARCHITECTURE, data=DATA[:101]), "inside its tensors"),
        (whole(ARCHITECTURE, data=b""), "inside its tensors"),
        (whole(ARCHITECTURE, THEIRS, THEIRS), "stands there twice"),
        (whole(ARCHITECTURE, tensors=TENSORS[:1] * 2), "'token_embd.weight' stands there twice"),
        (whole(ARCHITECTURE, tensors=(tensor("t", (1,) * 5, F32, 0),)), "has 5 dimensions"),
        (whole(ARCHITECTURE, tensors=(tensor("t", (33,), Q4_0, 0),)), "rows of 33 elements"),
        (whole(ARCHITECTURE, tensors=(tensor("t", (1 << 63,) * 4, F32, 0),)), "inside its tensors"),
        (whole(ARCHITECTURE, tensors=(tensor("t", (1,), F32, 1 << 63),)), "inside its tensors"),
        (whole(ARCHITECTURE, tensors=(tensor("t", (1,), NEWER, 1 << 63),)), "inside its tensors"),
        (file(ARCHITECTURE, tensors=70_000) + bytes(24 * 70_000), "to have 70000 tensors"),
        (file(ARCHITECTURE, count=70_000) + bytes(13 * 70_000), "to have 70000 keys"),
        (whole(number("general.alignment", 0)), "no usable power of two"),
        (whole(number("general.alignment", 48)), "no usable power of two"),
        (whole(number("general.alignment", 1 << 21)), "no usable power of two"),
        (
            whole(pair("general.alignment", UINT64, struct.pack("<Q", 32))),
            "no usable power of two",
        ),
        (whole(array("general.alignment", UINT32, 1, bytes(4))), "no usable power of two"),
        (
            whole(array("nested", ARRAY, 1, struct.pack("<IQB", 0, 1, 7))),
            "nested too deeply",
        ),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in refusal(write(tmp_path, data))


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "No such file" in refusal(tmp_path / "absent.gguf")
    assert "not a file" in refusal(tmp_path)
    assert "not a file" in refusal(tmp_path / "pipe")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A small valid file with bytes overwritten, put in, taken out, or cut off."""
    pairs = draw(
        st.lists(
            st.sampled_from([ARCHITECTURE, *SHAPE, VOCABULARY, THEIRS, TOOL_USE, NAMES]),
            unique=True,
        )
    )
    version = draw(st.sampled_from([2, 3]))
    data = whole(*pairs, number("general.alignment", 32), version=version)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 16))
        # Lengths and counts are where damage hurts, so they are tried more often than chance would.
        put = draw(
            st.binary(max_size=16)
            | st.integers(0, 2**64 - 1).map(lambda value: struct.pack("<Q", value))
            | st.sampled_from([THEIRS, TOOL_USE, b"\xff" * 8, bytes(8)])
        )
        data = data[:at] + put + data[at + gone :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=damaged())
def test_damage_anywhere_gives_a_file_problem_or_the_same_tensors(
    tmp_path: Path, data: bytes
) -> None:
    path = write(tmp_path, data)
    tracemalloc.start()
    try:
        rewritten = rewrite(path, OURS)
    except FileProblem:
        return
    finally:
        # The reader's buffer, the pieces and what Python keeps of a few dozen keys.
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
        tracemalloc.stop()
    check(data, rewritten)


def peak(path: Path) -> int:
    tracemalloc.start()
    try:
        refusal(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "absurd",
    [
        array("k", UINT32, 1 << 40, b""),
        array("k", STRING, 1 << 40, b""),
        array("k", STRING, 1 << 25, b""),
        array("k", STRING, 1, struct.pack("<Q", 1 << 40)),
        array("k", ARRAY, 1 << 40, b""),
        pair("k", STRING, struct.pack("<Q", 1 << 40)),
        struct.pack("<Q", 1 << 40),
        # These the file has room for, but no header does.
        array("k", UINT32, 1 << 32, b""),
        array("k", STRING, 1, struct.pack("<Q", 1 << 34)),
        pair("k", STRING, struct.pack("<Q", 1 << 30)),
    ],
)
def test_absurd_lengths_take_no_memory(tmp_path: Path, absurd: bytes) -> None:
    path = write(tmp_path, file(ARCHITECTURE, absurd))
    assert peak(path) < 4 * MIB
    # Again with so large a file, a hole for the most part, that the lengths become possible.
    os.truncate(path, 1 << 36)
    assert peak(path) < 4 * MIB


def test_a_header_is_held_once(tmp_path: Path) -> None:
    source = whole(ARCHITECTURE, array("k", UINT32, 16 * MIB, bytes(64 * MIB)))
    path = write(tmp_path, source)
    tracemalloc.start()
    rewritten = rewrite(path, OURS)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < len(rewritten.header) + MIB
    assert most < len(rewritten.header) * 1.3 + 4 * MIB


# --- Split models ---


def split(directory: Path, count: int = 3, total: int = 3, name: str = "model") -> list[Path]:
    paths = []
    for index in range(count):
        own = [ARCHITECTURE, VOCABULARY, THEIRS] if index == 0 else []
        keys = [
            number("split.no", index),
            number("split.count", count),
            number("split.tensors.count", total),
        ]
        one = (tensor(f"blk.{index}.weight", (4, 2), F32, 0),)
        data = whole(*own, *keys, tensors=one, data=bytes([index]) * 32)
        paths.append(write(directory, data, f"{name}-{index + 1:05}-of-{count:05}.gguf"))
    return paths


def test_a_model_in_one_file_has_one_part(tmp_path: Path) -> None:
    for name in ("model.gguf", "model-1-of-3.gguf", "x-00001-of-00003.gguf"):
        path = write(tmp_path, PLAIN, name)
        assert parts(path) == (path,)


@pytest.mark.parametrize("named", range(3))
@pytest.mark.parametrize("name", ["model", "two\nlines", "a-00001-of-00002"])
def test_all_parts_are_found_from_any_of_them(tmp_path: Path, named: int, name: str) -> None:
    paths = split(tmp_path, name=name)
    assert parts(paths[named]) == tuple(paths)


def test_only_the_first_part_is_rewritten(tmp_path: Path) -> None:
    first, second, _ = split(tmp_path)
    check(first.read_bytes(), rewrite(first, OURS))
    assert "part 2 of 3" in refusal(second)


def test_a_part_keeps_its_name_or_is_refused(tmp_path: Path) -> None:
    first = split(tmp_path)[0].rename(tmp_path / "mine.gguf")
    assert "the first of 3 parts" in refusal(first)


def parts_refusal(path: Path) -> str:
    with pytest.raises(FileProblem) as caught:
        parts(path)
    assert caught.value.fix
    return caught.value.what


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first, second, third = split(tmp_path)
    third.unlink()
    assert f"1 of the model's 3 parts are missing, the first is {third.name}" in parts_refusal(
        second
    )
    first.unlink()
    assert "2 of the model's 3 parts are missing" in parts_refusal(second)


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first, second, third = split(tmp_path)
    third.write_bytes(second.read_bytes())
    assert f"{third}: by its header it is not part 3 of 3" in parts_refusal(first)
    split(tmp_path, total=4)
    assert "have 3 tensors together, not 4" in parts_refusal(first)
    third.write_bytes(third.read_bytes()[:-1])
    assert "inside its tensors" in parts_refusal(first)
    outside = first.rename(tmp_path / "model-00004-of-00003.gguf")
    assert "no part 4 of 3" in parts_refusal(outside)
    assert "No such file" in parts_refusal(first)
