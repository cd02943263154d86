"""What every part has the same of is shared out by need: bits, or zeros, at the size of equal ones.

    minimise    sum over parts p of damage[p, v_p]      such that      sum of size[p, v_p] <= that of equal v

Damage is measured: the divergence of the network from what it was, in which one part alone has a value. Parts
are sublayers where bits are shared out, since these have bits of their own, and matrices where zeros are. The
choice is exact (`nas.engines.exact`); that damages add up is not assumed: what was chosen is made, beside
equal values, and the one that really diverges less is what comes out. Choosing bits by an integer program
over measured sensitivities is HAWQ-V3's (Yao et al. 2021, arXiv:2011.10680, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch

from evaluators.compression.damage import Damage, exchanged
from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.allocation import KINDS, SIZE, AllocationSettings, Kind
from nas.modifiers.base import Changed, Estimate, Modifier, Work, forward_flops, modifiers
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

if TYPE_CHECKING:
    from nas.engines.exact.shares import Effect


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Allocate(AllocationSettings, Modifier):
    """Share bits or zeros out by need: where they do the least damage, at the size of equal ones.

    `--of bits` rounds every sublayer as `quantize` does, `--of sparsity` prunes every matrix as `prune` does.
    --like is the value that all would have otherwise: what comes out takes no more bytes (or has no more
    weights that are not zero) than that. The damage of each value in each part is how far it moves the
    network's predictions, measured on the training text, and the least sum is found exactly. With --under
    decode_ms or prefill_ms the time that a latency table predicts is bounded in the place of bytes.
    """

    name = "allocate"

    of: str = setting("bits", help="What is shared out.", choices=("bits", "sparsity"))
    windows: int = setting(
        16, help="Further windows of training text that damage is measured on.", least=2, most=MANY
    )

    def check(self) -> None:
        """Values must be those of what is shared out, and a bound must be known."""
        if self.under != SIZE and (self.of != "bits" or self.table is None):
            wrong = "zeros take no less time" if self.of != "bits" else "name a latency table (table)"
            raise SettingError(f"allocate: under={self.under}: {wrong}")
        if self.under == SIZE and self.table is not None:
            raise SettingError(
                f"allocate: table={self.table} predicts milliseconds, and under={SIZE} bounds bytes: add"
                " under=decode_ms or under=prefill_ms, or leave the table out"
            )
        if not self.groups:
            raise SettingError("allocate: groups are some of the sizes that weights may share a scale in")
        for value in (self._equal_value, *self.options):
            self._sharing.uniform(self, value)

    def located(self, store: str) -> Self:
        """See `Modifier.located`: the latency table."""
        from nas.tables.library import find  # a command line shall not load tables

        return self if self.table is None else replace(self, table=str(find(self.table, store)))

    def unsupported(self, spec: Decoder) -> str:
        """See `Modifier.unsupported`: what is said of equal values."""
        return self._uniform.unsupported(spec)

    def changed(self, spec: Decoder) -> Decoder:
        """See `Modifier.changed`: that of equal values; the text says which there are."""
        return self._uniform.changed(spec)

    def estimate(self, spec: Decoder, scenario: Scenario) -> Estimate:
        """See `Modifier.estimate`: what comes out is at most as large."""
        return replace(super().estimate(spec, scenario), exact=False)

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: reading the windows once for every value of every part, and making two."""
        with torch.device("meta"):
            kind = self._sharing(self, Model(spec), None)
        values = len(kind.parts) * len(kind.values)
        return values * forward_flops(spec, self.windows, scenario) + 3 * self._uniform.flops(spec, scenario)

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        from nas.engines.exact.shares import shared_out  # a command line shall not load the solver

        kind = self._sharing(self, model, work)
        damage = Damage(model, *work.task.train_batch(1, work.seed, self.windows))
        best = shared_out(self._effects(kind, damage, work), kind.like)
        equal = dict.fromkeys(kind.parts, kind.like)
        made = {"by need": kind.made(best.values), "equal": kind.made(equal)}
        real = {how: damage.of(changed.model) for how, changed in made.items()}
        kept = min(real, key=lambda how: real[how].kl)
        notes: dict[str, Any] = {
            f"damage {how}, nats a token": f"{moved.kl:.4g} ± {moved.error:.2g}"
            for how, moved in real.items()
        }
        notes |= {"sum of the parts' damages": f"{best.damage:.4g}", "kept": kept}
        shown = [f"{part.removeprefix('layers.')}={kind.shown(v)}" for part, v in best.values.items()]
        return Changed(made[kept].model, {**made[kept].notes, **notes, f"{self.of} by need": " ".join(shown)})

    def _effects(self, kind: Kind, damage: Damage, work: Work) -> dict[str, dict[Any, Effect]]:
        """By part and value, how far the network moves with this value there alone, and what it takes."""
        from nas.engines.exact.shares import Effect

        found: dict[str, dict[Any, Effect]] = {}
        with work.progress.bar("measuring damage", len(kind.parts)) as bar:
            for part in kind.parts:
                found[part] = {}
                for value, weights in kind.alone(part):
                    with exchanged(kind.model, weights) as moved:
                        found[part][value] = Effect(damage.of(moved).kl, kind.amount(part, value, weights))
                bar.update(len(found), part)
        return found

    @property
    def _sharing(self) -> type[Kind]:
        return KINDS[self.of]

    @property
    def _uniform(self) -> Modifier:
        uniform: Modifier = self._sharing.uniform(self, self._equal_value)
        return uniform

    @property
    def _equal_value(self) -> float:
        return self._sharing.usual_like if self.like is None else self.like
