"""Models by name: the built-in ones, and the user's own as `package.module:function`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from raymia.errors import InputError
from raymia.models.classifier import Classifier
from raymia.models.cnn import cnn
from raymia.models.mlp import mlp
from raymia.models.resnet import resnet18
from raymia.models.user_code import load_function, one_line, source_digest
from raymia.models.vgg import vgg11
from raymia.yaml_files import suggestion

BUILT_IN: Mapping[str, Callable[..., nn.Module]] = {"cnn": cnn, "mlp": mlp, "resnet18": resnet18, "vgg11": vgg11}


def build_model(
    name: str, input_shape: tuple[int, ...], classes: int, options: Mapping[str, Any] | None = None
) -> Classifier:
    """A freshly initialized classifier: its weights depend on torch's global generator alone, which the caller seeds.

    name: a built-in model, or `package.module:function` of a `function(input_shape, classes, **options) -> nn.Module`
    that maps float[B, *input_shape] to logits [B, classes]. input_shape: (C, H, W) or (F,). Raises InputError for an
    unknown name or option, a value the model refuses, or user code that does not give such a module.
    """
    function = _builder(name)
    _check_options(name, function, options or {})
    if name in BUILT_IN:
        return Classifier(function(input_shape, classes, **(options or {})), input_shape, classes)
    try:
        net = function(input_shape, classes, **(options or {}))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"model {name!r} fails for input {input_shape}, {classes} classes: {one_line(error)}"
        ) from error
    if not isinstance(net, nn.Module):
        raise InputError(f"model {name!r} returns {type(net).__name__}: it must return a torch.nn.Module")
    _check_output(name, net, input_shape, classes)
    return Classifier(net, input_shape, classes)


def model_source_digest(name: str) -> str:
    """'' for a built-in model; for the user's own, a digest of its source, so that changed code is another model."""
    return "" if name in BUILT_IN else source_digest("model", name)


def _builder(name: str) -> Callable[..., nn.Module]:
    if name in BUILT_IN:
        return BUILT_IN[name]
    if ":" not in name:
        raise InputError(f"unknown model {name!r}: {suggestion(name, sorted(BUILT_IN))}, or package.module:function")
    return load_function("model", name)


def _check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # builtins and C functions have no signature: the call itself will tell
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    allowed = [parameter.name for parameter in list(parameters)[2:] if parameter.kind is not parameter.POSITIONAL_ONLY]
    for option in options:
        if option not in allowed:
            known = suggestion(option, allowed) if allowed else "it takes no options"
            raise InputError(f"unknown option model.options.{option} of model {name!r}: {known}")


def _check_output(name: str, net: nn.Module, input_shape: tuple[int, ...], classes: int) -> None:
    """Try two records of zeros, leaving the random generator as it was."""
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = net(torch.zeros(2, *input_shape))
    except Exception as error:
        raise InputError(
            f"model {name!r} fails on an input of shape (2, {_text(input_shape)}): {one_line(error)}"
        ) from error
    finally:
        net.train(was_training)
    given = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if given != (2, classes):
        raise InputError(f"model {name!r} answers {given} to 2 records: it must give logits of shape (2, {classes})")


def _text(input_shape: tuple[int, ...]) -> str:
    return ", ".join(str(size) for size in input_shape)
