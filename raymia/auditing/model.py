"""Asking a user's model: what it answers on members and non-members, as the arrays and signals of an audit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raymia.attacks import Needs, Signals
from raymia.auditing.evidence import Evidence, evidence_of, file_digest
from raymia.auditing.records import AuditRecords, read_audit_records
from raymia.auditing.stored_array import Array
from raymia.errors import InputError
from raymia.keys import array_digest
from raymia.models import Classifier, build_model, model_source_digest
from raymia.models.user_code import one_line
from raymia.recipes.queries import Query, asked, check_queries
from raymia.recipes.trained import TrainedModel
from raymia.training.defense import Composed

_MEMBERS, _NONMEMBERS, _POPULATION = range(3)
_ALONE = "hand all models' answers in with --signals, since --model asks the target alone"
_REMEDIES = {
    Needs.SHADOW: _ALONE,
    Needs.OUT_REFERENCES: _ALONE,
    Needs.IN_REFERENCES: _ALONE,
    Needs.POPULATION: "give --population",
    Needs.QUERIES: "give --queries identity,flip,shifts",
    Needs.GRADIENT_NORM: "they could not be taken of this model",
    Needs.IMAGES: "give --population, whose records it learns with",
    Needs.ADVERSARIAL_QUERIES: "hand the answers to them in with --signals, and name the attack without _adversarial",
}


@dataclass(frozen=True)
class Questions:
    """What to ask of whom. model: `package.module:function`. checkpoint: its weights. The rest: data sets by path."""

    model: str
    checkpoint: Path
    members: str
    nonmembers: str
    population: str | None
    classes: int | None
    queries: tuple[Query, ...]


def ask_model(questions: Questions, *, probabilities: bool, gradients: bool, seed: int) -> Evidence:
    """The evidence of a model's own answers.

    gradients: take the norms of the loss's gradients, too. Raises InputError for whatever does not fit together.
    """
    files = {"--members": questions.members, "--nonmembers": questions.nonmembers}
    if questions.population is not None:
        files["--population"] = questions.population
    records = read_audit_records([*files], [*files.values()], questions.classes)
    for number, option in enumerate(files):
        if not len(records.part(number)):
            raise InputError(f"{option}: every record stands in an earlier file; give others")
    shape = records.inputs.shape[1:]
    input_shape = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    check_queries(questions.queries, input_shape)
    model = _trained(questions, input_shape, records.classes)
    arrays = _answers(model, records, questions.queries)
    digests = {
        questions.checkpoint.name: file_digest(questions.checkpoint),
        "records": array_digest(records.inputs),
        "model": model_source_digest(questions.model),
    }
    evidence = evidence_of(arrays, digests, probabilities=probabilities, equalize=False, seed=seed)
    notes = [*evidence.notes, *_left_out([*files], records)]
    target, population = evidence.target, evidence.view.population
    scored = np.sort(np.concatenate([records.part(_MEMBERS), records.part(_NONMEMBERS)]))
    if gradients and not probabilities:
        target, more = _with_gradients(target, model, records.inputs[scored])
        notes += more
    if questions.population is not None and population is not None:
        # Only with records that the target did not train on can anything be learned from what records look like.
        target = replace(target, inputs_N=records.inputs[scored])
        population = replace(population, inputs_N=records.inputs[records.part(_POPULATION)])
    view = replace(evidence.view, population=population)
    return replace(evidence, target=target, view=view, remedies=_REMEDIES, notes=tuple(notes))


def _trained(questions: Questions, input_shape: tuple[int, ...], classes: int) -> TrainedModel:
    """The model with its weights, ready to be asked."""
    with torch.random.fork_rng(devices=[]):
        model = build_model(questions.model, input_shape, classes)
    _load(model, questions.checkpoint, input_shape)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedModel(model.to(device).float().eval(), Composed(()), device)


def _load(model: Classifier, checkpoint: Path, input_shape: tuple[int, ...]) -> None:
    """Weights of the user's own module, or of raymia's around it, which normalizes inputs."""
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling refuses in many ways
        raise InputError(
            f"--checkpoint {checkpoint}: cannot be read as weights alone ({one_line(error)[:200]}); save it with "
            "torch.save(model.state_dict(), path)"
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise InputError(f"--checkpoint {checkpoint}: holds no weights by name; save model.state_dict()")
    whole = weights.keys() == model.state_dict().keys()
    try:
        (model if whole else model.net).load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"--checkpoint {checkpoint}: does not fit the model built for inputs {list(input_shape)} and "
            f"{model.classes} classes; correct the file, the data or --classes: {one_line(error)[:300]}"
        ) from error


def _answers(model: TrainedModel, records: AuditRecords, queries: tuple[Query, ...]) -> dict[str, Array]:
    """The arrays of an audit by signals. Raises InputError where the model fails."""
    try:
        logits_NQC = np.stack([model.logits(form) for form in asked(records.inputs, queries)], axis=1)
    except Exception as error:  # whatever a user's module raises
        raise InputError(f"--model: it fails on the records: {one_line(error)[:300]}; correct it") from error
    outside = records.part_of == _POPULATION
    ids = records.ids[~outside]
    arrays: dict[str, Array] = {
        "target_logits": logits_NQC[~outside],
        "labels": records.labels[~outside],
        "member": records.part_of[~outside] == _MEMBERS,
        "id": ids if len(np.unique(ids)) == len(ids) else np.arange(len(ids)),
    }
    if outside.any():
        arrays |= {"population_logits": logits_NQC[outside], "population_labels": records.labels[outside]}
    return arrays


def _with_gradients(target: Signals, model: TrainedModel, inputs: NDArray[Any]) -> tuple[Signals, list[str]]:
    try:
        return replace(target, gradient_norm_N=model.gradient_norms(inputs, target.labels_N)), []
    except Exception as error:  # modules that torch.func cannot take apart
        return target, [f"no gradient norms: {one_line(error)[:200]}"]


def _left_out(options: Sequence[str], records: AuditRecords) -> list[str]:
    return [
        f"{option}: {left_out} exact copies of other records were left out"
        for option, left_out in zip(options, records.left_out, strict=True)
        if left_out
    ]
