"""The adapters that rows of a batch need, in slots of the device's memory; all others wait in the host's.

A row holds its adapter's slot as it holds pages. An adapter without rows stays until another one needs its
slot: the one that was used least lately makes room (Sheng et al. 2023, arXiv:2311.03285, section 6.1). Slot 0
is the base alone. Factors of lower rank are filled up with zeros, which changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from evaluators.compression.adapters import Adapter, Factors
from foundation.errors import SettingError
from foundation.text import size as shown_size
from foundation.wording import argument
from nas.serving.adapters.rows import AdaptedRows, Stack
from nas.serving.adapters.trial import mixable
from nas.serving.state_pool import MIB
from search_spaces.network.model import Model

BASE = 0


class AdapterPool:
    """Adapters by name, and as many slots as a memory of so many bytes holds, beside that of the base."""

    def __init__(self, model: Model, adapters: Mapping[str, Adapter], memory: int) -> None:
        """Raise `SettingError` where the memory does not hold one, or the network cannot be adapted so."""
        self.adapters = dict(adapters)
        self.device, self.loads = model.embedding.device, 0
        names = sorted({name for adapter in adapters.values() for name in adapter.factors})
        self.mixed = mixable(model, names)
        parameters = dict(model.named_parameters())
        largest = {name: self._largest(name) for name in names}
        each = sum(part.numel() for factors in largest.values() for part in factors if part is not None)
        self.slot_bytes = each * model.embedding.element_size()
        count = min(len(adapters), memory // self.slot_bytes) if names else 0
        if names and not count:
            raise SettingError(
                f"{argument('adapter_memory', memory // MIB)} MiB cannot hold an adapter, which is"
                f" {shown_size(self.slot_bytes)}"
            )
        self._by_name = {
            name: Stack(parameters[name], *(self._empty(part, 1 + count, model) for part in factors))  # type: ignore[arg-type]
            for name, factors in largest.items()
        }
        self._stacks = {id(stack.parameter): stack for stack in self._by_name.values()}
        for stack in self._by_name.values():
            if stack.scale is not None:
                stack.scale[BASE] = 1.0
        self._free = list(range(1, 1 + count))[::-1]
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._rows = [0] * (1 + count)

    def take(self, name: str | None) -> int | None:
        """A slot with this adapter, for one more row; None where rows of others hold all slots."""
        if name is None:
            return BASE
        if name not in self._slots:
            slot = self._vacated()
            if slot is None:
                return None
            self._load(self.adapters[name], slot)
            self._slots[name] = slot
        self._slots.move_to_end(name)
        self._rows[self._slots[name]] += 1
        return self._slots[name]

    def release(self, slot: int) -> None:
        """A row has ended."""
        if slot != BASE:
            self._rows[slot] -= 1

    def entered(self, slots: Sequence[int]) -> AbstractContextManager[object]:
        """A mode in which the rows of a batch have the adapters of these slots."""
        if not any(slots):
            return nullcontext()
        if len(set(slots)) == 1:
            return AdaptedRows(self._stacks, slots[0])
        return AdaptedRows(self._stacks, torch.tensor(slots, device=self.device))

    def batches(self, slots: Sequence[int]) -> list[list[int]]:
        """The indices of rows with these slots that can be decoded together."""
        if self.mixed:
            return [list(range(len(slots)))]
        return [[i for i, own in enumerate(slots) if own == slot] for slot in sorted(set(slots))]

    @property
    def held(self) -> int:
        """Bytes of the adapters in slots."""
        return len(self._slots) * self.slot_bytes

    def _vacated(self) -> int | None:
        if self._free:
            return self._free.pop()
        idle = next((name for name, slot in self._slots.items() if not self._rows[slot]), None)
        return None if idle is None else self._slots.pop(idle)

    def _load(self, adapter: Adapter, slot: int) -> None:
        self.loads += 1
        for name, stack in self._by_name.items():
            stack.down[slot], stack.up[slot] = 0.0, 0.0
            if stack.scale is not None:
                stack.scale[slot] = 1.0
            factors = adapter.factors.get(name)
            if factors is None:
                continue
            stack.down[slot, :, : factors.rank] = factors.down.to(self.device)
            stack.up[slot, :, :, : factors.rank] = factors.up.to(self.device)
            if factors.scale is not None and stack.scale is not None:
                stack.scale[slot] = factors.scale.to(self.device)

    def _largest(self, name: str) -> Factors:
        """Factors of this parameter that hold those of any adapter, on no device."""
        own = [adapter.factors[name] for adapter in self.adapters.values() if name in adapter.factors]
        most = max(own, key=lambda factors: factors.rank)
        scale = next((factors.scale for factors in own if factors.scale is not None), None)
        return most._replace(scale=scale)

    @staticmethod
    def _empty(part: torch.Tensor | None, slots: int, model: Model) -> torch.Tensor | None:
        return None if part is None else model.embedding.new_zeros(slots, *part.shape, requires_grad=False)
