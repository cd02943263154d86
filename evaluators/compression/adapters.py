"""What an adaptation has learned, apart from the weights that it belongs to: factors or a prompt, in a file.

    W' = c (W + U V)        U [N, r], V [r, K] by matrix of W; c [N, 1] where norms were learned (DoRA)

`nas adapt` writes them beside the merged network, and `nas serve --adapters` reads factors: many on one base.
The file is in the format of safetensors; it names the base by the digest of its weights. The parameters of a
soft prompt have the names that they have in the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from evaluators.compression.low_rank import PLACES, LowRank, Shape, matrices
from foundation.errors import FileError, NasError, NoFile, SettingError
from foundation.registry import nearest
from search_spaces.network.model import Model
from search_spaces.network.soft_prompt import NAME as SOFT_PROMPT
from search_spaces.tensor_files import TensorFile, open_tensors, write_tensors

FILE = "adapter.safetensors"
FORMAT = "1"
DOWN, UP, SCALE = ".down", ".up", ".scale"


class Factors(NamedTuple):
    """Of S stacked matrices [N, K]: down V [S, r, K], up U [S, N, r], and c [S, N, 1] where it is not 1."""

    down: Tensor
    up: Tensor
    scale: Tensor | None = None

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.down.shape[-2]


@dataclass(frozen=True)
class Adapter:
    """Factors by the parameter that they adapt, and the digest of the weights that they belong to.

    Or the parameters of a soft prompt, by name.
    """

    factors: Mapping[str, Factors]
    base: str
    prompt: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(factors.rank for factors in self.factors.values())


def learned(training: LowRank) -> Adapter:
    """What a training has learned so far; to be asked before it is merged."""
    found, gain = {}, training.form.alpha / training.form.rank
    for name in training.adapted:
        down, up = (training.parameters[f"{name}.{part}"].detach().clone() for part in "AB")
        norm = training.parameters.get(f"{name}.m")
        scale = None
        if norm is not None:
            moved = training.base(name) + gain * up @ down
            scale = norm.detach() / moved.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        found[name] = Factors(down, gain * up, scale)
    return Adapter(found, training.origin)


def write_adapter(folder: str | Path, adapter: Adapter) -> None:
    """Write an adapter into a folder, as a whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    tensors = {name: part.detach().float().cpu().contiguous() for name, part in adapter.prompt.items()}
    for name, factors in adapter.factors.items():
        for suffix, part in zip((DOWN, UP, SCALE), factors, strict=True):
            if part is not None:
                tensors[name + suffix] = part.float().cpu().contiguous()
    write_tensors(Path(folder, FILE), tensors, {"format": FORMAT, "base": adapter.base})


def read_adapter(folder: str | Path, model: Model, base: str) -> Adapter:
    """The adapter in a folder, for a network whose weights have this digest (`weights_digest`).

    Raises:
        SettingError: there is none, it is of another network, or what it holds fits no matrix.
    """
    path = Path(folder, FILE)
    try:
        with open_tensors(path) as stored:
            return _checked(stored, model, base)
    except NoFile:
        if not Path(folder).is_dir():
            raise SettingError(
                f"there is no folder {folder}: an adapter is one that `nas adapt` wrote"
            ) from None
        raise SettingError(
            f"{folder} holds no adapter ({FILE} is missing): `nas adapt` writes one, with factors of layers"
            " and --base as_it_is"
        ) from None
    except FileError as error:
        raise SettingError(str(error)) from None
    except NasError as error:
        raise SettingError(f"{path}: {error}") from None


def _checked(stored: TensorFile, model: Model, base: str) -> Adapter:
    if stored.metadata.get("format") != FORMAT:
        raise SettingError(f"no adapter of format {FORMAT}")
    if stored.metadata.get("base") != base:
        raise SettingError("it belongs to other weights: serve the network that it was learned on")
    if any(name.startswith(f"{SOFT_PROMPT}.") for name in stored):
        raise SettingError("it is a soft prompt, which is served with its network: serve that folder itself")
    shapes = matrices(model, PLACES)
    names = sorted(name.removesuffix(DOWN) for name in stored if name.endswith(DOWN))
    if not names:
        raise SettingError("it adapts nothing")
    known = {name + suffix for name in names for suffix in (DOWN, UP, SCALE)}
    if odd := sorted(set(stored) - known):
        raise SettingError(f"{odd[0]} is no part of an adapter")
    for name in names:
        if name not in shapes:
            raise SettingError(f"the network has no matrix {name!r}; {nearest(name, shapes)}")
    return Adapter({name: _factors(stored, name, shapes[name]) for name in names}, base)


def _factors(stored: TensorFile, name: str, shape: Shape) -> Factors:
    """The factors of one matrix, whose shapes and values are possible."""
    about = stored.about
    rank = about[name + DOWN].shape[1] if len(about[name + DOWN].shape) == 3 else 0
    if rank > min(shape.rows, shape.inputs):
        raise SettingError(f"{name}: rank {rank} is larger than its matrix, {shape}")
    expected = {
        DOWN: (shape.stacked, rank, shape.inputs),
        UP: (shape.stacked, shape.rows, rank),
        SCALE: (shape.stacked, shape.rows, 1),
    }
    parts: list[Tensor | None] = []
    for suffix, wanted in expected.items():
        found = about.get(name + suffix)
        if found is None and suffix == SCALE:
            parts.append(None)
            continue
        if found is None or found.shape != wanted or not rank or found.dtype != "F32":
            there = "missing" if found is None else str(found)
            raise SettingError(f"{name}{suffix} is {there}, where a matrix of {shape} has F32 {list(wanted)}")
        part = stored[name + suffix]
        if not part.isfinite().all():
            raise SettingError(f"{name}{suffix} holds values that are not finite")
        parts.append(part)
    down, up, scale = parts
    assert down is not None
    assert up is not None
    return Factors(down, up, scale)
