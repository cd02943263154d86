"""Low-rank adaptation: a trained network learns by small factors of its matrices, which are then merged.

    W' = W + (alpha / r) B A                              LoRA (Hu et al. 2021, arXiv:2106.09685, section 4.1)
    W' = m (W + (alpha / r) B A) / |W + (alpha / r) B A|  DoRA (Liu et al. 2024, arXiv:2402.09353, section 4)

with A [r, K] at random and B [N, r] zero, so that nothing changes at first, |.| the norm of each row, and m
those norms of W, learned. A matrix is a parameter of a block with its last axes as inputs, and in a stack of
experts each one, so every mixer can be adapted (`Model.roles`). W' at the bits of its layer is what the
forward pass computes with: the network that it is merged into says exactly the same.

What is no matrix (norms, biases, decays, filters of convolutions) has no factors that are smaller than it is,
and may be learned whole beside them: v' = v + d, with d zero at first. These are few values, as in BitFit
(Ben Zaken et al. 2021, arXiv:2106.10199), and mixers with a state keep much of what they do in them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from evaluators.compression.merged import Course, Merged
from evaluators.compression.quantized_base import QuantizedBase
from evaluators.tasks.base import Task
from evaluators.training.losses import LateLosses
from evaluators.training.trainable import weights_digest
from search_spaces.network.initialization import dice_at
from search_spaces.network.model import Model
from search_spaces.network.residual import Residual
from search_spaces.network.scaling import Role
from search_spaces.network.weight_formats import weight_bits
from search_spaces.parameter_axes import FIXED, WIDTH
from search_spaces.quantization.rounding import round_all

PLACES = ("input", "output", "inner", "expert")
"""A matrix reads the residual stream, writes to it, or does neither; or it is an expert."""

ENDS = "embedding"
"""Those with a row for each token: the embedding, and a head of its own."""

REST = "vector"
"""What is no matrix."""

BASES = (AS_IT_IS, NF4) = ("as_it_is", "nf4")
"""How the weights are held that factors are added to."""


@dataclass(frozen=True)
class Form:
    """The rank r and alpha, and whether direction and norm are learned apart (DoRA).

    The weights that factors are added to stay `as_it_is`, or are held in 4 bits (`nf4`, QLoRA).
    """

    rank: int = 8
    alpha: float = 16.0
    decompose: bool = False
    base: str = AS_IT_IS


@dataclass(frozen=True)
class Shape:
    """A parameter as `stacked` matrices [rows, inputs]."""

    stacked: int
    rows: int
    inputs: int

    def __str__(self) -> str:
        """`64 x 192`."""
        return f"{self.rows} x {self.inputs}"

    def factors(self, form: Form) -> int:
        """How many values the factors have, and the norms where they are learned."""
        norms = self.rows if form.decompose else 0
        return self.stacked * (form.rank * (self.rows + self.inputs) + norms)


def matrices(model: Model, places: Collection[str], rank: int = 1) -> dict[str, Shape]:
    """The parameters that stand in these places, as matrices of at least this rank.

    The model may be on the meta device.
    """
    roles, found = model.roles(), dict[str, Shape]()
    for name in model.shell.matrices if ENDS in places else ():
        rows, width = getattr(model, name).shape
        if rank <= min(rows, width):
            found[name] = Shape(1, rows, width)
    for path, module in model.named_modules():
        if not isinstance(module, Residual):
            continue
        for own, weight in module.mixer.named_parameters():
            name = f"{path}.mixer.{own}"
            role = roles[name]
            if role.kind == "matrix" and place_of(module, own, role) in places:
                stacked = weight.shape[: role.stacked_axes].numel()
                shape = Shape(stacked, weight.numel() // (stacked * role.fan_in), role.fan_in)
                if rank <= min(shape.rows, shape.inputs):
                    found[name] = shape
    return found


def vectors(model: Model, places: Collection[str]) -> dict[str, int]:
    """The parameters that are no matrix, if `vector` is one of the places, and how many values each has."""
    roles = model.roles() if REST in places else {}
    own = (each for each in model.named_parameters() if each[0] in roles)
    return {name: weight.numel() for name, weight in own if roles[name].kind in ("elementwise", "readout")}


def place_of(module: Residual, name: str, role: Role) -> str:
    """What a matrix does in its block, as the block's layout tells it; see `PLACES`.

    A stack along an axis that is never moved, as of queries and keys in one parameter, is none of experts.
    """
    layout = module.block.layout()
    words = layout.words(name) if layout is not None and name in layout.axes else ()
    if role.stacked_axes and words[:1] != (FIXED,):
        return "expert"
    if WIDTH in words[:-1]:
        return "output"
    return "input" if words and words[-1] == WIDTH else "inner"


class LowRank(Merged):
    """The training of low-rank factors of some matrices of a model, which itself stays as it is.

    The parameters of `whole` are learned beside them, as they are.
    """

    ranks: Mapping[str, int] = MappingProxyType({})
    """Ranks of matrices that have another one than the form says."""

    def __init__(
        self,
        model: Model,
        task: Task,
        form: Form,
        adapted: Mapping[str, Shape],
        *,
        whole: Collection[str] = (),
        **course: Unpack[Course],
    ) -> None:
        self.form, self.adapted, self.whole = form, dict(adapted), tuple(whole)
        self.shapes = {name: weight.shape for name, weight in model.named_parameters()}
        bits = weight_bits(model)  # while matrices are there
        layers = [name for name in self.adapted if name.startswith("layers.")]
        self.quantized = QuantizedBase(model, layers, self.whole) if form.base == NF4 else None
        super().__init__(model, task, **course)
        self._bits = bits
        if self.quantized is not None:
            self.origin = weights_digest({**self._weights, **self.quantized.tensors})
            self._freeze()

    def starts(self) -> dict[str, nn.Parameter]:
        """A, B and, where they are learned, the norms m of every matrix; d of what is learned whole."""
        found = {f"{name}.d": nn.Parameter(torch.zeros_like(self._weights[name])) for name in self.whole}
        for name, shape in self.adapted.items():
            base, rank = self.base(name), self.ranks.get(name, self.form.rank)
            start = base.new_empty(shape.stacked, rank, shape.inputs)
            start.normal_(std=shape.inputs**-0.5, generator=dice_at(self.seed, f"{name}.A", base.device))
            found[f"{name}.A"] = nn.Parameter(start)
            found[f"{name}.B"] = nn.Parameter(base.new_zeros(shape.stacked, shape.rows, rank))
            if self.form.decompose:
                found[f"{name}.m"] = nn.Parameter(base.norm(dim=-1, keepdim=True))
        return found

    def base(self, name: str) -> Tensor:
        """A parameter that is adapted, without its factors, as matrices [S, N, K]."""
        shape = self.adapted[name]
        stored = self.quantized is not None and name in self.quantized.stored
        base = self.quantized.values(name) if stored and self.quantized else self._weights[name]
        return base.reshape(shape.stacked, shape.rows, shape.inputs)

    @property
    def how(self) -> Mapping[str, Any]:
        """The form, and what is adapted."""
        ranks = {"ranks": dict(sorted(self.ranks.items()))} if self.ranks else {}
        whole = {"whole": sorted(self.whole)} if self.whole else {}
        return {"low_rank": asdict(self.form), "adapted": sorted(self.adapted), **ranks, **whole}

    @property
    def learned(self) -> tuple[str, ...]:
        """The model's parameters that change."""
        return (*self.adapted, *self.whole)

    def merged(self) -> dict[str, Tensor]:
        """See `Merged.merged`."""
        return round_all({**self._weights, **{name: self.moved(name) for name in self.learned}}, self._bits)

    def moved(self, name: str) -> Tensor:
        """A parameter with what it has learned, before it is rounded."""
        if name in self.whole:
            return self._weights[name] + self.parameters[f"{name}.d"]
        parts, gain = self.parameters, self.form.alpha / self.form.rank
        moved = torch.baddbmm(self.base(name), parts[f"{name}.B"], parts[f"{name}.A"], alpha=gain)
        if self.form.decompose:
            norm = moved.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(moved.dtype).tiny)
            moved = parts[f"{name}.m"] * moved / norm
        return moved.view(self.shapes[name])

    def gradients(self) -> LateLosses:
        """See `Merged.gradients`; from a base of 4 bits matrices are made sublayer by sublayer."""
        if self.quantized is None:
            return super().gradients()
        around = self._moved_and_rounded(set(self.learned) - self.quantized.made)
        return self.backward(around, self.quantized.computing_with(self._moved_and_rounded))

    def _moved_and_rounded(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: round_all({name: self.moved(name)}, self._bits)[name] for name in names}

    def _freeze(self) -> None:
        """Round what is not adapted in its place: a sublayer reads it there, in both of its passes."""
        for weight in self.model.parameters():
            weight.requires_grad_(False)
        for name in self._weights.keys() - set(self.learned):
            rounded = round_all({name: self._weights[name]}, self._bits)
            self._weights[name].copy_(rounded[name])

    @torch.no_grad()
    def of_rank(self, name: str, rank: int) -> Tensor:
        """A matrix with the best part of this rank of what it has learned, where only factors are learned."""
        a, b = self.parameters[f"{name}.A"].double(), self.parameters[f"{name}.B"].double()
        left, sizes, right = torch.linalg.svd(b @ a, full_matrices=False)
        learned = (left[..., :rank] * sizes[..., None, :rank]) @ right[..., :rank, :]
        moved = self.base(name) + self.form.alpha / self.form.rank * learned.float()
        return round_all({name: moved.view(self.shapes[name])}, self._bits)[name]

    @torch.no_grad()
    def merge(self) -> Model:
        """The model with the factors in its matrices."""
        if self.quantized is None:
            super().merge()
        else:
            self._weights |= self.quantized.restore()
            for name in self.learned:
                self._weights[name].copy_(self._moved_and_rounded([name])[name])
            self.model.requires_grad_(True)
        for name, learned in self.parameters.items():
            if name.endswith((".B", ".d")):
                learned.zero_()
        return self.model


class UnequalRanks(LowRank):
    """The same with a rank for each matrix; a rank of 0 leaves it as it is. All factors count alike."""

    def __init__(
        self,
        model: Model,
        task: Task,
        form: Form,
        adapted: Mapping[str, Shape],
        ranks: Mapping[str, int],
        *,
        whole: Collection[str] = (),
        **course: Unpack[Course],
    ) -> None:
        self.ranks = {name: ranks[name] for name in adapted if ranks[name]}
        chosen = {name: adapted[name] for name in self.ranks}
        super().__init__(model, task, form, chosen, whole=whole, **course)
