"""Which number format trains fastest on this machine without harm: resolved once, at a study's start."""

import torch


def has_fast_bf16() -> bool:
    """Whether this machine computes in bfloat16 by hardware (a GPU's tensor cores, or AVX512-BF16 and AMX on a CPU)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def resolve_precision(asked: str) -> str:
    """`auto` as bf16 where the hardware has it, else fp32; anything else as asked."""
    if asked != "auto":
        return asked
    return "bf16" if has_fast_bf16() else "fp32"
