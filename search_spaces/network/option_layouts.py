"""The layouts of what has parameters beside the blocks: options of a layer, embedding and last norm."""

from __future__ import annotations

from torch import nn

from search_spaces.network.adaptive_depth import Exit, Router
from search_spaces.network.embedding_reader import EmbeddingReader
from search_spaces.parameter_axes import Layout

OPTION_LAYOUTS: dict[type[nn.Module], Layout] = {
    Router: Layout({"weight": "D"}, "D"),
    Exit: Layout({"norm": "D", "head": ". D"}, "D"),
    EmbeddingReader: Layout({"norm": "D", "weight": "D . D"}, "D"),
}
"""The options of a layer that have parameters."""

OUTER = Layout({"embedding": ". D", "norm": "D"}, "D")
"""What stands around the layers."""
