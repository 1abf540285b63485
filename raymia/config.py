"""What a study is: typed, validated, immutable. YAML and command line in, resolved YAML out."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from raymia.errors import InputError
from raymia.yaml_files import configs_folder, find_yaml, read_yaml, suggestion

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
OptionValue = bool | int | float | str
Evaluation = Literal["pgd20", "aa"]
CanaryKind = Literal["clean", "mislabeled", "noise"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(_Section):
    """dataset: `digits`, `cifar10`, `cifar100`, a Parquet path or an image folder's path. limit: first records only.

    image_size: pixels, to make images smaller than they are.
    """

    dataset: str = "digits"
    limit: Count | None = None
    image_size: Annotated[int, Field(ge=4)] | None = None


class SearchedPlans(_Section):
    """The plans of another study on the same records: by its seed and the number of its targets."""

    seed: Annotated[int, Field(ge=0)]
    targets: Count


class PlanConfig(_Section):
    """kind: `quad`, each target on a split of its own (paper 1's); `shared`, one split, of whose halves each target has
    random ones, so that all share their references; `half`, the replication of papers that attack each of N models by
    the other N - 1 (here, the first ones by all others), without shadows. Leave-one-out lets a record's count of IN
    models give its membership away: `half` is for comparing with those papers.

    part_size: records in each of the plan's equal parts (None: all there are). targets: target models a setting.

    references: reference models a target, in blocks of 16; more only add to those there are. canaries: records that are
    set apart to be audited, and made of canary_kind; they have as many references of their own. apart_from: another
    study, none of whose records are used. reserve: whether a further part is the defender's own (None: where some
    defense of the space wants one).
    """

    kind: Literal["quad", "shared", "half"] = "quad"
    part_size: Count | None = None
    targets: Count = 5
    references: Annotated[int, Field(ge=0, multiple_of=16)] = 0
    canaries: Annotated[int, Field(ge=0)] = 0
    canary_kind: CanaryKind = "mislabeled"
    apart_from: SearchedPlans | None = None
    reserve: bool | None = None


class ModelConfig(_Section):
    """name: a built-in model, `package.module:function`, or `auto` (by the kind of records). options: its arguments."""

    name: str = "auto"
    options: dict[str, OptionValue | tuple[OptionValue, ...]] = {}


class TrainingConfig(_Section):
    """How every model of the study trains. milestones, warmup: fractions of the epochs. checkpoint_every: epochs."""

    epochs: Count = 100
    batch_size: Annotated[int, Field(ge=2)] = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 0.1
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 5e-4
    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    gamma: Positive = 0.1
    warmup: Fraction = 0.0
    augmentation: Literal["none", "flip", "crop_flip"] = "none"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every: Count = 10

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "TrainingConfig":
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0: set training.momentum, or nesterov to false")
        return self


class DiffusionConfig(_Section):
    """The denoiser of the defenses that train on generated images: its network, training and sampling.

    conditional: class-conditional with classifier-free guidance, else without labels. channels: feature maps of each
    resolution, halving the side from one to the next; attention: on which of them (0 is the full one). blocks: residual
    blocks a resolution. timesteps: T of the forward process. beta_start, beta_end: of the linear schedule.
    warmup: fraction of the iterations. ema: decay of the weights' moving average, 0 for none. null_probability: how
    often a label is left out in training. guidance: w of Ho & Salimans, scale 1 + w (0: none). clip: x̂₀ into [-1, 1]
    at every step. per_class: images kept of each class. shard_size: images drawn for one file. max_images: drawn before
    a class short of its quota is given up.
    """

    conditional: bool = True
    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 64)
    attention: tuple[Annotated[int, Field(ge=0)], ...] = (1,)
    blocks: Count = 1
    dropout: Fraction = 0.1
    timesteps: Annotated[int, Field(ge=2)] = 1000
    noise_schedule: Literal["linear", "cosine"] = "linear"
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    iterations: Count = 20_000
    batch_size: Annotated[int, Field(ge=2)] = 80
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 1e-4
    warmup: Fraction = 0.05
    decay: Literal["constant", "cosine"] = "cosine"
    gradient_clip: Positive = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    null_probability: Annotated[float, Field(ge=0, lt=1)] = 0.1
    flip: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every: Count = 1000
    sampler: Literal["ancestral", "ddim", "dpm_solver++"] = "dpm_solver++"
    sampler_steps: Count = 20
    guidance: NonNegative = 0.0
    clip: bool = True
    per_class: Count = 150
    shard_size: Annotated[int, Field(ge=2)] = 256
    max_images: Count = 50_000

    @model_validator(mode="after")
    def _consistent(self) -> "DiffusionConfig":
        if not self.conditional and self.guidance:
            raise ValueError(
                "guidance needs a conditional denoiser: set guidance to 0, or diffusion.conditional to true"
            )
        if self.conditional and self.guidance and not self.null_probability:
            raise ValueError("guidance needs labels left out in training: set diffusion.null_probability above 0")
        if self.noise_schedule == "linear" and self.beta_end <= self.beta_start:
            raise ValueError("beta_end must be above beta_start")
        if self.sampler_steps > self.timesteps:
            raise ValueError(f"sampler_steps cannot be above timesteps ({self.timesteps})")
        if any(level >= len(self.channels) for level in self.attention):
            last = len(self.channels) - 1
            raise ValueError(f"attention names a resolution that channels does not have (0 to {last})")
        return self


class RobustnessConfig(_Section):
    """What models are asked to withstand: each pixel, in [0, 1], moved by at most epsilon (`linf`), or all of an image
    by that Euclidean distance (`l2`).

    evaluations: `pgd20`, 20 steps of step_size from a random start, and `aa`, AutoAttack's standard set. images: so
    many of each target's non-members, the same ones under every defense. The adversarial queries of attacks on
    membership are crafted by the same 20 steps.
    """

    evaluations: tuple[Evaluation, ...] = ()
    images: Annotated[int, Field(ge=10)] = 500
    norm: Literal["linf", "l2"] = "linf"
    epsilon: Positive = 8 / 255
    step_size: Positive = 2 / 255


class EngineConfig(_Section):
    """How models are laid over the machine: part of their identity, where it changes the arithmetic.

    workers_per_model: above 1, each model trains by DDP over that many workers. gpus_per_worker: may be a fraction for
    single-worker models. threads_per_worker: CPU threads, also what a worker reserves. in_memory_gb: training sets
    above it stream from disk, which changes no arithmetic.
    """

    workers_per_model: Count = 1
    gpus_per_worker: NonNegative = 0.0
    threads_per_worker: Count = 1
    in_memory_gb: NonNegative = 4.0

    @model_validator(mode="after")
    def _whole_gpus_for_groups(self) -> "EngineConfig":
        if self.workers_per_model > 1 and self.gpus_per_worker % 1:
            raise ValueError("gpus_per_worker must be whole when workers_per_model > 1 (NCCL takes one rank a GPU)")
        return self


class StudyConfig(_Section):
    """What all settings of a study have in common. attacks: by name. queries: what every model is asked of a record."""

    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig = DataConfig()
    plan: PlanConfig = PlanConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    robustness: RobustnessConfig = RobustnessConfig()
    engine: EngineConfig = EngineConfig()
    attacks: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "loss",
        "entropy",
        "modified_entropy",
        "nn_sorted_logits",
    )
    queries: tuple[Literal["identity", "flip", "shifts"], ...] = ("identity",)

    def to_yaml(self) -> str:
        """The whole configuration, defaults spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def build_config(preset: str | None, overrides: Mapping[str, Any]) -> StudyConfig:
    """The study's configuration: a preset with dotted overrides (`training.epochs`) laid over it.

    preset: a name in `tune_configs/presets/` or a YAML path; None picks the data set's own, else the defaults.
    Raises InputError that names the key and what it takes.
    """
    content: dict[str, Any] = {}
    dataset = str(overrides.get("data.dataset", "digits"))
    if preset is not None:
        content = read_yaml(find_yaml(preset, configs_folder() / "presets", "preset"))
    elif dataset in DEFAULT_PRESETS:
        content = read_yaml(configs_folder() / "presets" / f"{DEFAULT_PRESETS[dataset]}.yaml")
    content.pop("description", None)
    for key, value in overrides.items():
        _assign(content, key, value)
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(_first_problem(error)) from None


DEFAULT_PRESETS = {"digits": "digits", "cifar10": "cifar10_desk", "cifar100": "cifar100_desk"}


def _assign(content: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        child = content.setdefault(section, {})
        if not isinstance(child, dict):
            raise InputError(f"{dotted}: {section!r} is a value, not a section")
        content = child
    content[last] = value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return _unknown_setting(path, problem["input"])
    if path.startswith("model.options.") and len(problem["loc"]) > 3:
        # Of a union, pydantic names each member that did not fit.
        path = ".".join(str(part) for part in problem["loc"][:3])
        return f"{path}: must be a number, true or false, a text, or a list of these"
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    return f"{path}: {message[0].lower()}{message[1:]}{given}"


def _unknown_setting(path: str, given: Any) -> str:
    if isinstance(given, dict) and given:
        path = f"{path}.{next(iter(given))}"
    known = sorted(_known_keys(StudyConfig))
    same_name = [key for key in known if key.rpartition(".")[2] == path.rpartition(".")[2]]
    if same_name:
        return f"unknown setting {path!r}: did you mean {same_name[0]!r}?"
    return f"unknown setting {path!r}: {suggestion(path, known)}"


def _known_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _known_keys(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
