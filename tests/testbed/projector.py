"""A projector as Devstral's is, of the Pixtral kind, in 73 kB: an engine loads it and sees noise.

The real one has 24 blocks of width 1024 with 16 heads for images of 1540 pixels, and projects to
the 5120 of the text: 439 million parameters, 0.88 GB in F16.
"""

from __future__ import annotations

from pathlib import Path

PATCH, IMAGE, MERGE = 14, 224, 2
_WIDTH, _HEADS, _FEED_FORWARD = 32, 2, 64


def write_projector(path: Path, *, text_width: int = 32, name: str = "a tiny projector") -> None:
    """Write one; equal arguments give equal bytes.

    Args:
        path: The file.
        text_width: Width of the text model's embedding; an engine refuses another.
        name: Its name, so that each release's is a file of its own.
    """
    # Here, since numpy takes half a second to import.
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "pixtral")
    writer.add_bool("clip.use_silu", True)
    for key, value in {
        "image_size": IMAGE,
        "patch_size": PATCH,
        "embedding_length": _WIDTH,
        "feed_forward_length": _FEED_FORWARD,
        "block_count": 1,
        "attention.head_count": _HEADS,
        "projection_dim": text_width,
        "spatial_merge_size": MERGE,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.48145466, 0.4578275, 0.40821073])
    writer.add_array("clip.vision.image_std", [0.26862954, 0.26130258, 0.27577711])

    noise = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray:
        return (noise.standard_normal(shape) * 0.02).astype(np.float16)

    def ones() -> np.ndarray:
        return np.ones(_WIDTH, np.float32)

    tensors = {
        "v.patch_embd.weight": matrix(_WIDTH, 3, PATCH, PATCH),
        "v.pre_ln.weight": ones(),
        "v.token_embd.img_break": matrix(text_width).astype(np.float32),
        "mm.1.weight": matrix(text_width, _WIDTH),
        "mm.2.weight": matrix(text_width, text_width),
        "mm.input_norm.weight": ones(),
        "mm.patch_merger.weight": matrix(_WIDTH, _WIDTH * MERGE * MERGE),
        **{
            f"v.blk.0.attn_{each}.weight": matrix(_WIDTH, _WIDTH) for each in ("q", "k", "v", "out")
        },
        "v.blk.0.ffn_gate.weight": matrix(_FEED_FORWARD, _WIDTH),
        "v.blk.0.ffn_up.weight": matrix(_FEED_FORWARD, _WIDTH),
        "v.blk.0.ffn_down.weight": matrix(_WIDTH, _FEED_FORWARD),
        "v.blk.0.ln1.weight": ones(),
        "v.blk.0.ln2.weight": ones(),
    }
    for tensor, values in tensors.items():
        writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
