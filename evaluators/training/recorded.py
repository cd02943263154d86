"""Regions recorded as CUDA graphs: a program starts one graph in the place of all kernels of a region.

The networks of a supernet differ from step to step, so no step repeats; their regions do
(`evaluators.training.regions`). Each becomes two graphs, of its forward pass, and of both its passes: the
second computes anew what the backward pass needs, so nothing has to lie where it was recorded from one to the
other, and a region may stand at any number of places of a network. That is a third more work for the device
(and keeps of a region no more than its inputs), where the program was what the step waited for. So both forms
are timed when a region is recorded, and the faster one stays.

A graph reads and writes where it was recorded: inputs are copied there, results are copied from there. As
graphs run one after another, regions share these places, and the memory of what is between them. A recording
proves itself by the results of the region that it was made from. What waits for the device, to read back how
many tokens an expert got, cannot be a graph; that is found out before, as a recording that fails leaves the
random numbers and the memory of the process in it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from evaluators.training.capture import Capture, Replay, Waits, never_waiting
from evaluators.training.cuda_graph import WARM_UP, on_device_of

REPEATS = 3
FAILURES = 3
"""So many recordings that were begun in vain, and no more are tried."""

DIFFERENCE = 1e-2
"""Of the largest value: what a recording may differ by, since sums of some kernels have no fixed order."""

Region: TypeAlias = "Callable[..., tuple[Tensor | None, ...]]"
"""A function of tensors, and what it is made of: all its inputs are there."""

Passes: TypeAlias = "Callable[[], tuple[tuple[Tensor | None, ...], Sequence[Tensor]]]"
"""Runs a region: its results, and the inputs that they come from."""

_log = logging.getLogger(__name__)


class Exact(NamedTuple):
    """What a region gives by itself: results, and gradients of its inputs for `seeds` in their place.

    `made` says which results there are, `learns` which of these have a gradient.
    """

    results: list[Tensor]
    made: list[bool]
    learns: list[bool]
    seeds: list[Tensor]
    gradients: list[Tensor | None]


@dataclass(frozen=True)
class Graphs:
    """A region as two graphs, with the places that they read (inputs, seeds) and write (outputs, gradients).

    `made` says which of the region's results there are, `learns` which of the outputs have a gradient; there
    is a place of a gradient for every input that has one.
    """

    forward: Replay
    backward: Replay
    inputs: list[Tensor]
    outputs: list[Tensor]
    seeds: list[Tensor]
    gradients: list[Tensor | None]
    made: list[bool]
    learns: list[bool]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        """The same as the region."""
        results = iter(_Replayed.apply(self, *inputs))
        return tuple(next(results) if there else None for there in self.made)


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graphs: Graphs, *inputs: Tensor) -> tuple[Tensor, ...]:
        torch._foreach_copy_(graphs.inputs, inputs)
        graphs.forward()
        ctx.graphs = graphs
        ctx.save_for_backward(*inputs)
        outputs = _copies(graphs.outputs)
        fixed = [y for y, learns in zip(outputs, graphs.learns, strict=True) if not learns]
        ctx.mark_non_differentiable(*fixed)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor | None, ...]:
        graphs: Graphs = ctx.graphs
        given = [seed for seed, learns in zip(seeds, graphs.learns, strict=True) if learns]
        torch._foreach_copy_([*graphs.inputs, *graphs.seeds], [*ctx.saved_tensors, *given])
        graphs.backward()
        gradients = iter(_copies([each for each in graphs.gradients if each is not None]))
        return None, *(None if each is None else next(gradients) for each in graphs.gradients)


class Recorder:
    """Records regions of one device and one stream, each when it was met a few times.

    Whoever asks by equal keys asks for equal regions, with inputs of equal shapes, strides and types. `spent`
    counts the seconds of recording, `failed` the recordings that were begun in vain.
    """

    def __init__(self) -> None:
        self.failed = 0
        self.spent = 0.0
        self._met: Counter[Hashable] = Counter()
        self._runs: dict[Hashable, Region | None] = {}
        self._places: dict[Hashable, Tensor] = {}
        self._capture = Capture()

    @property
    def works(self) -> bool:
        """Whether recordings are tried at all."""
        return self.failed < FAILURES

    @property
    def count(self) -> int:
        """How many regions are graphs."""
        return sum(run is not None for run in self._runs.values())

    def known(self, key: Hashable) -> Region | None:
        """The recording of a region, if there is one."""
        return self._runs.get(key)

    def due(self, key: Hashable) -> bool:
        """Whether a region that is met once more should be recorded now."""
        if not self.works or key in self._runs:
            return False
        self._met[key] += 1
        return self._met[key] > WARM_UP

    def record(
        self, key: Hashable, region: Region, inputs: Sequence[Tensor], name: str, *, compiled: bool = False
    ) -> Region | None:
        """A region as graphs; None where it stays as it is: slower so, not the same, or impossible."""
        self._runs[key] = None
        if not torch.is_grad_enabled() or not any(each.requires_grad for each in inputs):
            return None
        began = perf_counter()
        try:
            with on_device_of(inputs[0]), nullcontext() if compiled else _without_autocast_cache():
                graphs = self._recorded(region, inputs)
                if graphs is None:
                    _log.warning("WARNING: %s is not the same as a CUDA graph, and runs as it is", name)
                elif self._pays(region, graphs, inputs):
                    self._runs[key] = graphs
        except torch.OutOfMemoryError:
            raise
        except Waits as error:
            _log.info("%s waits for the device (%s), and is no CUDA graph", name, error)
        except RuntimeError as error:
            self.failed += 1
            why = " ".join(str(error).split())[:200]
            what = "and runs as it is" if self.works else "as nothing more can"
            _log.warning("WARNING: %s cannot be a CUDA graph, %s: %s", name, what, why)
        self.spent += perf_counter() - began
        return self._runs[key]

    def _recorded(self, region: Region, inputs: Sequence[Tensor]) -> Graphs | None:
        """The graphs; None where they do not give what the region gives."""
        places = [self._place("input", number, each) for number, each in enumerate(inputs)]
        with torch.no_grad():
            torch._foreach_copy_(places, list(inputs))

        def passes() -> tuple[tuple[Tensor | None, ...], list[Tensor]]:
            # leaves of this call: autograd ties a leaf to the stream on which it was first used, and a graph
            # may not wait for another stream than its own
            pairs = zip(places, inputs, strict=True)
            leaves = [place.detach().requires_grad_(each.requires_grad) for place, each in pairs]
            return region(*leaves), leaves

        with never_waiting(inputs[0]):
            exact = self._exactly(passes)
        outputs = [self._place("output", number, each) for number, each in enumerate(exact.results)]
        gradients = [
            None if each is None else self._place("gradient", number, each)
            for number, each in enumerate(exact.gradients)
        ]

        def forward() -> None:
            results = [each.detach() for each in passes()[0] if each is not None]
            torch._foreach_copy_(outputs, results)

        def backward() -> None:
            found = _gradients(*passes(), exact.seeds)
            pairs = [(p, g) for p, g in zip(gradients, found, strict=True) if p is not None and g is not None]
            torch._foreach_copy_([place for place, _ in pairs], [slope for _, slope in pairs])

        graphs = Graphs(
            self._replay_of(forward),
            self._replay_of(backward),
            places,
            outputs,
            exact.seeds,
            gradients,
            exact.made,
            exact.learns,
        )
        return graphs if _proves_itself(graphs, exact) else None

    def _exactly(self, passes: Passes) -> Exact:
        """What the region gives by itself, with its results as the gradients that come back to them."""
        made, leaves = passes()
        results = [each for each in made if each is not None]
        learning = [each for each in results if each.requires_grad]
        seeds = [self._place("seed", i, each) for i, each in enumerate(results) if each.requires_grad]
        with torch.no_grad():
            torch._foreach_copy_(seeds, learning)
        return Exact(
            results=[each.detach() for each in results],
            made=[each is not None for each in made],
            learns=[each.requires_grad for each in results],
            seeds=seeds,
            gradients=_gradients(made, leaves, seeds),
        )

    def _place(self, role: str, number: int, like: Tensor) -> Tensor:
        """Where the graphs of all regions keep their input, output, ... of this number and form."""
        key = (role, number, like.shape, like.stride(), like.dtype, like.device)
        if key not in self._places:
            self._places[key] = torch.empty_like(like)
        return self._places[key]

    def _replay_of(self, function: Callable[[], None]) -> Replay:
        """What a function asks of the device, recorded; it is called once, and computes nothing."""
        return self._capture.of(function)

    def _pays(self, region: Region, graphs: Graphs, inputs: Sequence[Tensor]) -> bool:
        """Whether both passes take less time as graphs."""
        leaves = [each.detach().requires_grad_(each.requires_grad) for each in inputs]
        forms: tuple[Region, Region] = (graphs, region)
        recorded, plain = (min(_seconds(form, leaves) for _ in range(REPEATS)) for form in forms)
        return recorded < plain


def _proves_itself(graphs: Graphs, exact: Exact) -> bool:
    """Whether the graphs, given what lies in their places, give what the region gave."""
    found = [*graphs.outputs, *(each for each in graphs.gradients if each is not None)]
    for each in found:
        each.fill_(torch.nan)
    graphs.forward()
    graphs.backward()
    wanted = [*exact.results, *(each for each in exact.gradients if each is not None)]
    return all(_same(a, b) for a, b in zip(found, wanted, strict=True))


def _same(found: Tensor, exact: Tensor) -> bool:
    worst = (found.float() - exact.float()).abs().max()
    return bool(worst <= DIFFERENCE * exact.float().abs().max())


def _gradients(
    made: Sequence[Tensor | None], leaves: Sequence[Tensor], seeds: Sequence[Tensor]
) -> list[Tensor | None]:
    """Those of the leaves that have one, given those of the results."""
    results = [each for each in made if each is not None and each.requires_grad]
    learning = [each for each in leaves if each.requires_grad]
    # a backward pass has the precision of its forward pass, and is not cast once more
    with torch.autocast(leaves[0].device.type, enabled=False):
        found = iter(torch.autograd.grad(results, learning, list(seeds), allow_unused=True))
    return [next(found) if each.requires_grad else None for each in leaves]


def _seconds(form: Region, leaves: Sequence[Tensor]) -> float:
    """Of both passes."""
    torch.cuda.synchronize()
    began = perf_counter()
    made = form(*leaves)
    _gradients(made, leaves, [each for each in made if each is not None and each.requires_grad])
    torch.cuda.synchronize()
    return perf_counter() - began


def _copies(values: list[Tensor]) -> list[Tensor]:
    fresh = [torch.empty_like(each) for each in values]
    torch._foreach_copy_(fresh, values)
    return fresh


@contextmanager
def _without_autocast_cache() -> Iterator[None]:
    """Meanwhile autocast keeps no casts: a graph must cast its own weights, each time.

    What is compiled casts by itself, and would be compiled anew.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
