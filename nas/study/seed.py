"""One candidate that a search begins with, or learns from, and what it was worth elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.study.trial import Value
from search_spaces.language.genotype import Genotype


@dataclass(frozen=True)
class Seed:
    """A candidate, where it comes from, and its values there; those of `unlike` objectives err more here.

    One that is `first` is proposed before the strategy has ideas of its own.
    """

    genotype: Genotype
    source: str
    values: Mapping[str, Value] = field(default_factory=dict)
    unlike: frozenset[str] = frozenset()
    first: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Plain values, without evidence by validation window."""
        values = {name: [v.value, v.error] for name, v in self.values.items()}
        plain = {"genes": dict(self.genotype.genes), "source": self.source, "values": values}
        return {**plain, "unlike": sorted(self.unlike), "first": self.first}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Seed:
        """The seed that `to_plain` wrote."""
        values = {name: Value(value, error) for name, (value, error) in plain["values"].items()}
        genotype = Genotype(plain["genes"])
        return cls(genotype, plain["source"], values, frozenset(plain["unlike"]), plain["first"])
