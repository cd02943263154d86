"""A mixture of all architectures of a space, over the shared weights of its supernet.

Every gene has a distribution over its options, and the network is mixed accordingly (as DARTS does it for
kinds of operations, Liu et al. 2019, arXiv:1806.09055; FBNetV2 for sizes, Wan et al. 2020, arXiv:2004.05565):

* kinds of blocks         the sum of their outputs, weighted;
* sizes of a block        one pass at the largest size, its parameters under a soft mask, where zeros imitate
                          the smaller block; otherwise the weighted sum of outputs (`carriers`);
* widths (`d_model`)      the same masks; norms are weighted sums of each norm at each width;
* bits of weights         the weighted sum of rounded weights; of activations, the weighted sum of outputs;
* depths                  a gate on every layer: x + p (layer(x) - x);
* layers, routers         the weighted sum of what the alternative layers put out.

Where all weight is on one architecture the mixture computes what its subnet computes. Bits of the decode
state have no effect on a sequence that is read at once, and none here: genes that the mixture does not see
are listed in `unseen`, and whoever searches must decide them by other means. An early exit is a threshold,
not a mixture: a space with one is refused. The embedding is rounded at its largest width, so beside wider
networks those narrower than 8, whose embedding is no matrix and keeps 32 bits, read a rounded one.

Shapes: B batch, T tokens, D the largest d_model, V vocab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks.base import Mixed
from search_spaces.language.genotype import Genotype
from search_spaces.mixture.conditions import Chances, Genes
from search_spaces.mixture.masked_blocks import Format, Memo, Shared, Weighted
from search_spaces.mixture.mixed_norms import WeightedNorms, mixed_scores
from search_spaces.mixture.mixed_shell import MixedShell
from search_spaces.mixture.structure import Carried, Rows, Strand, Structure, Trunk
from search_spaces.network.decoder import OPTIONS, PLACES
from search_spaces.network.layer import PassContext, SideOutputs
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.options.routed_tokens import Router
from search_spaces.network.routed_layer import RoutedLayer
from search_spaces.supernet import Supernet

T = TypeVar("T")


@dataclass(frozen=True)
class Flow:
    """What one pass works with: all chances, as a tensor and as numbers, and the shared weights."""

    chances: Tensor
    values: list[float]
    shared: Shared
    losses: list[Tensor] = field(default_factory=list)

    def of(self, rows: Rows) -> Tensor:
        """The chance that one of these conditions holds."""
        return self.chances[rows[0]] if len(rows) == 1 else self.chances[rows].sum()

    def number(self, rows: Rows) -> float:
        """The same as a number."""
        return sum(self.values[row] for row in rows)


class Mixture:
    """All architectures of a supernet's space at once; see the module.

    Raises:
        SpaceError: a gene that cannot be relaxed, named by its path.
    """

    def __init__(self, supernet: Supernet) -> None:
        self.supernet, self.space = supernet, supernet.space
        self.genes = Genes(self.space)
        structure = Structure(self.genes)
        self.trunks, conditions = structure.trunks, structure.conditions
        self.chances = Chances(self.genes, conditions)
        named = {path for condition in conditions for path in condition}
        self.unseen = tuple(gene.path for gene in self.space.genes if gene.path not in named)

    def logits(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """One zero per option of every gene, flat."""
        return torch.zeros(self.genes.size, dtype=dtype)

    def shares(self, logits: Tensor) -> Tensor:
        """A softmax per gene."""
        return self.genes.shares(logits)

    def one_hot(self, genotype: Genotype, dtype: torch.dtype = torch.float32) -> Tensor:
        """All weight on one architecture."""
        return self.genes.one_hot(genotype, dtype)

    def __call__(
        self,
        tokens: Tensor,
        shares: Tensor,
        *,
        weights: Mapping[str, Tensor] | None = None,
        shift: Mapping[str, Tensor] | None = None,
        losses: list[Tensor] | None = None,
        memo: Memo | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of tokens [B, T] with these shares of the options.

        What has a share of exactly zero is not computed, and its share then has no gradient. `weights` take
        the place of the supernet's, and a `shift` moves them after they are rounded. Auxiliary losses,
        weighted alike, are appended to `losses`. A `memo` keeps rounded weights between calls: only for
        weights that stay as they are and need no gradient.
        """
        chances = self.chances(shares)
        shared = Shared(self.supernet.weights if weights is None else weights, shift, memo)
        flow = Flow(chances, chances.tolist(), shared)
        total: Tensor | None = None
        for trunk in self.trunks:
            if flow.number(trunk.rows) == 0.0:
                continue
            read = self._read(trunk, tokens, flow)
            read = read if trunk.certain else flow.of(trunk.rows) * read
            total = read if total is None else total + read
        assert total is not None
        if losses is not None:
            losses.extend(flow.losses)
        return total

    def _read(self, trunk: Trunk, tokens: Tensor, flow: Flow) -> Tensor:
        widths, norms = _shares(trunk.widths, flow), _shares(trunk.norms, flow)
        shell = MixedShell(_shares(trunk.shells, flow), widths, norms, flow.shared)
        x = shell.embed(tokens)
        for strands in trunk.strands:
            x = self._layer(strands, trunk, x, flow)
        return shell.logits(x)

    def _layer(self, strands: Sequence[Strand], trunk: Trunk, x: Tensor, flow: Flow) -> Tensor:
        out = x
        for strand in strands:
            if flow.number(strand.rows) == 0.0:
                continue
            before = len(flow.losses)
            y = self._pass(strand, trunk, x, flow)
            if strand.certain:
                out = out + (y - x) if len(strands) > 1 else y
                continue
            chance = flow.of(strand.rows)
            out = out + chance * (y - x)
            flow.losses[before:] = [chance * loss for loss in flow.losses[before:]]
        return out

    def _pass(self, strand: Strand, trunk: Trunk, x: Tensor, flow: Flow) -> Tensor:
        norms = _shares(trunk.norms, flow)
        sublayers = [_MixedSublayer(carriers, norms, flow) for carriers in strand.sublayers]
        if strand.routing is None:
            read = x
            for sublayer in sublayers:
                mixed = sublayer(read, onto=x) if strand.side_by_side else sublayer(x)
                x = mixed.y
                if mixed.loss is not None:
                    flow.losses.append(mixed.loss)
            return x
        weight = flow.shared.plain(f"{strand.site}.routing.weight", ())

        def score(read: Tensor) -> Tensor:
            return mixed_scores(read, norms, _shares(trunk.widths, flow), weight)

        layer = _MixedRoutedLayer(
            dict(zip(PLACES, sublayers, strict=True)), _MixedRouter(strand.routing, score)
        )
        layer.side_by_side = strand.side_by_side
        y, _ = layer(x, None, PassContext("", SideOutputs(flow.losses)))
        return y


class _MixedSublayer(nn.Module):
    """`x + sum over carriers of chance * mixer(norm(x))`, called like a `Residual`."""

    def __init__(self, carriers: Sequence[Carried], norms: WeightedNorms, flow: Flow) -> None:
        super().__init__()
        self.carriers, self.norms, self.flow = carriers, norms, flow

    def forward(
        self, x: Tensor, stored: None = None, position: int = 0, *, onto: Tensor | None = None
    ) -> Mixed:
        """x [B, T, D]; the sum is made onto x, or what is given."""
        flow, out = self.flow, x if onto is None else onto
        losses: Tensor | None = None
        for mixed in self.carriers:
            weight = flow.number(mixed.rows) * flow.number(mixed.activation)
            if weight == 0.0:
                continue
            chance, output = self._carried(mixed, x)
            out = out + F.pad(chance * output.y, (0, x.shape[-1] - output.y.shape[-1]))
            if output.loss is not None:
                losses = chance * output.loss if losses is None else losses + chance * output.loss
        return Mixed(out, None, losses)

    def _carried(self, mixed: Carried, x: Tensor) -> tuple[Tensor, Mixed]:
        flow, carrier = self.flow, mixed.carrier
        own = flow.chances[mixed.rows]
        variants, activation = own.sum(), flow.of(mixed.activation)
        sizes = Weighted(own / variants, [flow.values[row] for row in mixed.rows])
        formats = [
            Format(stored, flow.of(rows) / activation, value)
            for stored, rows in mixed.formats
            if (value := flow.number(rows)) or len(mixed.formats) == 1
        ]
        weights = carrier.weights(flow.shared, sizes, formats)
        output = carrier(carrier.entered(x, flow.shared, sizes, self.norms), weights)
        added = carrier.left(output.y, flow.shared, sizes, self.norms)
        return variants * activation, output._replace(y=added)


class _MixedRouter(Router):
    """A router whose scores are a mixture over widths."""

    def __init__(self, spec: MixtureOfDepths, score: Any) -> None:
        nn.Module.__init__(self)
        self.spec, self.score = spec, score

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, T] of x [B, T, D]."""
        return self.score(x)


class _MixedRoutedLayer(RoutedLayer):
    """A layer of mixed sublayers behind a router."""

    def __init__(self, sublayers: dict[str, Any], router: Router) -> None:
        nn.Module.__init__(self)
        for name in OPTIONS:
            setattr(self, name, None)
        self.sublayers, self.routing = sublayers, router


def _shares(values: Sequence[tuple[T, Rows]], flow: Flow) -> list[tuple[T, Tensor | None]]:
    """Values with their shares, without those of none; a value that is the only one has no share."""
    if len(values) == 1:
        return [(values[0][0], None)]
    return [(value, flow.of(rows)) for value, rows in values if flow.number(rows) != 0.0]
