"""What a training takes in each process, known before it begins.

    weights, gradients    the geometry of the methods (`Method.local`), 4 bytes a value in float32
    optimizer             the same geometry, times what the optimizer keeps of a value (tried on tiny ones)
    gathered              weights of others that are held for a while (FSDP)
    activations           what autograd keeps of one row and of two, traced here; it grows with rows by a line

ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054, section 3) divides the first three by the number of
processes, each stage one more of them. Of a layer that is recomputed only its input is kept, and the
activations of one such layer at a time (Chen et al. 2016, arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.training.parallel.course import Course
from evaluators.training.parallel.grid import Grid
from evaluators.training.parallel.methods.base import Shape
from evaluators.training.parallel.methods.pipeline import Pipeline
from evaluators.training.parallel.network import Holder, Shared
from evaluators.training.parallel.piece_losses import scaled_losses
from foundation.errors import SettingError
from foundation.text import size
from foundation.wording import argument

AROUND = ""
"""The name of what stands around the layers: embedding, head, loss."""

UNLIMITED = -1
"""The budget of activations by which nothing is recomputed; 0 is the one by which every layer is."""

TINY = 8
"""Entries of each axis of the parameters on which an optimizer is tried."""


@dataclass(frozen=True)
class Held:
    """Bytes that a process holds at most."""

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Line:
    """Bytes that autograd keeps of so many rows: `constant + per_row rows`."""

    constant: int
    per_row: int

    def of(self, rows: int) -> int:
        """For so many rows."""
        return self.constant + self.per_row * rows


Trace = Mapping[str, Line]
"""The line of each layer by its number as text, and of what stands around them."""


def held_by(course: Course, trace: Trace, rank: int) -> Held:
    """What the process of a rank holds."""
    indices = course.parallel.indices(rank)
    local = _local_shapes(course, indices)
    width = course.torch_dtype.itemsize
    values = {name: torch.Size(shape).numel() for name, shape in local.items()}
    kept = sum(values.values()) * width
    units: dict[str, int] = {}
    for name in values:
        units[_unit(name)] = units.get(_unit(name), 0) + _gathered_values(course, name)
    gathered = sum(method.gathered(units) for method in course.parallel.methods) * width
    return Held(
        kept, kept, _optimizer_bytes(course, values, indices), gathered, _activations(course, trace, indices)
    )


def most_held(course: Course, trace: Trace) -> Held:
    """What the process holds that holds most."""
    return max(
        (held_by(course, trace, rank) for rank in range(course.parallel.count)), key=lambda held: held.total
    )


def recomputed_within(course: Course, trace: Trace, budget: int) -> tuple[int, ...]:
    """The layers to recompute so that activations take at most `budget` bytes in every process: the fewest.

    Raises:
        SettingError: they take more even where every layer is recomputed.
    """
    if budget == UNLIMITED:
        return ()
    depth = len(course.decoder().layers)
    rows = _rows(course)
    order = sorted(range(depth), key=lambda number: -trace[str(number)].of(rows))
    for count in range(depth + 1) if budget else (depth,):
        chosen = frozenset(order[:count])
        taken = max(
            _activations(course, trace, course.parallel.indices(rank), chosen)
            for rank in range(course.parallel.count)
        )
        if taken <= budget or not budget:
            return tuple(sorted(chosen))
    raise SettingError(
        f"{argument('checkpoint_activations', budget)}: with every layer recomputed, activations take"
        f" {taken:,} bytes ({size(taken)}) a process; read smaller pieces"
        f" ({argument('accumulate')}), or let more processes share the work ({argument('parallel')})"
    )


def trace_of(course: Course) -> Trace:
    """What autograd keeps of each layer, traced on one and on two rows by this process.

    Raises:
        SettingError: a block cannot be split as the course wants it.
    """
    one, two = (_saved(course, rows) for rows in (1, 2))
    return {name: Line(max(0, 2 * one[name] - two[name]), max(0, two[name] - one[name])) for name in one}


def _saved(course: Course, rows: int) -> dict[str, int]:
    """Bytes that autograd keeps of so many rows, by layer."""
    holder = _one_part(course)
    here = [AROUND]
    found: dict[str, int] = {AROUND: 0}
    own = {weight.untyped_storage().data_ptr() for weight in holder.parameters()}
    seen: set[int] = set()
    alive: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            alive.append(x)
            found[here[0]] = found.get(here[0], 0) + storage.nbytes()
        return x

    for number, layer in holder.network.placed_layers():
        found[str(number)] = 0
        layer.register_forward_pre_hook(_entering(here, str(number)))
        layer.register_forward_hook(_entering(here, AROUND))
    tokens, targets = course.task.train_batch(0, course.seed, rows)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = holder(tokens)
        scaled_losses(output, targets, (1.0, 1.0))
    return found


def _entering(here: list[str], name: str) -> Any:
    def hook(*_: Any) -> None:
        here[0] = name

    return hook


def _one_part(course: Course) -> Holder:
    """The network as the first process of a split computes it, with values that mean nothing."""
    with torch.device("meta"):
        network = Shared(course.decoder())
    network = network.to(course.torch_dtype)
    tensor = course.parallel.of("tp")
    tensor.divide(network, Grid(sizes={"tp": tensor.degree}, indices={"tp": 0}))
    holder = Holder(network, precision=course.recipe.precision).to_empty(device="cpu")
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in holder.parameters():
            weight.copy_(torch.rand(weight.shape, generator=dice) * 0.1)
    return holder


def _activations(
    course: Course, trace: Trace, indices: Mapping[str, int], recomputed: Collection[int] | None = None
) -> int:
    """Bytes of activations in a process, at most."""
    chosen = course.recomputed if recomputed is None else recomputed
    spec, rows, again = course.decoder(), _rows(course), 0
    pipeline = course.parallel.of("pp")
    stage = (
        pipeline.layers_of(len(spec.layers), indices["pp"]) if isinstance(pipeline, Pipeline) else range(0)
    )
    width = rows * course.task.length * spec.d_model * course.torch_dtype.itemsize
    kept = 0
    for number in stage:
        taken = trace[str(number)].of(rows)
        kept += width if number in chosen else taken
        again = max(again, taken) if number in chosen else again
    if indices["pp"] == pipeline.degree - 1:
        kept += trace[AROUND].of(rows)
    return kept * _pieces_kept(course, indices) + again


def _pieces_kept(course: Course, indices: Mapping[str, int]) -> int:
    """Pieces of the batch whose activations are kept at the same time."""
    pipeline = course.parallel.of("pp")
    if pipeline.degree == 1:
        return 1
    if getattr(pipeline, "schedule", "") == "gpipe":
        return course.accumulate
    return min(course.accumulate, pipeline.degree - indices["pp"])


def _rows(course: Course) -> int:
    """Rows of a piece."""
    return course.batch // (course.parallel.readers * course.accumulate)


def _local_shapes(course: Course, indices: Mapping[str, int]) -> dict[str, Shape]:
    """The shape of every parameter's part in a process; those that it does not hold are left out."""
    found: dict[str, Shape] = {}
    for name, whole in _shapes(course.spec, course).items():
        shape: Shape | None = whole
        for method in reversed(course.parallel.methods):  # blocks are split before rows are shared
            shape = (
                None if shape is None else method.local(course.decoder(), name, shape, indices[method.name])
            )
        if shape is not None:
            found[name] = shape
    return found


def _gathered_values(course: Course, name: str) -> int:
    """Values of a parameter as a layer computes with it: split, and gathered from equally many rows each."""
    shape = _shapes(course.spec, course)[name]
    local = course.parallel.of("tp").local(course.decoder(), name, shape, 0) or shape
    processes = course.parallel.of("fsdp").degree
    return -(-local[0] // processes) * processes * torch.Size(local[1:]).numel()


@lru_cache(maxsize=8)
def _shapes(spec: str, course: Course) -> dict[str, Shape]:
    with torch.device("meta"):
        return Shared(course.decoder()).plan.shapes


def _unit(name: str) -> str:
    """The layer of a parameter, or what stands around them."""
    return name.split(".")[1] if name.startswith("layers.") else AROUND


def _optimizer_bytes(course: Course, values: Mapping[str, int], indices: Mapping[str, int]) -> int:
    """Bytes of optimizer state: what is kept of a value, and what is kept of a parameter."""
    per_value, groups = _optimizer_law(course)
    shared = sum(values.values())
    for method in course.parallel.methods:
        shared = min(
            shared,
            method.optimizer_share(
                [[values[name] for name in group if name in values] for group in groups], indices[method.name]
            ),
        )
    return round(shared * per_value)


def _optimizer_law(course: Course) -> tuple[float, list[list[str]]]:
    """Bytes of state for each value, on average, and the names in each group of the optimizer."""
    with torch.device("meta"):
        network = Shared(course.decoder())
    tiny = {n: nn.Parameter(torch.zeros((TINY,) * len(s))) for n, s in network.plan.shapes.items()}
    optimizer = course.recipe.optimizer.make(tiny, network.rates, network.whole_roles)
    for weight in tiny.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    names = {id(weight): name for name, weight in tiny.items()}
    groups = [[names[id(weight)] for weight in group["params"]] for group in optimizer.param_groups]
    kept = whole = 0.0
    for name, weight in tiny.items():
        states = [s for s in optimizer.state[weight].values() if isinstance(s, Tensor)]
        same = sum(1 for s in states if s.shape == weight.shape)
        kept += same * torch.Size(network.plan.shapes[name]).numel()
        whole += torch.Size(network.plan.shapes[name]).numel()
    return kept / whole * course.torch_dtype.itemsize, groups
