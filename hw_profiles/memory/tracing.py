"""What a piece of a model allocates, moves and launches, found on the meta device without running it.

    with torch.device("meta"):
        traced(lambda: half(x, state, 0), scenario).peak_bytes

`Live` watches every operation that reaches the device and keeps the set of tensors that are alive. Some of
torch's operations are one kernel on a device and several on paper (`Kernels` puts that right), and some
kernels allocate room of their own that no tensor shows (`OWN_ROOM`). Both depend on the kind of device.

Where shapes depend on values that the meta device does not have, tracing raises `NotTraceable`.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foundation.errors import ProfileError
from search_spaces.ops.decay_attention import CHUNK
from search_spaces.scenario import Scenario

GRANULE = {"cpu": 1, "cuda": 512}
"""Allocations are whole multiples of so many bytes."""

MULTIPROCESSORS, RESIDENT_THREADS, WARP = 132, 2048, 32
"""Of an H100 or H200, threads that one of them holds, and threads that go in step."""

REDUCING_THREADS, LEAST_VALUES, MOST_VALUES = 512, 16, 256
"""Of a group that sums, and how many values PyTorch wants each of them to add."""

VIEWS = frozenset(
    (
        *(
            "view",
            "_unsafe_view",
            "reshape",
            "_reshape_alias",
            "t",
            "transpose",
            "permute",
            "expand",
            "alias",
        ),
        *(
            "unsqueeze",
            "squeeze",
            "select",
            "slice",
            "split",
            "split_with_sizes",
            "unbind",
            "unfold",
            "detach",
        ),
        *("as_strided", "diagonal", "real", "imag", "view_as_real", "view_as_complex", "lift_fresh"),
        *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"),
    )
)
"""Operations that launch nothing."""

PRODUCTS = frozenset(
    ("mm", "bmm", "addmm", "baddbmm", "convolution", "_grouped_mm", "attention", "_fft_r2c", "_fft_c2r")
)
"""Operations that a compiler does not fuse with their neighbours."""


class NotTraceable(ProfileError):
    """The shapes of this computation depend on values, so it cannot be traced without running it."""


@dataclass(frozen=True)
class Trace:
    """Bytes and operations of one computation.

    `peak_bytes` were allocated at most beyond what was there before, `kept_bytes` still are at the end.
    `moved_bytes` were read and written by all operations, `product_bytes` by the products among them;
    `launches` are operations that do something.
    """

    peak_bytes: int
    kept_bytes: int
    moved_bytes: int
    product_bytes: int
    launches: int


class Live(TorchDispatchMode):
    """Keeps count of the tensors that are alive."""

    def __init__(self, kind: str, threads: int = 1) -> None:
        super().__init__()
        self.kind, self.threads, self.granule = kind, threads, GRANULE[kind]
        self.live = self.peak = self.moved = self.product = self.launches = 0
        self._sizes: dict[int, tuple[weakref.ref[Any], int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and count what it made."""
        given = _tensors((args, kwargs))
        for tensor in given:
            self._meet(tensor, old=True)
        out = func(*args, **(kwargs or {}))
        made = _tensors(out)
        for tensor in made:
            self._meet(tensor)
        name = func.overloadpacket.__name__
        rooms = OWN_ROOM | OWN_ROOM_ON.get(self.kind, {})
        self.note(name, given, made, rooms.get(name, _none)(args, self.threads))
        return out

    def note(self, name: str, given: list[Tensor], made: list[Tensor], room: int = 0) -> None:
        """An operation that read `given`, wrote `made` and needed `room` bytes meanwhile."""
        self.peak = max(self.peak, self.live + self.round(room))
        if name in VIEWS:
            return
        moved = sum(map(_touched, given)) + sum(map(_touched, made))
        self.launches += 1
        self.moved += moved
        self.product += moved if name in PRODUCTS else 0

    def round(self, count: int) -> int:
        """Bytes as the device allocates them."""
        return -(-count // self.granule) * self.granule

    def _meet(self, tensor: Tensor, old: bool = False) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        size = 0 if old else self.round(storage.nbytes())
        self._sizes[key] = weakref.ref(storage, lambda _: self._forget(key)), size
        self.live += size

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key, (None, 0))[1]


class Kernels(TorchFunctionMode):
    """On the meta device, what torch computes in one kernel on a device of this kind is one kernel here."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self.live, self.on_gpu = live, live.kind == "cuda"

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Attention and norms by hand; everything else as it is."""
        kwargs = kwargs or {}
        if func == IS_CUDA:
            return self.on_gpu
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            return self._attention(*args, **kwargs)
        if func is F.rms_norm and args[0].is_meta and self.on_gpu:
            return self._rms_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _rms_norm(
        self, x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None
    ) -> Tensor:
        if weight is not None and weight.dtype != x.dtype:
            return F.rms_norm(x, shape, weight, eps)
        out, inverse = torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=_exact(x))
        self.live.note("rms_norm", [x], [out, inverse])
        return out

    def _attention(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **how: Any
    ) -> Tensor:
        if not self._fused(q, k, attn_mask):
            return F.scaled_dot_product_attention(q, k, v, attn_mask, **how)
        batch, heads, count, _ = q.shape
        mask = [] if attn_mask is None else [self._mask(attn_mask, q)]
        out = q.new_empty(batch, count, heads, v.shape[-1]).transpose(1, 2)
        sums = q.new_empty(batch, heads, count, dtype=_exact(q))
        room = 0 if self.on_gpu else _cpu_attention_room((q, k, v), self.live.threads)
        self.live.note("attention", [q, k, v, *mask], [out, sums], room)
        return out

    def _fused(self, q: Tensor, k: Tensor, mask: Tensor | None) -> bool:
        """Whether torch has one kernel for this; in all other cases it computes all scores."""
        if q.dim() != 4:
            return False
        if not self.on_gpu:
            return True
        half = q.dtype in (torch.bfloat16, torch.float16)
        if half:  # flash attention, or with a mask the memory-efficient kernel, which takes groups as well
            return q.shape[-1] % (8 if mask is None else 4) == 0
        return q.shape[1] == k.shape[1] and q.dtype == torch.float32 and q.shape[-1] % 4 == 0

    def _mask(self, mask: Tensor, q: Tensor) -> Tensor:
        """What a kernel reads of a mask: numbers to add."""
        if mask.dtype != torch.bool:
            return mask
        added = torch.where(mask, 0.0, float("-inf")).to(q.dtype)
        wide = -mask.shape[-1] % 16
        return F.pad(added, (0, wide)) if wide and self.on_gpu else added


IS_CUDA = vars(torch._C.TensorBase)["is_cuda"].__get__


@contextmanager
def watched(scenario: Scenario) -> Iterator[Live]:
    """Inside, everything is counted as on the scenario's device."""
    live = Live(kind_of(scenario), scenario.threads)
    with torch.no_grad(), Kernels(live), live:
        yield live


def traced(run: Callable[[], object], scenario: Scenario) -> Trace:
    """The trace of a call on meta tensors, whose results are held until it ends.

    Raises:
        NotTraceable: it asks for values.
    """
    try:
        with watched(scenario) as live:
            held = run()
            kept = live.live
    except (NotImplementedError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise NotTraceable(f"shapes depend on values here: {first}") from error
    del held
    return Trace(live.peak, kept, live.moved, live.product, live.launches)


def kind_of(scenario: Scenario) -> str:
    """The kind of the scenario's device, there or not: cpu or cuda.

    Raises:
        ProfileError: it is of another kind.
    """
    kind = scenario.device.partition(":")[0]
    if kind not in GRANULE:
        raise ProfileError(f"nothing is known of how {kind} devices allocate; known are {', '.join(GRANULE)}")
    return kind


def _cpu_attention_room(args: tuple[Any, ...], threads: int) -> int:
    """Scores and sums of one block of queries and one of keys, for each thread (float32 at least)."""
    q, k, v = args[:3]
    count, seen = q.shape[2], k.shape[2]
    rows = min(256 if count >= 768 else 64 if count >= 192 else 32, count)
    columns, exact = min(512, seen), _exact(q)
    each = rows * (columns + 2 + v.shape[-1]) * exact.itemsize
    reduced = 0 if q.dtype == exact else rows * columns * q.itemsize
    return int(threads * (each + reduced))


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _dense(tensor: Any) -> int:
    """Bytes of a contiguous copy, where one is needed."""
    return 0 if not isinstance(tensor, Tensor) or tensor.is_contiguous() else tensor.nbytes


def _convolution_room(args: tuple[Any, ...], threads: int) -> int:
    return _dense(args[0]) + _dense(args[1])


def _inverse_fft_room(args: tuple[Any, ...], threads: int) -> int:
    return int(args[0].nbytes)  # the kernel destroys its input, and takes a copy of it


def _inverse_fft_room_on_cuda(args: tuple[Any, ...], threads: int) -> int:
    """The copy, as much again for cuFFT to work in, and its result once more where no power of two is long.

    Found on an H200 (torch 2.11): exact for transforms of 2,048 and of 1,152.
    """
    spectrum, dims, _, size = args
    copies = 2 * int(spectrum.nbytes)
    if size & (size - 1) == 0:
        return copies
    return copies + int(spectrum.nbytes) // spectrum.shape[dims[-1]] * size // 2


def _sum_room_on_cuda(args: tuple[Any, ...], threads: int) -> int:
    """Partial sums where groups of threads share outputs, and a semaphore for each group.

    As PyTorch's reductions choose it: for what lies side by side in memory among the outputs, it holds a
    partial sum of every output for every one of them. Only sums over axes that are not the fastest have more
    than a few such numbers.
    """
    x, axes = args[0], args[1] if len(args) > 1 else None
    summed = {axis % x.dim() for axis in ([axes] if isinstance(axes, int) else axes or range(x.dim()))}
    kept = [axis for axis in range(x.dim()) if axis not in summed and x.shape[axis] > 1]
    count = math.prod(x.shape[axis] for axis in summed)
    if not kept or count < 2:
        return 0
    fastest = min(kept, key=x.stride)
    if x.stride(fastest) != 1:
        return 0
    others = [x.stride(axis) for axis in range(x.dim()) if axis != fastest and x.shape[axis] > 1]
    vector = next(v for v in (4, 2, 1) if all(part % v == 0 for part in (x.shape[fastest], *others)))
    outputs, most = math.prod(x.shape[axis] for axis in kept), REDUCING_THREADS // vector
    across, down = (1 << (min(n, most).bit_length() - 1) for n in (outputs // vector, count))
    height = min(down, most // min(across, WARP))
    width = min(across, most // height)
    values = -(-count // height)  # of a thread, where threads of a group share an output
    if height == 1 or values < MOST_VALUES:
        return 0
    groups = -(-outputs // vector // width)
    wanted = -(-(MULTIPROCESSORS * (RESIDENT_THREADS // (width * height))) // groups)
    shares = max(min(wanted, -(-values // LEAST_VALUES)), -(-values // MOST_VALUES))
    partial = _exact(x).itemsize * outputs * shares * width * vector
    return partial + GRANULE["cuda"] if shares > 1 else 0


def _none(args: tuple[Any, ...], threads: int) -> int:
    return 0


def _states_room(args: tuple[Any, ...], threads: int) -> int:
    """States before all chunks, which our kernels of linear attention write and read."""
    q, _, v = args[:3]
    chunks = -(-v.shape[1] // CHUNK)
    return int(v.shape[0] * v.shape[2] * chunks * q.shape[-1] * v.shape[-1] * v.itemsize)


OWN_ROOM: dict[str, Callable[[tuple[Any, ...], int], int]] = {
    "convolution": _convolution_room,
    "_fft_c2r": _inverse_fft_room,
    "_scaled_dot_product_flash_attention_for_cpu": _cpu_attention_room,
}
"""Bytes that a kernel allocates for itself while it runs, from its arguments and the CPU threads."""

OWN_ROOM_ON: dict[str, dict[str, Callable[[tuple[Any, ...], int], int]]] = {
    "cuda": {
        "_fft_c2r": _inverse_fft_room_on_cuda,
        "decay_attention": _states_room,
        "channel_decay": _states_room,
        "sum": _sum_room_on_cuda,
        "mean": _sum_room_on_cuda,
    }
}
"""The same where a kind of device differs."""


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _touched(tensor: Tensor) -> int:
    """Bytes that are really there: an expanded axis is read from cache."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())
