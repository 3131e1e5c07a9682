"""How many bits a model's weights take in each format that checkpoints come in.

    bf16, fp8, nvfp4, mxfp4, int4-g128   the linear layers in that format; router, embedding and lm_head in BF16
    mxfp4-all     lm_head in MXFP4 too, as engines quantize it on loading
    gguf-mxfp4    llama.cpp's for gpt-oss: experts in MXFP4, the router in F32, everything else in Q8_0
    q8_0, q4_k_m, iq4_xs   llama.cpp's mixtures, as the average over a whole file
    as-shipped    what the makers published, by model

Scales are counted, at their share of each weight: a byte for 16 weights of NVFP4, a byte for 32 of MXFP4, a float16 for
128 of INT4 (symmetric, so without zero points), a float16 for 32 of Q8_0. A float32 for a tensor, a row or a block of
128x128, as FP8 has it, is below 0.1 % and left out.
"""

from __future__ import annotations

from typing import Literal, get_args

from roofprobe.errors import BadInput
from roofprobe.models import Model, Part

Format = Literal[
    "as-shipped", "bf16", "fp8", "nvfp4", "mxfp4", "int4-g128", "mxfp4-all", "gguf-mxfp4", "q8_0", "q4_k_m", "iq4_xs"
]
FORMATS: tuple[Format, ...] = get_args(Format)
PARTS: tuple[Part, ...] = get_args(Part)
LINEAR: tuple[Part, ...] = ("attention", "dense", "expert", "shared_expert")

BITS = {
    "bf16": 16.0,
    "fp8": 8.0,
    "nvfp4": 4.5,
    "mxfp4": 4.25,
    "int4-g128": 4.125,
    "f32": 32.0,
    "q8_0": 8.5,
    "q4_k_m": 4.85,
    "iq4_xs": 4.25,
}
"""Bits a weight; Q4_K_M and IQ4_XS as the average over a Llama's file (llama.cpp, examples/quantize)."""
WHOLE_FILE = ("q8_0", "q4_k_m", "iq4_xs")
"""One average for every part."""


def formats_by_part(model: Model, name: Format) -> dict[Part, str]:
    """The name in BITS of what each part of the model is in."""
    if name in WHOLE_FILE:
        return dict.fromkeys(PARTS, name)
    if name == "as-shipped":
        parts = {} if model.shipped is None else model.shipped.parts
        return {part: parts.get(part, "bf16") for part in PARTS}
    if name == "gguf-mxfp4":
        return dict.fromkeys(PARTS, "q8_0") | {"expert": "mxfp4", "router": "f32"}
    linear = "mxfp4" if name == "mxfp4-all" else name
    found: dict[Part, str] = {part: linear if part in LINEAR else "bf16" for part in PARTS}
    return found | {"lm_head": linear} if name == "mxfp4-all" else found


def bits_by_part(model: Model, name: Format) -> dict[Part, float]:
    """Bits a weight of each part of the model takes in a format."""
    return {part: BITS[found] for part, found in formats_by_part(model, name).items()}


def find_format(name: str) -> Format:
    """Raises BadInput with the known ones for another."""
    for known in FORMATS:
        if name.lower() == known:
            return known
    raise BadInput(f"no weight format '{name}'; there are {', '.join(FORMATS)}")
