"""Sequence mixers side by side in one layer: each reads the same tokens, and their outputs are added.

    y = sum_i y_i                                    y_i = mixer_i(x)
    y = 1/n sum_i g_i * y_i / rms(y_i)               `normed`

Attention beside a state-space mixer is the hybrid head of Falcon-H1 (Zuo et al. 2025, arXiv:2507.22448), that
adds outputs, and of Hymba (Dong et al. 2024, arXiv:2411.13676), which averages them behind norms of their own
(in front of an output matrix that both share). Any sequence mixers can stand here, two or more.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import add
from string import ascii_letters
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape, blocks
from search_spaces.blocks.checks import check_flag
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.ops.precision import rms_norm
from search_spaces.ops.shards import parts_in_all, sum_over_parts
from search_spaces.parameter_axes import FIXED, WIDTH, Layout
from search_spaces.references import Function, Weights, reference, reference_of
from search_spaces.scenario import Scenario

EPSILON = 1e-6


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Parallel(Block):
    """Two or more sequence mixers whose outputs are added, or averaged behind norms if `normed`."""

    mixes: ClassVar[Literal["sequence", "channels"]] = "sequence"

    mixers: tuple[Block, ...] = (Attention(), Mamba2())
    normed: bool = False

    @classmethod
    def examples(cls) -> tuple[Parallel, ...]:
        """Attention beside a state-space mixer, and three mixers with norms, one of them twice."""
        attention = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
        near, recurrent = ShortConv(kernel=2), RGLRU(num_heads=2, head_dim=4)
        return (
            cls(mixers=(attention, Mamba2(num_heads=2, head_dim=8, state_dim=4))),
            cls(mixers=(near, recurrent, near), normed=True),
        )

    def check(self, d_model: int) -> None:
        """There must be at least two, each of which mixes sequences and can be built."""
        check_flag(self, "normed")
        if not isinstance(self.mixers, tuple) or len(self.mixers) < 2:
            raise IllegalArchitecture(f"Parallel: mixers must be two or more, got {self.mixers!r}")
        for index, mixer in enumerate(self.mixers):
            if not isinstance(mixer, Block) or mixer.mixes != "sequence" or isinstance(mixer, Parallel):
                raise IllegalArchitecture(
                    f"Parallel: mixers.{index} must be a single block that mixes sequences, got {mixer!r}"
                )
            try:
                mixer.check(d_model)
            except IllegalArchitecture as error:
                raise IllegalArchitecture(f"Parallel: mixers.{index}: {error}") from None

    def build(self, d_model: int) -> Mixer:
        """The module."""
        return ParallelMixer(self, d_model)

    def state(self, d_model: int) -> dict[str, StateShape]:
        """The states of all, with the number of the mixer behind each name."""
        states = [mixer.state(d_model) for mixer in self.mixers]
        return {f"{name}_{i}": shape for i, state in enumerate(states) for name, shape in state.items()}

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        """What all cost, and the gains."""
        gains = Cost(params=len(self.mixers) * d_model if self.normed else 0)
        return reduce(add, (mixer.cost(d_model, scenario) for mixer in self.mixers), gains)

    def works_by_entry(self, name: str) -> bool:
        """As the mixer that has the parameter says."""
        for path, mixer in self.by_path():
            if name.startswith(path):
                return mixer.works_by_entry(name.removeprefix(path))
        return super().works_by_entry(name)

    def stays_exact(self, name: str) -> bool:
        """As the mixer that has the parameter says."""
        for path, mixer in self.by_path():
            if name.startswith(path):
                return mixer.stays_exact(name.removeprefix(path))
        return super().stays_exact(name)

    def by_path(self) -> Iterator[tuple[str, Block]]:
        """Each mixer, with how the names of its parameters begin."""
        for index, mixer in enumerate(self.mixers):
            yield f"mixers.{name_of(index, mixer)}.", mixer

    def layout(self) -> Layout | None:
        """Those of all, where each has one; a letter of two mixers is two dimensions, but for the width."""
        axes = {f"gains.{name_of(index, mixer)}": WIDTH for index, mixer in enumerate(self.mixers)}
        sortable, within, used = [WIDTH], dict[str, str](), {WIDTH}
        for path, mixer in self.by_path():
            own = mixer.layout()
            if own is None:
                return None
            renamed = {WIDTH: WIDTH, FIXED: FIXED, " ": " "}
            for letter in dict.fromkeys(chain(*own.axes.values())):
                if letter not in renamed:
                    free = (other for other in chain(letter, ascii_letters) if other not in used)
                    renamed[letter] = next(free)
                    used.add(renamed[letter])
            axes |= {path + name: "".join(renamed[each] for each in text) for name, text in own.axes.items()}
            sortable += [renamed[letter] for letter in own.sortable if letter != WIDTH]
            within |= {renamed[inner]: renamed[outer] for inner, outer in own.within.items()}
            if WIDTH not in own.sortable and WIDTH in sortable:
                sortable.remove(WIDTH)
        return Layout(axes, "".join(sortable), within)


def name_of(index: int, mixer: Block) -> str:
    """How the module of a mixer is called: mixers of another kind at its place have other weights."""
    return f"{index}_{type(mixer).__name__}"


class ParallelMixer(Mixer):
    """The module of `Parallel`."""

    def __init__(self, spec: Parallel, d_model: int) -> None:
        super().__init__(spec.state(d_model))
        names = [name_of(index, mixer) for index, mixer in enumerate(spec.mixers)]
        built = [mixer.build(d_model) for mixer in spec.mixers]
        self.mixers = nn.ModuleDict(dict(zip(names, built, strict=True)))
        gains = {name: nn.Parameter(torch.empty(d_model)) for name in names if spec.normed}
        self.gains = nn.ParameterDict(gains)

    @property
    def each(self) -> list[Mixer]:
        """The modules of the mixers, in their order."""
        return [mixer for mixer in self.mixers.values() if isinstance(mixer, Mixer)]

    def reset_parameters(self, dice: torch.Generator) -> None:
        """Each as it would be alone; gains of one."""
        for mixer in self.each:
            mixer.reset_parameters(dice)
        for gain in self.gains.values():
            gain.fill_(1.0)

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        """x [B, T, D]."""
        own = [None if state is None else self._own(state, i) for i in range(len(self.each))]
        mixed = [mixer(x, each, position) for mixer, each in zip(self.each, own, strict=True)]
        losses = [each.loss for each in mixed if each.loss is not None]
        metrics = [each.metrics for each in mixed if each.metrics is not None]
        return Mixed(
            self._added([each.y for each in mixed]),
            None if state is None else _numbered(each.state or {} for each in mixed),
            sum(losses[1:], start=losses[0]) if losses else None,
            {f"{name}_{i}": value for i, told in enumerate(metrics) for name, value in told.items()} or None,
        )

    def step(self, x: Tensor, state: State, position: int | Tensor) -> tuple[Tensor, State]:
        """x [B, D]."""
        both = [mixer.step(x, self._own(state, i), position) for i, mixer in enumerate(self.each)]
        return self._added([y for y, _ in both]), _numbered(kept for _, kept in both)

    def absorb(self, x: Tensor, state: State, position: int | Tensor) -> State:
        """Each by itself."""
        return _numbered(mixer.absorb(x, self._own(state, i), position) for i, mixer in enumerate(self.each))

    def init_state(self, batch: int, capacity: int) -> State:
        """Empty states of all."""
        return _numbered(mixer.init_state(batch, capacity) for mixer in self.each)

    def _own(self, state: State, index: int) -> State:
        """The state of one mixer."""
        return {name: state[f"{name}_{index}"] for name in self.each[index].state_shapes}

    def _added(self, outputs: list[Tensor]) -> Tensor:
        if len(self.gains) == 0:
            return sum(outputs[1:], start=outputs[0])
        normed = [
            rms_norm(sum_over_parts(y), gain.shape, gain, EPSILON)
            for y, gain in zip(outputs, self.gains.values(), strict=True)
        ]
        return sum(normed[1:], start=normed[0]) / (len(normed) * parts_in_all())


def _numbered(states: Iterator[State]) -> State:
    return {f"{name}_{i}": value for i, state in enumerate(states) for name, value in state.items()}


@reference(Parallel, source="its equation, and the references of its mixers", needs="transformers")
def side_by_side(spec: Parallel, weights: Weights, d_model: int) -> Function:
    """The sum of what the references of the mixers put out."""
    runs = []
    for path, mixer in spec.by_path():
        own, known = _part(weights, path), reference_of(type(mixer))
        assert known is not None
        runs.append(known.build(mixer, own, d_model))
    gains = list(_part(weights, "gains.").values())

    def run(x: Tensor) -> Tensor:
        outputs = [each(x) for each in runs]
        if not gains:
            return torch.stack(outputs).sum(0)
        scales = [(y.square().mean(-1, keepdim=True) + EPSILON).rsqrt() for y in outputs]
        return torch.stack([g * y * s for g, y, s in zip(gains, outputs, scales, strict=True)]).mean(0)

    return run


def _part(weights: Weights, path: str) -> Weights:
    return {name.removeprefix(path): value for name, value in weights.items() if name.startswith(path)}
