"""Search spaces in the JSON of NNI, there and back. NNI itself is not needed.

    plain = to_nni(space)                      # {"layers": {"_type": "choice", "_value": [2, 4]}, ...}
    space = from_nni(json.load(file))          # closes to `Parameters`
    values = parameters(spec)                  # as `nni.get_next_parameter()` gives them

A gene is a parameter of NNI named by its path. The genes of a branch are nested in its option, as NNI has
it: `{"_name": "Attention", "layers.0.sequence_mixer:Attention.num_heads": {...}}`. A gene that depends on a
depth is not nested: layer 0 of two depths is one gene here, and would be two parameters there. So the layers
beyond the depth have values, too, and these change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import IllegalArchitecture, SpaceError
from foundation.text import shown
from search_spaces.language.choices import MOST_OPTIONS, one_of
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Gene, Space, as_space

TYPE, VALUE, NAME = "_type", "_value", "_name"
FINITE = ("choice", "randint", "quniform")


def to_nni(space: Space | Any) -> dict[str, Any]:
    """The genes of a space as a search space of NNI; constraints are not in it."""
    genes = as_space(space).genes
    owned: dict[tuple[str, Label] | None, list[Gene]] = {}
    for gene in genes:
        owned.setdefault(_owner(gene, genes), []).append(gene)
    branching = {owner[0] for owner in owned if owner}

    def entries(owner: tuple[str, Label] | None) -> dict[str, Any]:
        return {gene.path: {TYPE: "choice", VALUE: options(gene)} for gene in owned.get(owner, ())}

    def options(gene: Gene) -> list[Any]:
        if gene.path not in branching:
            return list(gene.labels)
        return [{NAME: str(label), **entries((gene.path, label))} for label in gene.labels]

    return entries(None)


def genotype_of(space: Space | Any, values: Mapping[str, Any]) -> tuple[Genotype, Any]:
    """The genotype that values for the parameters of `to_nni` mean, and its architecture, unchecked.

    Raises:
        IllegalArchitecture: a parameter has no value, or one that is no option.
    """
    known = as_space(space)
    answers = dict(_flat(values))

    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        if path not in answers:
            raise IllegalArchitecture(f"{path} has no value: it is one of {labels}")
        given = answers[path]
        alike = [label for label in labels if type(label) is type(given) and label == given]
        if not alike:
            raise IllegalArchitecture(f"{path} is one of {labels}, not {shown(given)}")
        return alike[0]

    return known.draw(answer)


def values_of(plain: Mapping[str, Any], genotype: Genotype) -> dict[str, Any]:
    """Values of the parameters of `to_nni`, which `genotype_of` reads.

    A gene that the architecture does not ask has its first option.
    """
    genes = genotype.genes

    def fill(entries: Mapping[str, Any]) -> dict[str, Any]:
        return {path: pick(path, entry[VALUE]) for path, entry in entries.items() if path != NAME}

    def pick(path: str, options: Sequence[Any]) -> Any:
        if not _is_nested(options):
            return genes.get(path, options[0])
        name = str(genes.get(path, options[0][NAME]))
        chosen = next(option for option in options if option[NAME] == name)
        return {NAME: name, **fill(chosen)}

    return fill(plain)


@dataclass(frozen=True)
class Parameter:
    """A value, or a `Branch` of a nested choice, under the name that NNI knows it by."""

    name: str
    value: Any


@dataclass(frozen=True)
class Branch:
    """The option of a nested choice: its name, and the parameters that only it has."""

    name: str
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Parameters:
    """What a search space of NNI closes to."""

    parameters: tuple[Parameter, ...]


def from_nni(plain: Mapping[str, Any], *, name: str = "nni") -> Space:
    """The space of an NNI search space: of `choice`, also nested, `randint` and `quniform`.

    Raises:
        SpaceError: it is malformed, or has a parameter of infinitely many values.
    """
    return Space(Parameters(_parameters(plain, "")), name=name)


def parameters(spec: Parameters | Branch) -> dict[str, Any]:
    """The values of an architecture of `from_nni`, by name, as a trial of NNI is given them."""
    return {each.name: _plain_value(each.value) for each in spec.parameters}


def _owner(gene: Gene, genes: Sequence[Gene]) -> tuple[str, Label] | None:
    """The branch that a gene is in, as the path and the label of another gene; None where it is in none."""
    owners = [
        (other.path, label)
        for other in genes
        for label in other.labels
        if f"{gene.path}.".startswith((f"{other.path}:{label}.", f"{other.path}:{label}:"))
    ]
    return max(owners, key=lambda owner: len(owner[0]), default=None)


def _flat(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """All parameters with their values, those of branches after the branch's name."""
    flat: list[tuple[str, Any]] = []
    for path, value in values.items():
        if isinstance(value, Mapping):
            flat.append((path, value.get(NAME)))
            flat += _flat({name: inner for name, inner in value.items() if name != NAME})
        else:
            flat.append((path, value))
    return flat


def _is_nested(options: Sequence[Any]) -> bool:
    return all(isinstance(option, Mapping) for option in options)


def _parameters(plain: Any, within: str) -> tuple[Parameter, ...]:
    if not isinstance(plain, Mapping):
        raise SpaceError(f"{within or 'an NNI search space'} is an object of parameters, got {shown(plain)}")
    named = {name: entry for name, entry in plain.items() if name != NAME}
    return tuple(Parameter(name, _open(f"{within}{name}", entry)) for name, entry in named.items())


def _open(path: str, entry: Any) -> Any:
    """The open value of one parameter.

    Raises:
        SpaceError: it is malformed, or has infinitely many values.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get(VALUE), (list, tuple)):
        raise SpaceError(f"{path} is no parameter of NNI: {{'_type': 'choice', '_value': [...]}} is one")
    kind, values = entry.get(TYPE), entry[VALUE]
    if kind not in FINITE:
        raise SpaceError(f"{path} is {shown(kind)}; a space has finitely many values: {', '.join(FINITE)}")
    if kind != "choice":
        return one_of(*_numbers(path, kind, values))
    if values and _is_nested(values):
        if not all(isinstance(option.get(NAME), str) for option in values):
            raise SpaceError(f"{path}: every option of a nested choice has a name under {NAME!r}")
        return one_of(*(Branch(o[NAME], _parameters(o, f"{path}/{o[NAME]}/")) for o in values))
    return one_of(*values)


def _numbers(path: str, kind: str, values: Sequence[Any]) -> list[float]:
    """The values of a range: `randint` [low, high), `quniform` multiples of q, cut to [low, high]."""
    wanted = 2 if kind == "randint" else 3
    numbers = [value for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    if len(values) != wanted or len(numbers) != wanted or numbers[0] >= numbers[1]:
        raise SpaceError(
            f"{path}: {kind} has {wanted} numbers, the first below the second, got {shown(values)}"
        )
    low, high = numbers[:2]
    step = 1 if kind == "randint" else numbers[2]
    if step <= 0 or (high - low) / step > MOST_OPTIONS:
        raise SpaceError(f"{path}: {kind} {shown(values)} has over {MOST_OPTIONS:,} values, or none")
    if kind == "randint":
        return list(range(math.ceil(low), math.ceil(high)))
    steps = range(round(low / step), round(high / step) + 1)
    return sorted({min(max(number * step, low), high) for number in steps})


def _plain_value(value: Any) -> Any:
    return {NAME: value.name, **parameters(value)} if isinstance(value, Branch) else value
