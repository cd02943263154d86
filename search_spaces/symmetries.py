"""Which axes of a block's parameters may be put into another order without a change of function.

A supernet keeps the leading slice of an axis, so what is important should stand first
(`evaluators.supernet.importance`). Hidden channels, heads, experts and channels of the state may be sorted;
what has a position may not: channels that rotary positions turn, heads on a ladder of fixed decays, taps of a
filter.

Every parameter's axes are named by letters, in their order:

    Layout({"wq": "GH K D", "wk": "G K D", "wv": "G V D", "wo": "D GH V"}, "DGHV", within={"H": "G"})

One letter is one dimension wherever it stands, so all axes of a letter move together; `GH` is an axis of G
groups of H entries each; `.` is an axis that nobody moves. `symmetric` are the letters without an order. A
letter `within` another one has an order of its own for each of the other's entries. D is d_model, the axis
that all parts of a network share.

A block of your own is sorted once it has a layout (`declare`); until then it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn

from foundation.errors import SpaceError
from search_spaces.blocks.base import Block
from search_spaces.network.adaptive_depth import Exit, Router
from search_spaces.network.embedding_reader import EmbeddingReader

FIXED = "."
WIDTH = "D"

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """The letters of every axis, by parameter; see the module's own text.

    Raises:
        SpaceError: a letter that no axis has, or a word that is no letter, pair of letters or dot.
    """

    axes: Mapping[str, str]
    symmetric: str
    within: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = [word for text in self.axes.values() for word in text.split()]
        wrong = [word for word in words if word != FIXED and not (word.isalpha() and len(word) <= 2)]
        if wrong:
            raise SpaceError(f"an axis is a letter, two letters or {FIXED!r}, got {wrong[0]!r}")
        missing = {*self.symmetric, *self.within, *self.within.values()} - set("".join(words))
        if missing:
            raise SpaceError(f"no axis is called {', '.join(sorted(missing))}")

    def words(self, name: str) -> tuple[str, ...]:
        """The words of a parameter's axes."""
        return tuple(self.axes[name].split())

    def sizes(self, shapes: Shapes) -> dict[str, int]:
        """How many entries each letter has in parameters of these shapes.

        A letter inside a pair counts entries of one group. A pair that does not fall into equal groups gives
        no size for its second letter.

        Raises:
            SpaceError: the shapes are not those of this layout.
        """
        found: dict[str, int] = {}
        pairs: dict[str, int] = {}
        for name, shape in shapes.items():
            words = self.words(name) if name in self.axes else ()
            if len(words) != len(shape):
                raise SpaceError(f"the layout of {name} is {' '.join(words) or 'missing'}, its shape {shape}")
            for word, size in zip(words, shape, strict=True):
                if word != FIXED and (pairs if len(word) == 2 else found).setdefault(word, size) != size:
                    raise SpaceError(f"{name}: axis {word} has {size} entries here and other ones elsewhere")
        for pair, size in pairs.items():
            if size % found[pair[0]] == 0:
                found[pair[1]] = size // found[pair[0]]
        return found

    def carriers(self, letter: str) -> list[str]:
        """The parameters that have this letter."""
        return [name for name, text in self.axes.items() if letter in text]

    def order(
        self, name: str, values: Tensor, letter: str, orders: Tensor, sizes: Mapping[str, int]
    ) -> Tensor:
        """`values` of the parameter `name` with the entries of `letter` in another order.

        `orders` [n] names the entry that comes to each place, or, for a letter within another one, [m, n] one
        such order for each entry of the other.
        """
        split, letters = self._split(name, values, letter, sizes)
        for dim, found in enumerate(letters):
            if found == letter:
                split = _gather(split, dim, orders, letters, self.within.get(letter))
        return split.reshape(values.shape)

    def totals(self, name: str, values: Tensor, letter: str, sizes: Mapping[str, int]) -> Tensor:
        """The sum of `values` for each entry of `letter`: [n], or [m, n] for a letter within another one."""
        split, letters = self._split(name, values, letter, sizes)
        outer = self.within.get(letter)
        kept = [letters.index(outer)] if outer is not None else []
        kept.append(letters.index(letter))
        others = [dim for dim in range(split.dim()) if dim not in kept]
        summed = split.sum(others) if others else split
        return summed if kept == sorted(kept) else summed.mT

    def _split(
        self, name: str, values: Tensor, letter: str, sizes: Mapping[str, int]
    ) -> tuple[Tensor, list[str]]:
        """`values` with the pairs that have this letter as two axes, and the names of all axes."""
        shape, names = list[int](), list[str]()
        for word, size in zip(self.words(name), values.shape, strict=True):
            if len(word) == 2 and letter in word:
                shape += [sizes[word[0]], sizes[word[1]]]
                names += list(word)
            else:
                shape.append(size)
                names.append(word)
        return values.reshape(shape), names


def _gather(values: Tensor, dim: int, orders: Tensor, letters: list[str], outer: str | None) -> Tensor:
    if outer is None:
        return values.index_select(dim, orders)
    shape = [1] * values.dim()
    shape[dim], shape[letters.index(outer)] = orders.shape[1], orders.shape[0]
    index = orders if letters.index(outer) < dim else orders.mT
    return values.gather(dim, index.reshape(shape).expand(values.shape))


OPTION_LAYOUTS: dict[type[nn.Module], Layout] = {
    Router: Layout({"weight": "D"}, "D"),
    Exit: Layout({"norm": "D", "head": ". D"}, "D"),
    EmbeddingReader: Layout({"norm": "D", "weight": "D . D"}, "D"),
}
"""The options of a layer that have parameters."""

OUTER = Layout({"embedding": ". D", "norm": "D"}, "D")
"""What stands around the layers."""

HEADS = {"wq": "H N D", "wk": "H N D", "wv": "H V D", "wo": "D H V"}
GROUPED = {"wq": "GH K D", "wk": "G K D", "wv": "G V D", "wo": "D GH V"}
DELTA = {"wqk": ". H N D", "wv": "H V D", "wb": "H D", "conv_qk": ". H N .", "conv_v": "H V ."}
EXPERTS = {"router": "E D", "gated": "E F D", "up": "E F D", "down": "E D F"}
ROUTED = Layout(EXPERTS, "DEF", {"F": "E"})
NEAR = {f"near.{name}": text.translate(str.maketrans("GHKV", "ghkv")) for name, text in GROUPED.items()}

_LAYOUTS: dict[str, Layout] = {
    "Attention": Layout(GROUPED, "DGHVK", {"H": "G"}),
    "Based": Layout(HEADS | {"wo": "D H V"} | NEAR, "DHNVghv", {"h": "g"}),
    "BlockSparseAttention": Layout(GROUPED, "DGHV", {"H": "G"}),
    "DeepSeekMoE": Layout(
        EXPERTS | {"bias": "E", "shared_gated": "S J D", "shared_up": "S J D", "shared_down": "D S J"},
        "DEFSJ",
        {"F": "E", "J": "S"},
    ),
    "DeltaNet": Layout(DELTA | {"norm": "V", "wo": "D H V"}, "DHNV"),
    "DifferentialAttention": Layout(
        {"wq": ". GH K D", "wk": ". G K D", "wv": ". G V D", "wo": "D GH . V"}
        | dict.fromkeys(("lambda_q", "lambda_k"), ". K"),
        "DGHV",
        {"H": "G"},
    ),
    "GShard": ROUTED,
    "GatedDeltaNet": Layout(
        DELTA
        | {"norm": "V", "wo": "D H V", "wz": "H V D", "wdt": "H D"}
        | dict.fromkeys(("dt_bias", "a_log"), "H"),
        "DHNV",
    ),
    "GatedLinearAttention": Layout(
        HEADS | {"wz": "H V D", "gate_in": "R D", "gate_out": "H N R", "gate_bias": "H N", "norm": "V"},
        "DHNVR",
    ),
    "Hyena": Layout(
        {"w_in": ". D D", "conv": "D .", "filter_in": "F .", "filter_in_bias": "F", "filter_hidden": "F F"}
        | {"filter_hidden_bias": "F", "frequency": "F", "filter_out": "D F", "fade": "D", "skip": "D"}
        | {"conv": ". D .", "wo": "D D"},
        "DF",
    ),
    "LatentAttention": Layout(
        {"wq": "H K D", "wq_turned": "H . D", "wc": "R D", "wk_turned": ". D", "norm": "R"}
        | {"wk": "H K R", "wv": "H V R", "wo": "D H V"},
        "DHKVR",
    ),
    "LinearAttention": Layout(HEADS, "DHNV"),
    "LongConv": Layout(dict.fromkeys(("wv", "wz", "wo"), "D D") | {"taps": "D .", "skip": "D"}, "D"),
    "MLP": Layout({"up": "F D", "down": "D F"}, "DF"),
    "MLSTM": Layout(HEADS | {"wz": "H V D", "gates": ". H D", "gate_bias": ". H", "norm": "H V"}, "DHNV"),
    "Mamba": Layout(
        {"wz": "C D", "wx": "C D", "conv": "C .", "conv_bias": "C", "wbc": ". N C", "dt_in": "R C"}
        | {"dt_out": "C R", "dt_bias": "C", "a_log": "C N", "skip": "C", "wo": "D C"}
        | {"dt_norm": "R", "bc_norm": ". N"},
        "DCNR",
    ),
    "Mamba2": Layout(
        {"wz": "H P D", "wx": "H P D", "wbc": ". N D", "wdt": "H D", "conv_x": "H P .", "conv_x_bias": "H P"}
        | {"conv_bc": ". N .", "conv_bc_bias": ". N", "norm": "H P", "wo": "D H P"}
        | dict.fromkeys(("dt_bias", "a_log", "skip"), "H"),
        "DHPN",
    ),
    "MoE": ROUTED,
    "Performer": Layout(HEADS | {"wq": "H K D", "wk": "H K D"}, "DHV"),
    "RGLRU": Layout(
        dict.fromkeys(("wx", "wy"), "H K D")
        | dict.fromkeys(("conv_bias", "input_bias", "decay_bias", "decay"), "H K")
        | {"conv": "H K .", "input_gate": "H K K", "decay_gate": "H K K", "wo": "D H K"},
        "DHK",
    ),
    "RWKV6": Layout(
        {"mix": ". D", "mix_in": ". A D", "mix_out": ". D A", "wr": "H N D", "wk": "H N D"}
        | {"wv": "H V D", "wg": "H V D", "decay": "H N", "decay_in": "B D", "decay_out": "H N B"}
        | {"bonus": "H N", "norm": "H V", "norm_bias": "H V", "wo": "D H V"},
        "DHNVAB",
    ),
    "RWKVChannelMix": Layout({"mix": ". D", "wk": "F D", "wr": "D D", "wv": "D F"}, "DF"),
    "Retention": Layout(HEADS | {"wz": "H V D", "norm": "H V", "norm_bias": "H V"}, "DV"),
    "S4": Layout(
        dict.fromkeys(("log_fade", "turn"), "N")
        | dict.fromkeys(("p", "b"), ". N")
        | dict.fromkeys(("c_real", "c_imag"), "D N")
        | {"log_step": "D", "skip": "D", "wo": ". D D"},
        "DN",
    ),
    "S4D": Layout(
        dict.fromkeys(("log_fade", "turn", "c_real", "c_imag"), "D N")
        | {"log_step": "D", "skip": "D", "wo": ". D D"},
        "DN",
    ),
    "SLSTM": Layout(
        {"wx": ". H K D", "recurrent": ". H K K", "bias": ". H K", "norm": "H K", "wo": "D H K"}, "DHK"
    ),
    "ShortConv": Layout({"w_in": ". D D", "conv": "D .", "wo": "D D"}, "D"),
    "Skip": Layout({}, ""),
    "SwiGLU": Layout({"gated": "F D", "up": "F D", "down": "D F"}, "DF"),
    "Switch": ROUTED,
}

_ORDERED: dict[tuple[str, str], Callable[[Any], bool]] = {
    ("Attention", "K"): lambda block: block.rotary,
    ("LinearAttention", "H"): lambda block: block.decay != "none",
    ("Performer", "H"): lambda block: block.decay != "none",
}
"""When a letter has an order after all, by kind and letter: rotary positions, ladders of decays."""


def declare(kind: str, layout: Layout) -> None:
    """Say how the parameters of a kind of block of your own are laid out.

    Raises:
        SpaceError: this kind has another layout already.
    """
    if _LAYOUTS.setdefault(kind, layout) != layout:
        raise SpaceError(f"{kind} has another layout already: {dict(_LAYOUTS[kind].axes)}")


def layout_of(block: Block) -> Layout | None:
    """The layout of a block, None where nobody declared one; its axes may name parameters it lacks."""
    kind = type(block).__name__
    layout = _LAYOUTS.get(kind)
    if layout is None:
        return None
    ordered = {letter for (of, letter), rule in _ORDERED.items() if of == kind and rule(block)}
    free = "".join(letter for letter in layout.symmetric if letter not in ordered)
    return Layout(layout.axes, free, layout.within)
