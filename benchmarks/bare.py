"""The plain PyTorch loop that the engine's loop is compared with."""

import contextlib
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from raymia.config import TrainingConfig
from raymia.models import build_model
from raymia.records import Records


def epoch_seconds(
    records: Records, name: str, options: dict[str, Any], settings: TrainingConfig, *, channels_last: bool, threads: int
) -> list[float]:
    """Wall time of each epoch of a loop with nothing in it but the training; what surrounds it is not counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _train(records, name, options, settings, channels_last)
    finally:
        torch.set_num_threads(before)


def _train(
    records: Records, name: str, options: dict[str, Any], settings: TrainingConfig, channels_last: bool
) -> list[float]:
    torch.manual_seed(0)
    height, width, channels = records.inputs.shape[1:]
    model: nn.Module = build_model(name, (channels, height, width), records.classes, options)
    images = torch.from_numpy(records.inputs).permute(0, 3, 1, 2)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    else:
        images = images.contiguous()
    labels = torch.from_numpy(records.labels)
    optimizer = torch.optim.SGD(
        model.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
    )
    bf16 = settings.precision == "bf16"
    found = []
    for _ in range(settings.epochs):
        started = time.perf_counter()
        model.train()
        for index in torch.randperm(len(labels)).split(settings.batch_size):
            inputs = images[index].float().div_(255)
            with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext():
                logits = model(inputs)
            loss = functional.cross_entropy(logits.float(), labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        found.append(time.perf_counter() - started)
    return found
