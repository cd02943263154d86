"""What is fitted to studies for the page that compares networks: made once for all who ask, and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from dashboards.app.live_store import key_of
from dashboards.app.recent import Recent
from dashboards.facts.dependence import DependenceFacts, dependence, genes_of
from dashboards.facts.gene_rows import GeneRows, gene_rows
from dashboards.facts.importance import ImportanceFacts, importance
from dashboards.facts.reading import Reading
from dashboards.facts.surrogate import MOST, Surrogate, surrogate
from nas.strategies.surrogate.encoding import Encoding

KEPT = 8
"""Studies of which the encoding, and what was fitted, are kept."""


@dataclass(frozen=True)
class Fit:
    """The models of a study as it was at a revision, and which genes matter by them."""

    revision: int
    models: Surrogate
    matters: ImportanceFacts


class GeneModels:
    """The encodings of spaces and the models of objectives, by study. Threads may share it."""

    def __init__(self) -> None:
        self._encodings: Recent[Encoding] = Recent(KEPT)
        self._fits: OrderedDict[str, Fit] = OrderedDict()
        self._lock = threading.Lock()

    def encoding(self, reading: Reading) -> Encoding:
        """The genes of a study's space as columns."""
        key = key_of(reading.study.record)
        return self._encodings.get(key, lambda: Encoding(reading.study.space_as_read))

    def rows(self, reading: Reading, also: tuple[int, ...] = ()) -> GeneRows:
        """Some hundreds of networks as answers to the genes, the trials `also` among them."""
        return gene_rows(reading, self.encoding(reading), MOST, also)

    def fit(self, reading: Reading, *, anew: bool = True) -> Fit | None:
        """The models of a study, unless `anew` older ones; None where too few networks are known."""
        key = key_of(reading.study.record)
        with self._lock:
            made = self._fits.get(key)
            if made is None or (anew and made.revision != reading.revision):
                revision, models = reading.revision, surrogate(reading, self.rows(reading))
                if models is None:
                    return None
                made = self._fits[key] = Fit(revision, models, importance(models))
                while len(self._fits) > KEPT:
                    self._fits.popitem(last=False)
            return made


def dependence_by(fit: Fit, gene: str, objective: str) -> DependenceFacts:
    """The partial dependence on a gene, or where none is named on that which matters most.

    Raises:
        SettingError: it cannot be told; the text says why.
    """
    names = [of.name for of in fit.models.objectives]
    if not gene and objective in names:
        k, known = names.index(objective), set(genes_of(fit.models))
        found = [each for each in fit.matters.genes if each.name in known]
        gene = max(found, key=lambda each: each.means[k]).name if found else ""
    return dependence(fit.models, gene, objective)
