"""Networks whose gradient can be taken record by record, as DP-SGD needs it."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

from raymia.errors import InputError
from raymia.models import Classifier
from raymia.privacy.lazy_opacus import opacus_module

_TOLERANCE = 1e-3


def without_coupling(model: Classifier) -> Classifier:
    """The model with each batch normalization replaced by group normalization, and nothing computed in place.

    Batch normalization mixes the records of a batch, and what works in place overwrites what the hooks of per-sample
    gradients saw. Opacus' own replacement: as many groups as divide both 32 and the channels (Wu & He 2018).
    """
    validator = opacus_module("validators").ModuleValidator
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, validator.fix(layer))
    for layer in model.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]
    return model


def per_sample_network(model: Classifier) -> nn.Module:
    """The model wrapped so that a backward pass of a mean loss leaves each record's gradient in `grad_sample`.

    Its weights are laid out channels first, and inputs must be: Opacus 1.6 takes wrong gradients of convolutions whose
    inputs lie in memory channels last.
    Raises InputError for a network of which Opacus cannot take them, or whose records see each other: two probing
    batches that share a record must give it the same gradient, and the records' gradients must add up to the batch's.
    """
    name = type(model.net).__name__
    kept = [where for where, _ in model.net.named_buffers()]
    if kept:
        raise InputError(
            f"dp_sgd: the network {name} keeps {kept[0]!r} beside its weights, which no noise protects: use layers "
            "without buffers (GroupNorm or LayerNorm instead of running statistics)"
        )
    model.to(memory_format=torch.contiguous_format)
    network: nn.Module = opacus_module("grad_sample").GradSampleModule(model, loss_reduction="mean")
    # A second backward pass before the step would count a record twice: it raises instead.
    network.forbid_grad_accumulation()  # type: ignore[operator]
    with torch.random.fork_rng():
        inputs = torch.rand(3, *model.input_shape).to(model.mean.device)
        one, other = (_gradients(network, name, inputs[[0, second]]) for second in (1, 2))
    if _apart(one[0], other[0]):
        raise InputError(
            f"dp_sgd: in the network {name} a record's gradient depends on the other records of its batch, so clipping "
            "would bound nothing: use layers that treat each record alone"
        )
    return network


def leave_gradients(loss: Tensor) -> None:
    """The backward pass of a mean loss through such a network."""
    with warnings.catch_warnings():
        # Nobody needs the gradient of the pixels, which torch misses.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        loss.backward()


def _gradients(network: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """float[B, P]: each record's gradient of all parameters, at fixed random decisions of the network."""
    torch.manual_seed(0)
    network.train()
    network.zero_grad(set_to_none=True)
    try:
        logits = network(inputs)
        labels = torch.zeros(len(inputs), dtype=torch.int64, device=logits.device)
        leave_gradients(functional.cross_entropy(logits.float(), labels))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"dp_sgd: Opacus cannot take the network {name}'s gradients record by record ({reason}); compute nothing "
            "in place (`out = out + x`, not `out += x`)"
        ) from error
    trained = {where: weight for where, weight in network.named_parameters() if weight.requires_grad}
    samples = {where: getattr(weight, "grad_sample", None) for where, weight in trained.items()}
    unused = [where for where, sample in samples.items() if sample is None]
    if unused:
        raise InputError(
            f"dp_sgd: the network {name} does not use its weight {unused[0]!r}: leave it out, or freeze it"
        )
    each = torch.cat([sample.reshape(len(inputs), -1) for sample in samples.values() if sample is not None], dim=1)
    whole = torch.cat([weight.grad.reshape(-1) for weight in trained.values() if weight.grad is not None])
    network.zero_grad(set_to_none=True)
    if _apart(each.mean(dim=0), whole):
        raise InputError(
            f"dp_sgd: the network {name}'s gradient is not the sum of the records' that Opacus takes: use each weight "
            "in the forward of its own layer alone"
        )
    return each


def _apart(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() > _TOLERANCE * (one.norm() + other.norm()))
