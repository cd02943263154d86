"""Compilation by region: every distinct sublayer and head is compiled once, for all layers and all networks.

Two sublayers of equal block, width and norm differ in their weights only. So the weights are inputs of a
region, and what was compiled for one serves every layer, every network and every subnet of a supernet.
Slices may come in as they lie, but each way to lie takes a region of its own. Weights come rounded to the
bits of their layer: a region does not depend on these, and is exact to the bit where inductor, which keeps
what it fuses in float32, would skip a rounding.

What cannot be compiled runs as it is, and so do regions that come when the seconds for compiling are spent;
both are said once. What was compiled is kept in files for the next process.

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from time import monotonic
from types import FunctionType
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.tasks.base import IGNORED
from evaluators.training.any_width import Axes
from evaluators.training.chunked_loss import chunked_loss, rows_at_once
from evaluators.training.execution import EAGER, INDUCTOR
from evaluators.training.half_layer import HalfLayer, Run, part_of, weights_of
from evaluators.training.recorded import Recorder
from foundation.cache import cache_folder
from search_spaces.blocks.base import Mixed
from search_spaces.network.layer import Parts
from search_spaces.network.residual import Embedded, Residual
from search_spaces.network.shell import Shell, ShellModule
from search_spaces.ops import assembler, dispatch

LEAST_SECONDS = 2.0
"""What compiling a region takes at least, without files from before: with less time left, none is begun."""

WHILE_COMPILING: dict[str, dict[str, Any]] = {
    # a region has no buckets of gradients, and is one graph also inside of a replica
    "torch._dynamo.config": {"optimize_ddp": False},
    "torch._functorch.config": {"autograd_cache_allow_custom_autograd_functions": True},
    "torch._inductor.config": {
        "unsafe_marked_cacheable_functions": {
            "torch.amp.autocast_mode._enter_autocast": torch.__version__,
            "torch.amp.autocast_mode._exit_autocast": torch.__version__,
        }
    },
}
"""Settings of the compiler while it compiles regions, by the module that holds them."""

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

Key: TypeAlias = tuple[Any, ...]

_log = logging.getLogger(__name__)
_numbers = count()
_compiled: dict[Key, Run | None] = {}
"""The regions of this process; None: cannot be compiled."""

_said: set[float] = set()
"""The limits of which it was said that they were reached."""


@dataclass
class Regions(Parts):
    """Sublayers and heads, compiled by a `backend` of `torch.compile` when they are first met.

    Compiling ends when it has taken this training so many `seconds`; `spent` counts them. With a `recorder`
    sublayers that are met again and again become CUDA graphs, compiled or not. What can be is compiled once
    for all `widths` of a space, where there are several. Processes that compute the same regions together
    have `agreed` on what they compile: it gives what all of them wish.
    """

    backend: str = INDUCTOR
    seconds: float = 120.0
    spent: float = 0.0
    recorder: Recorder | None = None
    widths: tuple[int, ...] = ()
    agreed: Callable[[bool], bool] = bool
    _left_out: set[Key] = field(default_factory=set)

    @property
    def compiles(self) -> bool:
        """Whether anything is compiled."""
        return self.backend != EAGER

    @property
    def asks_whole(self) -> bool:
        """Whether weights should lie in one piece, since every way to lie makes a region of its own."""
        return self.compiles or self.recorder is not None

    def sublayer(
        self, sublayer: Residual, x: Tensor, embedded: Embedded | None = None, onto: Tensor | None = None
    ) -> Mixed:
        """See `Parts`; figures of the block are left out."""
        reader = None if embedded is None else embedded.reader
        half = HalfLayer(
            sublayer.block,
            sublayer.bits,
            sublayer.norm_rule,
            reader is not None,
            onto is not None,
            part_of(sublayer),
        )
        given = [x, *([] if embedded is None else [embedded.tokens]), *([] if onto is None else [onto])]
        inputs = (*given, *map(_value, weights_of(sublayer, reader)))
        key = (*half.about, *self._circumstances(inputs))
        recorded: Run | None = None if self.recorder is None else self.recorder.known(key)
        with half.traced():
            run = recorded or self._ready(key, half, inputs)
        if run is None:
            return super().sublayer(sublayer, x, embedded, onto)
        y, loss = run(*inputs)
        return Mixed(y, None, loss)

    def head(self, shell: ShellModule, x: Tensor) -> Tensor:
        """See `Parts`."""
        return self._head(shell, x, None)

    def text_loss(self, network: Callable[[Parts], Tensor], targets: Tensor, *, logits: bool) -> Tensor:
        """The mean cross-entropy over targets [B, T], in nats, of a network that is called with these parts.

        It is part of the head, which then keeps no logits in float32, unless something else in the network
        needs `logits`: an exit.
        """
        if logits:
            return token_loss(network(self), targets)
        return network(_Judging(self, targets))

    def _head(self, shell: ShellModule, x: Tensor, targets: Tensor | None) -> Tensor:
        about = shell.shell
        weights = [_value(getattr(shell, name)) for name in about.predicts]
        if targets is not None and (rows := rows_at_once(targets.numel(), about.vocab)) < targets.numel():
            return chunked_loss(partial(self._summed_loss, about), rows, x, targets, weights)
        inputs = (x, *(() if targets is None else (targets,)), *weights)
        key = (about, targets is not None)
        run = self._run_of_head(key, partial(_head, about, targets is not None), inputs, len(weights))
        if run is not None:
            made: Tensor = run(*inputs)
            return made
        logits = shell.logits(x)
        return logits if targets is None else token_loss(logits, targets)

    def _summed_loss(self, about: Shell, *inputs: Tensor) -> Tensor:
        """The nats of x [B, T, D] over targets [B, T], all together, given the weights of a head."""
        make = partial(_summed_head, about)
        run = self._run_of_head((about, "a part"), make, inputs, len(about.predicts))
        nats: Tensor = (run or make())(*inputs)
        return nats

    def _run_of_head(
        self, about: Key, make: Callable[[], Run], inputs: Sequence[Tensor], weights: int
    ) -> Run | None:
        """The compiled head, for all widths where it can be: only its weights know its width."""
        key = (*about, *self._circumstances(inputs))
        if key not in _compiled and self._serves_several(inputs):
            among = [number == 0 or number >= len(inputs) - weights for number in range(len(inputs))]
            axes = tuple((each.ndim - 1,) if open else () for each, open in zip(inputs, among, strict=True))
            for_all = (replace(about[0], d_model=0), *about[1:], *self._circumstances(inputs, axes))
            if (run := self._run(for_all, make, inputs, axes)) is not None:
                _compiled[key] = run
        return self._run(key, make, inputs)

    def _serves_several(self, inputs: Sequence[Tensor]) -> bool:
        """Whether a region with these inputs may be for all widths at once."""
        several = self.compiles and len(self.widths) > 1 and inputs[0].shape[-1] in self.widths
        return several and all(each.is_contiguous() and each.storage_offset() == 0 for each in inputs)

    def _circumstances(self, inputs: Sequence[Tensor], axes: Axes = ()) -> Key:
        """All else that a compiled region is made for; sizes of open `axes` are not."""
        device = inputs[0].device
        low = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        every = zip(inputs, axes or ((),) * len(inputs), strict=True)
        about = tuple((*_layout(i, open), i.dtype, i.requires_grad) for i, open in every)
        products = torch.backends.cuda.matmul.allow_tf32
        return (self.backend, device, low, products, torch.is_grad_enabled(), about)

    def _run(
        self, key: Key, make: Callable[[], Run], inputs: Sequence[Tensor], axes: Axes = ()
    ) -> Run | None:
        """The compiled region, for any sizes of its open axes; None where it runs as it is."""
        if not self.compiles:
            return None
        if key in _compiled:
            return _compiled[key]
        if key in self._left_out:
            return None
        if not self.agreed(self.spent + LEAST_SECONDS <= self.seconds):
            self._leave_out(key)
            return None
        began = monotonic()
        made = self._made(key, make, inputs, axes)
        run = _compiled[key] = made if self.agreed(made is not None) else None
        self.spent += monotonic() - began
        _log.info("compiled %s in %.1f s, all in %.0f s", _name(key), monotonic() - began, self.spent)
        return run

    def _ready(self, key: Key, half: HalfLayer, inputs: Sequence[Tensor]) -> Run | None:
        """The region, compiled or not, and as graphs once it was met a few times; None: as it is."""
        make = partial(half.function, inputs[0].shape[-1])
        if key not in _compiled and (run := self._compiled_for_all(half, make, inputs)) is not None:
            _compiled[key] = run
        run = self._run(key, make, inputs)
        if self.recorder is None or not self.recorder.due(key):
            return run
        compiled = run is not None
        return self.recorder.record(key, run or make(), inputs, _name(key), compiled=compiled) or run

    def _compiled_for_all(
        self, half: HalfLayer, make: Callable[[], Run], inputs: Sequence[Tensor]
    ) -> Run | None:
        """The region for all widths; None where each has to be compiled by itself, or nothing is."""
        axes = half.axes(self.widths) if self._serves_several(inputs) else None
        if axes is None:
            return None
        return self._run((*half.about, self.widths, *self._circumstances(inputs, axes)), make, inputs, axes)

    def _leave_out(self, key: Key) -> None:
        self._left_out.add(key)
        if self.seconds in _said:
            return
        _said.add(self.seconds)
        _log.warning(
            "WARNING: compiling took %.1f s, and may take %.1f s of this training (compile_seconds): %s and"
            " what else was not compiled run as they are",
            self.spent,
            self.seconds,
            _name(key),
        )

    def _made(self, key: Key, make: Callable[[], Run], inputs: Sequence[Tensor], axes: Axes) -> Run | None:
        """A region, compiled and run forwards and backwards on copies of its inputs."""
        function, copies = make(), [_leaf(each) for each in inputs]
        assembler.prepare(copies[0].device)
        with torch.no_grad():
            function(*copies)  # kernels that were not used yet prove themselves
        for copy, open in zip(copies, axes, strict=False):
            for axis in open:
                torch._dynamo.mark_dynamic(copy, axis)
        try:
            with dispatch.kernels_compiled(), _kept_in_files(), _keeping_its_own():
                dynamic = None if axes else False  # None: what is marked
                run = torch.compile(
                    _own_code(function), fullgraph=True, dynamic=dynamic, backend=self.backend
                )
                _pass(run, copies)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            why = " ".join(str(error).split())[:200]
            instead = "for all widths at once" if axes else "and runs as it is"
            said = (_name(key), instead, type(error).__name__, why)
            _log.warning("WARNING: %s cannot be compiled, %s: %s: %s", *said)
            return None
        return run


class _Judging(Parts):
    """Regions whose head is a loss."""

    def __init__(self, regions: Regions, targets: Tensor) -> None:
        self.regions, self.targets = regions, targets

    def sublayer(
        self, sublayer: Residual, x: Tensor, embedded: Embedded | None = None, onto: Tensor | None = None
    ) -> Mixed:
        return self.regions.sublayer(sublayer, x, embedded, onto)

    def head(self, shell: ShellModule, x: Tensor) -> Tensor:
        return self.regions._head(shell, x, self.targets)


def token_loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats of logits [B, T, V] over the targets [B, T] that are judged, in float32."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(
        logits.to(exact).flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def _layout(values: Tensor, open: tuple[int, ...]) -> Key:
    """Shape and strides; of values that lie in one piece with open axes, the shape without these."""
    if not open:
        return values.shape, values.stride()
    return tuple(None if axis in open else size for axis, size in enumerate(values.shape)), None


def _head(shell: Shell, judges: bool) -> Run:
    """The head of a shell, or its loss, as a function of x [B, T, D], targets [B, T] and its weights."""

    def region(x: Tensor, *inputs: Tensor) -> Tensor:
        targets, weights = (inputs[0], inputs[1:]) if judges else (None, inputs)
        logits = shell.logits(x, dict(zip(shell.predicts, weights, strict=True)))
        return logits if targets is None else token_loss(logits, targets)

    return region


def _summed_head(shell: Shell) -> Run:
    """The summed loss of a head, as a function of x [B, T, D], targets [B, T] and its weights."""

    def region(x: Tensor, targets: Tensor, *weights: Tensor) -> Tensor:
        logits = shell.logits(x, dict(zip(shell.predicts, weights, strict=True)))
        return token_loss(logits, targets, reduction="sum")

    return region


def _own_code(function: Run) -> Run:
    """The same function with a code object of its own: the compiler keeps what it compiled with the code."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_name=f"region_{next(_numbers)}")
    return FunctionType(code, function.__globals__, code.co_name, None, function.__closure__)


def _leaf(values: Tensor) -> Tensor:
    """The same values, as an input of a graph of their own."""
    return values.detach().requires_grad_(values.requires_grad)


def _value(weight: Tensor) -> Tensor:
    """What a region reads: a plain tensor, for which it is compiled, also of a parameter."""
    return weight.view_as(weight) if isinstance(weight, nn.Parameter) else weight


def _keeping_its_own() -> AbstractContextManager[Any]:
    """Whoever recomputes a layer watches what autograd keeps of it; what compiling keeps is none of that."""
    return torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)


def _pass(run: Run, inputs: Sequence[Tensor]) -> None:
    """Forwards and, where anything learns, backwards, so that both are compiled."""
    made = run(*inputs)
    outputs = [made] if isinstance(made, Tensor) else [each for each in made if each is not None]
    learning = [each for each in inputs if each.requires_grad]
    outputs = [each for each in outputs if each.requires_grad]
    if learning and outputs:
        ones = [torch.ones_like(each) for each in outputs]
        torch.autograd.grad(outputs, learning, ones, allow_unused=True)


def files_of_compiler() -> Path:
    """Where the compiler keeps what it makes: in the cache of this user, unless they named a place.

    The compiler itself names a folder for temporary files, which is no place to keep them.
    """
    usual: Any = importlib.import_module("torch._inductor.runtime.cache_dir_utils")
    if os.environ.get(CACHE_VARIABLE, usual.default_cache_dir()) == usual.default_cache_dir():
        os.environ[CACHE_VARIABLE] = str(cache_folder() / "compiled")
    return Path(os.environ[CACHE_VARIABLE])


@contextmanager
def _kept_in_files() -> Iterator[None]:
    """Meanwhile the compiler keeps what it makes in files.

    Gradients written by hand (`torch.autograd.Function`) and stretches without autocast are traced like
    everything else, and so may be kept, too.
    """
    files_of_compiler()
    with ExitStack() as changed:
        for place, settings in WHILE_COMPILING.items():
            config: Any = importlib.import_module(place)
            # a torch without such a setting keeps less, or all
            known = {name: value for name, value in settings.items() if hasattr(config, name)}
            changed.enter_context(config.patch(known))
        yield


def _name(key: Key) -> str:
    """What a message calls a region."""
    return "the head" if isinstance(key[0], Shell) else str(key[0])
