"""The shell of a network, what stands around its layers: embedding, last norm, and the tied output head."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.blocks.base import Cost
from search_spaces.parameter_axes import Layout
from search_spaces.quantization.bits import WeightFormat, weight_bytes
from search_spaces.scenario import Scenario


@dataclass(frozen=True)
class Shell:
    """A shell over `vocab` tokens, `d_model` wide."""

    vocab: int
    d_model: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        return {"embedding": (self.vocab, self.d_model), "norm": (self.d_model,)}

    @property
    def stored_bytes(self) -> int:
        """Bytes of the parameters as an exported model stores them."""
        return sum(weight_bytes(shape, WeightFormat()) for shape in self.shapes.values())

    @staticmethod
    def layout() -> Layout:
        """The axes of its parameters."""
        return Layout({"embedding": ". D", "norm": "D"}, "D")

    def cost(self, scenario: Scenario) -> Cost:
        """Parameters and FLOPs on paper."""
        flops = self.logits_flops(scenario)
        return Cost((self.vocab + 1) * self.d_model, scenario.prompt * flops, flops)

    def logits_flops(self, scenario: Scenario) -> int:
        """FLOPs of the logits of one token of each sequence."""
        return 2 * scenario.batch * self.vocab * self.d_model
