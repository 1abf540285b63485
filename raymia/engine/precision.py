"""Which number format trains fastest on the study's devices without harm: resolved once, at a study's start."""

import torch


def has_fast_bf16(device: str) -> bool:
    """Whether this machine's `cpu` or `cuda` computes in bfloat16 by hardware (tensor cores, AVX512-BF16, AMX)."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def resolve_precision(asked: str, device: str) -> str:
    """`auto` as bf16 where the hardware has it, else fp32; anything else as asked.

    A study's GPUs may all be on other nodes: for them bf16 is taken, and a node whose GPUs lack it is refused later.
    """
    if asked != "auto":
        return asked
    return "bf16" if device == "cuda" or has_fast_bf16(device) else "fp32"
