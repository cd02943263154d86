"""The two ends of a network: how tokens become vectors, and vectors logits.

    x = s_E E[tokens]                      s_E = sqrt(D) unless said otherwise
    logits = c tanh(s W norm(x) / c)       W = E where the head is tied; without a cap, s W norm(x)

Large models such as Llama have heads that are not tied. The scale of the embedding is sqrt(D) in Gemma, 12 in
Granite and 1 in most others; that of logits is below 1 in Granite. Gemma 2 (arXiv:2408.00118) has the cap.

Shapes: D d_model, V vocab.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.language.absence import require_defined
from search_spaces.language.serialization import parts
from search_spaces.network.norms.base import check_number
from search_spaces.quantization.bits import Bits

PLAIN = Bits()


@parts.add
@dataclass(frozen=True, kw_only=True)
class Embedding:
    """How tokens are read: rows times `scale` (None: the square root of d_model), stored at `bits`."""

    scale: float | None = None
    bits: Bits = PLAIN

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        if self.scale is not None:
            check_number(self, "scale")
        _check_bits(self, self.bits)


@parts.add
@dataclass(frozen=True, kw_only=True)
class Head:
    """How tokens are predicted.

    Where it is `tied`, its matrix is the embedding, at the embedding's bits; otherwise it has one of its own,
    stored at `bits`. Logits are multiplied by `scale`, and bent into (-`softcap`, `softcap`) where given.
    """

    tied: bool = True
    scale: float = 1.0
    softcap: float | None = None
    bits: Bits = PLAIN

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        if not isinstance(self.tied, bool):
            raise IllegalArchitecture(f"Head: tied must be true or false, got {self.tied!r}")
        check_number(self, "scale")
        if self.softcap is not None:
            check_number(self, "softcap")
        _check_bits(self, self.bits)
        if self.tied and self.bits != PLAIN:
            raise IllegalArchitecture(
                f"Head: a tied head is stored as the embedding is (embedding.bits), so it has no {self.bits}"
            )

    def logits(self, normed: Tensor, matrix: Tensor) -> Tensor:
        """Logits [..., V] of what the last norm puts out [..., D], by a matrix [V, D]."""
        logits = F.linear(normed, matrix)
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()


AS_USUAL, TIED = Embedding(), Head()
"""Those of a network that names none: one value each, so that most comparisons are of identities."""


def check_ends(embedding: Embedding, head: Head) -> None:
    """Raise `IllegalArchitecture` for what are no such values, or values out of range."""
    for name, value, kind in (("embedding", embedding, Embedding), ("head", head, Head)):
        require_defined(value)
        if not isinstance(value, kind):
            raise IllegalArchitecture(f"{name} must be a value such as {kind.__name__}(), got {value!r}")
        value.check()


def _check_bits(end: Embedding | Head, bits: Bits) -> None:
    kind = type(end).__name__
    if not isinstance(bits, Bits):
        raise IllegalArchitecture(f"{kind}: bits must be a value such as Bits(weight=8), got {bits!r}")
    bits.check()
    if replace(bits, activation=16, state=16) != bits:
        raise IllegalArchitecture(
            f"{kind}: only weights of it have bits, so activation and state stay at 16, got {bits}"
        )
