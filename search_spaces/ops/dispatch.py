"""Which form of a primitive runs: our Triton kernel where it has proved itself on this device, else PyTorch.

A primitive in `search_spaces.ops` names its kernel, a module of `search_spaces.ops.kernels`, and asks `runs`
with its inputs. The first time on a device, and for every tile where the kernel keeps tiles of its inputs on
the chip, it is compared with the plain form. One that is off, does not compile, or needs more memory than the
chip has is not used, and `forms` says why. `NAS_KERNELS=plain` in the environment switches all kernels off;
with `NAS_KERNELS=untuned` they run, but are not tuned (`search_spaces.ops.kernels.tuning`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from foundation.errors import SettingError
from search_spaces.ops import assembler
from search_spaces.ops.tracing import constant

FOLDER = f"{__package__}.kernels"
VARIABLE = "NAS_KERNELS"
PLAIN, UNTUNED = "plain", "untuned"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CAPABILITY = (8, 0)
"""The oldest compute capability whose tensor cores take the kernels' dtypes."""

_primitives: dict[str, str] = {}
_multiplying: set[str] = set()
"""Kernels that multiply tiles of matrices on tensor cores, for which an assembler must be right."""

_verdicts: dict[tuple[Any, ...], str] = {}
"""Why a kernel is not used, by its module, the device's index and the tile."""

_loaded: dict[str, ModuleType] = {}
_compiled_too: list[bool] = []
"""Not empty while `kernels_compiled`."""


Tile: TypeAlias = tuple[torch.dtype | int, ...]


@dataclass(frozen=True)
class Form:
    """The form of a primitive on a device: `kernel` says whether it is ours, `reason` why not."""

    primitive: str
    kernel: bool
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.primitive}: {'our kernel' if self.kernel else f'plain PyTorch ({self.reason})'}"


def register(primitive: str, module: str, *, multiplies: bool = False) -> str:
    """Name the kernel of a primitive: `search_spaces.ops.kernels.MODULE`; returns the module's name.

    `multiplies` says that it multiplies matrices of 64 rows and more, which Hopper does asynchronously.
    """
    _primitives[primitive] = module
    if multiplies:
        _multiplying.add(module)
    return module


def runs(module: str, *inputs: Tensor, tile: Tile = ()) -> bool:
    """Whether the kernel of this module computes these inputs: floating tensors of one CUDA device.

    `tile` is what the kernel's own `errors` is given: the dtype and the sizes that decide how it is compiled.

    `torch.compile` and `torch.export` get the plain forms, which they fuse with what stands around them,
    except while `kernels_compiled`.
    """
    first = inputs[0]
    if not first.is_cuda or any(part.dtype not in DTYPES for part in inputs) or first.numel() == 0:
        return False
    if torch.compiler.is_compiling():
        return torch.compiler.is_dynamo_compiling() and _proved(module, first.device.index or 0, *tile)
    if first.device.type == "meta":  # traced for a CUDA device that may not be here
        return _unavailable() == ""
    if first.device.index != torch.cuda.current_device():
        torch.cuda.set_device(first.device)  # Triton launches there, wherever its inputs lie
    return _verdict(module, first.device.index or 0, *tile) == ""


def on_tensor_cores(*factors: Tensor) -> bool:
    """Whether tensor cores multiply these factors: they share a dtype that is not exact float32.

    Kernels of matrix products leave exact float32 to PyTorch: Triton unrolls such products into single
    multiply-adds, takes minutes to compile them, and needs more shared memory than there is.
    """
    dtype = factors[0].dtype
    exact = dtype is torch.float32 and not torch.backends.cuda.matmul.allow_tf32
    return not exact and all(factor.dtype is dtype for factor in factors)


@contextmanager
def kernels_compiled() -> Iterator[None]:
    """Meanwhile code that is compiled calls the kernels that have proved themselves before, as they are."""
    _compiled_too.append(True)
    try:
        yield
    finally:
        _compiled_too.pop()


def load(module: str) -> ModuleType:
    """The module of a kernel that `runs`."""
    # a compiler follows a look-up, and no import
    return _loaded[module] if module in _loaded else _imported(module)


def _imported(module: str) -> ModuleType:
    _loaded[module] = importlib.import_module(f"{FOLDER}.{module}")
    return _loaded[module]


@constant
def _proved(module: str, index: int, *tile: torch.dtype | int) -> bool:
    """Whether code that is compiled calls this kernel."""
    return bool(_compiled_too) and _verdicts.get((module, index, *tile)) == ""


def forms(device: str | torch.device = "cuda") -> list[Form]:
    """Per primitive, which form runs on a device and why; kernels that were not used yet prove themselves.

    Raises:
        SettingError: `NAS_KERNELS` has a value that means nothing.
    """
    device = torch.device(device)
    _unavailable()
    for about in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        importlib.import_module(about.name)
    found = []
    for primitive, module in sorted(_primitives.items()):
        reason = "kernels are for CUDA" if device.type != "cuda" else _verdict(module, device.index or 0)
        found.append(Form(primitive, not reason, reason))
    return found


def forms_used(device: str | torch.device) -> list[Form]:
    """The same for what was asked in this process: our kernel where it ran for any tile."""
    device, found = torch.device(device), list[Form]()
    if device.type != "cuda":
        return found
    index = device.index or 0
    for primitive, module in sorted(_primitives.items()):
        reasons = [why for (name, at, *_), why in _verdicts.items() if (name, at) == (module, index)]
        if reasons:
            found.append(Form(primitive, "" in reasons, "" if "" in reasons else reasons[0]))
    return found


@cache
def kernels_here(index: int) -> str:
    """What decides, beside a device and PyTorch, which forms run there: Triton, its assembler, our source."""
    assembler.wrong_on(index)  # puts the right one into effect
    folder = Path(__file__).parent / FOLDER.rpartition(".")[2]
    source = chr(0).join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
    version = f"{importlib.import_module('triton').__version__} with ptxas {assembler.in_effect()}"
    return f"Triton {version}, source {hashlib.sha256(source.encode()).hexdigest()[:16]}"


def kernels_on(device: str) -> str:
    """The same for a device of this machine; "plain" and why, where no kernel of ours is used there."""
    if torch.device(device).type != "cuda":
        return "plain: kernels are for CUDA"
    reason = _unavailable() or ("" if torch.cuda.is_available() else "there is no GPU here")
    return f"plain: {reason}" if reason else kernels_here(torch.device(device).index or 0)


def _verdict(module: str, index: int, *tile: torch.dtype | int) -> str:
    """Why a kernel is not used on a CUDA device; empty where it is. Decided once per process and device."""
    if unavailable := _unavailable():
        return unavailable
    key = (module, index, *tile)
    if key in _verdicts:
        return _verdicts[key]
    if torch.cuda.is_current_stream_capturing():
        return "a CUDA graph is being captured before the first use"
    _verdicts[key] = verdict = _decided(module, index, tile)
    return verdict


def _unavailable() -> str:
    """Why no kernel is used by this process, whatever the device.

    Raises:
        SettingError: `NAS_KERNELS` has a value that means nothing.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked == PLAIN:
        return f"switched off by {VARIABLE}={PLAIN}"
    if asked not in ("", UNTUNED):
        raise SettingError(f"{VARIABLE} is {asked!r}; it may be {PLAIN} or {UNTUNED}, or not set")
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return "" if importlib.util.find_spec(FOLDER) is not None else "this copy of the source has no kernels"


def _decided(module: str, index: int, tile: Tile) -> str:
    capability = torch.cuda.get_device_capability(index)
    if capability < CAPABILITY:
        return f"the device has compute capability {capability[0]}.{capability[1]}, older than 8.0"
    if module in _multiplying and (wrong := assembler.wrong_on(index)):
        return wrong
    return _proof(load(module), index, tile)


def _proof(kernel: ModuleType, index: int, tile: Tile) -> str:
    """Run the kernel's own comparison with its plain form: why it fails, or nothing."""
    from triton.errors import TritonError

    with torch.cuda.device(index), torch.enable_grad():
        try:
            errors: dict[str, float] = kernel.errors(torch.device("cuda", index), *tile)
        except (TritonError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            return f"it does not compile here: {type(error).__name__}: {str(error)[:200]}"
    name, worst = max(errors.items(), key=lambda item: item[1])
    return "" if worst <= kernel.TOLERANCE else f"it differs from the plain form by {worst:.1e} in {name}"
