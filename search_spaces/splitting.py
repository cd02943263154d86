"""Tensor parallelism by layout: a block as a sum of equal parts, each with its share of the parameters.

    split = split_of(block, d_model=256, count=2)
    split.cuts                     # {"wq": 0, "wk": 0, "wv": 0, "wo": 1}: the axes that are cut

A block is covered by its own `Layout`: a letter (heads, groups, hidden channels, experts) is cut into
contiguous equal parts on every axis that it names, and what has no such axis is kept whole by everyone.
Whether the outputs of the parts then add up to the output of the block is not believed but computed, once per
block, on random weights and a few random tokens: so a block of one's own needs no further declaration, and
one that does not add up is refused instead of trained wrongly. Of several letters the one that cuts most
values is taken.

The column and row products of Shoeybi et al. 2019 (Megatron-LM, arXiv:1909.08053, section 3) are the cases of
heads and of hidden channels. A figure that couples the parts goes through `search_spaces.ops.shards`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor
from torch.func import functional_call

from foundation.errors import NasError, SettingError
from search_spaces.blocks.base import Block, Mixed, Mixer
from search_spaces.ops.shards import split_into
from search_spaces.parameter_axes import FIXED, WIDTH, Layout, Shapes

TOKENS = 12
"""Tokens of each of two rows on which the sum of the parts is tried."""

TOLERANCE = 1e-7
"""Largest difference between a block and the sum of its parts, in float64, over the largest output."""

SEED = 17


@dataclass(frozen=True)
class Split:
    """How a block is cut into `count` parts along one letter of its layout, or two.

    `cuts` are the axes by parameter; parameters that are not in it are whole in each part.
    """

    letters: str
    count: int
    cuts: Mapping[str, int]

    def part(self, name: str, weight: Tensor, index: int) -> Tensor:
        """The part `index` of a parameter, a view."""
        dim = self.cuts.get(name)
        return weight if dim is None else weight.chunk(self.count, dim)[index]

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a part of a parameter of this shape."""
        dim = self.cuts.get(name)
        return tuple(n // self.count if i == dim else n for i, n in enumerate(shape))


@lru_cache(maxsize=256)
def split_of(block: Block, d_model: int, count: int) -> Split:
    """The split of a block into `count` parts that keeps most values in one part only.

    Raises:
        SettingError: its layout allows none; the reason for each letter is told.
    """
    kind, layout = type(block).__name__, block.layout()
    if layout is None:
        raise SettingError(f"{kind} declares no layout (Block.layout), so nothing says how to split it")
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in block.build(d_model).named_parameters()}
    possible, reasons = _cuts(layout, shapes, count)
    for letters, cuts in sorted(_with_pairs(possible), key=lambda item: -_values(item[1], shapes)):
        split = Split(letters, count, cuts)
        why = _why_not(block, d_model, split)
        if not why:
            return split
        if len(letters) == 1:
            reasons.append(f"{letters}: {why}")
    told = "; ".join(reasons) or "its layout has no axis but the width"
    raise SettingError(f"{kind} cannot be split into {count} parts: {told}")


def _cuts(layout: Layout, shapes: Shapes, count: int) -> tuple[dict[str, dict[str, int]], list[str]]:
    """The axis of each parameter that a letter would cut, by letter, and why other letters cannot."""
    sizes = layout.sizes(shapes)
    found: dict[str, dict[str, int]] = {}
    reasons = []
    for letter in dict.fromkeys(char for name in shapes for char in "".join(layout.words(name))):
        if letter in (WIDTH, FIXED):
            continue
        cuts = _cuts_of(layout, shapes, sizes, letter)
        if isinstance(cuts, str):
            reasons.append(f"{letter}: {cuts}")
        elif sizes[letter] % count:
            reasons.append(f"{letter} has {sizes[letter]} entries, which {count} does not divide")
        else:
            found[letter] = cuts
    return found, reasons


def _with_pairs(possible: Mapping[str, dict[str, int]]) -> Iterator[tuple[str, dict[str, int]]]:
    """Each letter alone, and two that cut other parameters together: routed and shared experts, say."""
    yield from possible.items()
    for one, other in combinations(possible, 2):
        if not possible[one].keys() & possible[other].keys():
            yield one + other, possible[one] | possible[other]


def _cuts_of(layout: Layout, shapes: Shapes, sizes: Mapping[str, int], letter: str) -> dict[str, int] | str:
    cuts: dict[str, int] = {}
    for name in shapes:
        for dim, word in enumerate(layout.words(name)):
            if letter not in word:
                continue
            if len(word) == 2 and word[1] == letter and sizes[word[0]] > 1:
                return f"its entries lie apart, in {sizes[word[0]]} groups"
            if name in cuts:
                return f"two axes of {name} have it"
            cuts[name] = dim
    return cuts


def _values(cuts: Mapping[str, int], shapes: Shapes) -> int:
    """How many values are in parameters that are cut."""
    return sum(torch.Size(shapes[name]).numel() for name in cuts)


def _why_not(block: Block, d_model: int, split: Split) -> str:
    """Why the parts do not add up to the block; empty where they do."""
    mixer = block.build(d_model).double()
    dice = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        mixer.reset_parameters(dice)
        for weight in mixer.parameters():  # ones and zeros would hide what they multiply or add
            weight.add_(torch.randn(weight.shape, generator=dice, dtype=weight.dtype), alpha=0.1)
    x = torch.randn(2, TOKENS, d_model, generator=dice, dtype=torch.double)
    whole = mixer(x)
    try:
        parts = _in_parts(block, mixer, x, split)
    except (
        NasError,
        ArithmeticError,
        AssertionError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        told = str(error).splitlines()
        return f"a part cannot be computed alone ({told[0] if told else type(error).__name__})"
    difference = float(
        (sum(part.y for part in parts) - whole.y).detach().abs().max() / whole.y.detach().abs().max()
    )
    if not difference <= TOLERANCE:
        return f"the outputs of the parts do not add up (they are {difference:.1e} off)"
    losses = [part.loss for part in parts if part.loss is not None]
    if whole.loss is not None and not torch.allclose(torch.stack(losses).mean(), whole.loss):
        return "its parts have another auxiliary loss"
    return ""


def _in_parts(block: Block, mixer: Mixer, x: Tensor, split: Split) -> list[Mixed]:
    """The outputs of all parts; each runs in a thread, since they may wait for each other's sums."""
    meeting = _Meeting(split.count)

    def run(index: int) -> Mixed:
        with torch.device("meta"):
            part = block.build(x.shape[-1])
        weights = {name: split.part(name, weight, index) for name, weight in mixer.named_parameters()}
        return meeting.run(part, weights, x, index)

    with ThreadPoolExecutor(split.count) as threads:
        return list(threads.map(run, range(split.count)))


class _Meeting:
    """Parts that wait for each other wherever they need a sum over all."""

    def __init__(self, count: int) -> None:
        self.barrier, self.slots = threading.Barrier(count, timeout=60), [torch.empty(0)] * count

    def run(self, part: Mixer, weights: Mapping[str, Tensor], x: Tensor, index: int) -> Mixed:
        """The output of one part, in a thread of its own."""
        done = False
        try:
            with split_into(self.barrier.parties, self._sum(index)):
                mixed: Mixed = functional_call(part, dict(weights), (x,))
            done = True
        finally:
            if not done:
                self.barrier.abort()  # the others need not wait for it
        return mixed

    def _sum(self, index: int) -> Callable[[Tensor], Tensor]:
        def sum_parts(x: Tensor) -> Tensor:
            self.slots[index] = x
            self.barrier.wait()
            total = torch.stack(self.slots).sum(0)
            self.barrier.wait()
            return total

        return sum_parts
