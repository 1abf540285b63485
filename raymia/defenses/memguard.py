"""MemGuard (Jia et al. 2019, CCS, arXiv 1909.10594): add noise to the answers that an attack net can no longer read."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from raymia.seeds import derive_seed
from raymia.training.defense import Answers, Context, Defense, Stage
from raymia.training.query import query_streams

_BATCH = 64
_RATE = 1e-3
_STEP = 0.1
_STEPS = 300
_LABEL_WEIGHT = 10.0
_DISTORTION_WEIGHTS = tuple(10.0**power for power in range(-1, 6))
_UNDECIDED = 1e-5


@dataclass(frozen=True)
class MemGuard(Defense):
    """Release confidences moved, by at most `budget` in expectation, to where the defender's attack net g is undecided.

    g is trained on the sorted log confidences of the members and of the reserve, `epochs` epochs. For each query noise
    on the logits is sought that turns g's verdict and keeps the predicted label, the less distortion the better; it is
    released with probability `min(budget / ‖p' - p‖₁, 1)` if it brings g nearer to ½, else p is. Whether it is, the
    query decides (with the model's seed, the defender's secret): asking again tells nothing new. budget: of expected ℓ1
    distortion; two posteriors are never further than 2 apart. Attacks that g is unlike are not kept away: those with
    thresholds of their own a class, by labels, by reference models.
    """

    budget: Annotated[float, Field(ge=0, le=2)]
    epochs: Annotated[int, Field(ge=1)] = 100

    name: ClassVar[str] = "memguard"
    stages: ClassVar[Mapping[str, Stage]] = {"budget": Stage.RELEASE, "epochs": Stage.FIT}
    sole: ClassVar[frozenset[str]] = frozenset({"release"})

    @property
    def needs_reserve(self) -> bool:
        return True

    def requires(self, context: Context) -> dict[str, Any]:
        context.reserve_for(self.name)
        return {}

    def fit(self, context: Context, answers: Answers) -> dict[str, Tensor]:
        """The attack net g."""
        logits = [torch.from_numpy(answers(positions)) for positions in (context.positions, context.reserve)]
        member = torch.cat([torch.full((len(one),), float(number == 0)) for number, one in enumerate(logits)])
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(context.seed, self.name))
            guard = Guard(context.classes)
            guard.secret.fill_(derive_seed(context.seed, self.name, "secret"))
            guard.standardize(torch.cat(logits))
            _train(guard, torch.cat(logits), member, self.epochs)
        return guard.state_dict()

    def release(self, model: nn.Module, inputs: Tensor, fitted: Mapping[str, Tensor]) -> Tensor:
        """Log confidences [B, K]."""
        logits = model(inputs).float()
        if not self.budget:
            return logits.log_softmax(dim=1)
        guard = Guard(logits.shape[1]).to(logits.device)
        guard.load_state_dict(fitted)
        guard.requires_grad_(False)
        plain, noisy = logits.log_softmax(dim=1), disguised(guard, logits).log_softmax(dim=1)
        chance = self._chance(guard, plain, noisy)
        draws = [stream.random() for stream in query_streams(inputs, int(guard.secret))]
        chosen = torch.tensor(draws, device=logits.device, dtype=torch.float64) < chance
        return torch.where(chosen[:, None], noisy, plain)

    def _chance(self, guard: "Guard", plain: Tensor, noisy: Tensor) -> Tensor:
        """float64[B]: with which probability the noise is released."""
        distance = (noisy.double().exp() - plain.double().exp()).abs().sum(dim=1)
        before, after = ((guard(one).sigmoid() - 0.5).abs() for one in (plain, noisy))
        allowed = (self.budget / distance.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1.0)
        return torch.where(after < before, allowed, 0.0)


class Guard(nn.Module):
    """The attack net g: membership logits [B] of logits [B, K], in any order of the classes. Members are 1.

    mean, scale: [K], of the sorted log confidences it was trained on. secret: int64, of the model's own.
    """

    mean: Tensor
    scale: Tensor
    secret: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(classes, 256), nn.ReLU()),
            *(nn.Linear(256, 128), nn.ReLU()),
            *(nn.Linear(128, 64), nn.ReLU()),
            nn.Linear(64, 1),
        )
        self.register_buffer("mean", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(classes))
        self.register_buffer("secret", torch.zeros((), dtype=torch.int64))

    def standardize(self, logits: Tensor) -> None:
        """Take mean and scale from these answers."""
        seen = _sorted(logits)
        self.mean.copy_(seen.mean(dim=0))
        self.scale.copy_(seen.std(dim=0).clamp(min=1e-6))

    def forward(self, logits: Tensor) -> Tensor:
        verdicts: Tensor = self.layers((_sorted(logits) - self.mean) / self.scale)[:, 0]
        return verdicts


def disguised(guard: Guard, logits: Tensor) -> Tensor:
    """Logits [B, K] of the same labels for which g's verdict turns, with as little distortion as is found.

    Descends `|g| + 10 relu(max other - label) + c ‖p' - p‖₁`, c from 0.1 in factors of 10 to 1e5: the last that turns
    the verdict counts. Rows for which none does, and those on which g is undecided, stay as they are.
    """
    found = logits.clone()
    searched = (guard(logits).sigmoid() - 0.5).abs() > _UNDECIDED
    for weight in _DISTORTION_WEIGHTS:
        rows = searched.nonzero()[:, 0]
        if not len(rows):
            break
        moved, turned = _descend(guard, logits[rows], weight)
        found[rows[turned]] = moved[turned]
        searched[rows[~turned]] = False
    return found


def _descend(guard: Guard, start: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Where the descent of each row ends, and whether the verdict turned and the label stayed (bool[B])."""
    moved = start.clone()
    label = start.argmax(dim=1)
    verdict = guard(start)
    turned = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    for _ in range(_STEPS):
        rows = (~turned).nonzero()[:, 0]
        if not len(rows):
            break
        here = moved[rows]
        now, gradient = _slope(guard, here, start[rows], label[rows], weight)
        turned[rows] = (here.argmax(dim=1) == label[rows]) & (now * verdict[rows] <= 0)
        length = gradient.norm(dim=1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
        moved[rows] = torch.where(turned[rows][:, None], here, here - _STEP * gradient / length)
    return moved, turned


def _slope(guard: Guard, moved: Tensor, start: Tensor, label: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """g's verdict [B], and the gradient [B, K] of what is descended."""
    with torch.enable_grad():
        moved = moved.detach().requires_grad_()
        own = functional.one_hot(label, moved.shape[1]).bool()
        ahead = moved.masked_fill(own, -torch.inf).amax(dim=1) - moved[own]
        distortion = (moved.softmax(dim=1) - start.softmax(dim=1)).abs().sum(dim=1)
        verdict = guard(moved)
        loss = verdict.abs() + _LABEL_WEIGHT * ahead.relu() + weight * distortion
        return verdict.detach(), torch.autograd.grad(loss.sum(), moved)[0]


def _train(guard: Guard, logits: Tensor, member: Tensor, epochs: int) -> None:
    """Adam on the binary cross entropy, members and others weighing the same in all."""
    share = member.mean()
    weights = torch.where(member > 0, 0.5 / share, 0.5 / (1 - share))
    optimizer = torch.optim.Adam(guard.parameters(), lr=_RATE)
    for _ in range(epochs):
        for rows in _shuffled(len(member)):
            verdicts = guard(logits[rows])
            loss = functional.binary_cross_entropy_with_logits(verdicts, member[rows], weights[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _shuffled(count: int) -> Iterator[Tensor]:
    yield from torch.randperm(count).split(_BATCH)


def _sorted(logits: Tensor) -> Tensor:
    return logits.log_softmax(dim=1).sort(dim=1, descending=True).values
