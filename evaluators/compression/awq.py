"""AWQ: inputs that are large are made small before weights are rounded, and their weights large.

    W x = (W S) (x / S),   S = diag(rms(x)^a),   a from 0 to 1 of the least error of round(W S)

Lin et al. 2023, arXiv:2306.00978, section 3.2; the paper takes the mean of |x|, here it is the root mean
square, which the second moments have. 1/S goes into what makes x: the gain of the norm in front of a mixer,
or the rows of the matrix before. Where that leaves what a sublayer computes as it was is tried, not declared:
another scale for every channel must change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluators.compression.calibration import Moments, tiled
from search_spaces.network.model import Model
from search_spaces.network.norms.base import AFTER
from search_spaces.network.residual import Residual
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.rounding import round_to_bits

EXPONENTS = tuple(step / 20 for step in range(20))
"""The grid of the paper's implementation."""

SMALLEST, LARGEST = 1e-4, 1e4
"""Scales are kept between these."""

TRIED_TOKENS = 16
SAME = 1e-4
"""Outputs of a sublayer that differ by less than this share are the same, in float32."""


@dataclass(frozen=True)
class Fold:
    """Matrices that read the same input, and the parameters whose first axes, flattened, make it."""

    reads: tuple[nn.Parameter, ...]
    makes: tuple[nn.Parameter, ...]

    def scale(self, by: Tensor) -> None:
        """Make the input smaller by these scales [K], and the weights that it meets larger."""
        for weight in self.makes:
            weight.view(by.numel(), -1).div_(by.to(weight.dtype)[:, None])
        for weight in self.reads:
            weight.view(-1, by.numel()).mul_(by.to(weight.dtype))


@torch.no_grad()
def scaled_inputs(model: Model, moments: Moments, formats: Mapping[str, WeightFormat]) -> int:
    """Scale inputs of the matrices of these formats where that is possible and pays; how many were."""
    count = 0
    names = {id(weight): name for name, weight in model.named_parameters()}
    for path, module in model.named_modules():
        if not isinstance(module, Residual):
            continue
        own = {name: parts for name, parts in moments.items() if name.startswith(f"{path}.")}
        for fold in _folds(module, own, dict(model.named_parameters())):
            read = [names[id(weight)] for weight in fold.reads]
            moment = next(iter(moments[read[0]].values()))
            if not _changes_nothing(module, fold):
                continue
            by = _best(fold, moment, [formats[name] for name in read])
            if by is None:
                continue
            fold.scale(by)
            for name in read:
                for part, held in list(moments[name].items()):
                    moments[name][part] = held / by[:, None] / by
            count += 1
    return count


def _folds(module: Residual, moments: Moments, parameters: Mapping[str, nn.Parameter]) -> Iterator[Fold]:
    """Candidates: all matrices of one input behind the norm, and pairs of matrices."""
    by_input: list[tuple[Tensor, list[str]]] = []
    for name, parts in moments.items():
        if len(parts) != 1 or not tiled(parameters[name], parts):
            continue
        (moment,) = parts.values()
        for known, names in by_input:
            if known.shape == moment.shape and torch.allclose(known, moment, rtol=1e-6):
                names.append(name)
                break
        else:
            by_input.append((moment, [name]))
    before = [name for name in module.norm_starts if not name.endswith(f"_{AFTER}")]
    gains = tuple(getattr(module, name) for name in before)
    for moment, names in by_input:
        reads, width = tuple(parameters[name] for name in names), len(moment)
        if gains and width == gains[0].numel():
            yield Fold(reads, gains)
        for other in moments:
            weight = parameters[other]
            if other not in names and weight.ndim > 1 and weight[..., 0].numel() == width:
                yield Fold(reads, (weight,))


def _best(fold: Fold, moment: Tensor, formats: Sequence[WeightFormat]) -> Tensor | None:
    """The scales [K] of the least expected error; None where all being one is best."""
    size = moment.diagonal().sqrt()
    if not (size > 0).any():
        return None
    size = size.clamp(min=float(size[size > 0].min()))
    best, least = None, None
    for exponent in EXPONENTS:
        by = size**exponent
        by = (by / (by.max() * by.min()).sqrt()).clamp(SMALLEST, LARGEST)
        error = sum(
            _error(weight, by, moment, stored) for weight, stored in zip(fold.reads, formats, strict=True)
        )
        if least is None or error < least:
            best, least = (by if exponent else None), error
    return best


def _error(weight: Tensor, by: Tensor, moment: Tensor, stored: WeightFormat) -> float:
    """The sum of squares of what rounding the scaled matrix adds to its outputs."""
    scale = by.to(weight.dtype)
    scaled = (weight.view(-1, len(by)) * scale).view(weight.shape)
    off = ((round_to_bits(scaled, stored) - scaled).view(-1, len(by)) / scale).double()
    return float(((off @ moment) * off).sum())


def _changes_nothing(module: Residual, fold: Fold) -> bool:
    """Whether another scale for every channel leaves the outputs of a sublayer as they were."""
    dice = torch.Generator().manual_seed(0)
    width = next(iter(module.parameters())).numel()
    device = fold.reads[0].device
    x = torch.randn(1, TRIED_TOKENS, width, generator=dice).to(device)
    by = (0.5 + torch.rand(_inputs(fold), generator=dice)).to(device)
    kept = [weight.clone() for weight in (*fold.reads, *fold.makes)]
    before = module(x).y
    fold.scale(by)
    after = module(x).y
    for weight, value in zip((*fold.reads, *fold.makes), kept, strict=True):
        weight.copy_(value)
    return bool((after - before).norm() <= SAME * (before - x).norm())


def _inputs(fold: Fold) -> int:
    """How many channels the scaled input has."""
    first = fold.makes[0]
    return first.numel() if first.ndim == 1 else first[..., 0].numel()
