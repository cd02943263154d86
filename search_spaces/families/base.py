"""The contract of a family: one table between a class of transformers and a `Decoder`.

    families.add(Family(name="llama", architecture="LlamaForCausalLM", ...))

    spec_of(family, config)              their configuration -> our architecture
    config_of(family, spec)              and back, or why the family has no such network
    tensors_of(family, parameters, ...)  our parameters -> their tensors
    parameters_of(family, ...)           and back

The table of a family holds the keys and tensors of its shell (embedding, last norm, head), those of each of
its kinds of sublayers (`Kind`), and how its configuration says which layer stands where (`Stack`). What a
table says is read in both directions, so whatever can be imported can be exported: `config_of` reads again
what it wrote and refuses what came out otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from torch import Tensor

from foundation.errors import NasError, SettingError
from foundation.registry import Registry, nearest
from foundation.text import shown
from search_spaces.blocks.base import Block
from search_spaces.families.config import Config
from search_spaces.families.gguf_names import GgufNames
from search_spaces.families.keys import Key
from search_spaces.families.lacking import LACKING
from search_spaces.families.stacks import COUNT, Alike, Stack
from search_spaces.families.tensors import Rule, Shape
from search_spaces.language.field_types import check_types
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Embedding, Head
from search_spaces.network.norms.base import Norm
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.size_limits import check_closed_size

families: Registry[Family] = Registry("family of models", folder="search_spaces.families")

SHELL_PARTS: Mapping[str, type] = {"norm": Norm, "embedding": Embedding, "head": Head}
"""The parts of a shell that have fields of their own."""

MOST_LAYERS = 10_000
"""More are an error in a configuration, and would take long to be listed."""

Factors: TypeAlias = tuple[float, ...]

PLACE = {"sequence": "sequence_mixer", "channels": "channel_mixer"}
"""The field of a layer for what a block mixes."""


@dataclass(frozen=True)
class Kind:
    """A kind of sublayer: its block, the keys that set its fields, and the rules of its tensors.

    `fixed` are fields that have one value in this kind.
    """

    block: type[Block]
    keys: tuple[Key, ...]
    rules: tuple[Rule, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The field of the layer."""
        return PLACE[self.block.mixes]

    def fits(self, block: Block | None) -> bool:
        """Whether a block may be of this kind."""
        return type(block) is self.block and all(
            getattr(block, name) == value for name, value in self.fixed.items()
        )

    def read(self, config: Config) -> Block:
        """The block that a configuration means."""
        return self.block(**_read(self.keys, config), **self.fixed)

    def entries(self, block: Block, where: str) -> Iterator[tuple[Sequence[Key], Mapping[str, Any], str]]:
        """The keys of a block of this kind, the fields that they speak of, and where those are."""
        yield self.keys, {part.name: getattr(block, part.name) for part in fields(block)}, where


@dataclass(frozen=True)
class Family:
    """A table of the models that a class of transformers computes; see the module.

    `name` is what configurations call the family (`model_type`). `layers` are the sublayers of each kind of
    layer, by the labels of the `stack`. `norm` is the class of the norm, and `fixed` are fields of the shell
    that have one value (`norm.place`: a field of a part); `options` are those of layers, by label. `repeated`
    are tensors that may be there a second time, `ignored` endings of names that hold no weights, `spellings`
    other endings of names with ours. `modern` turns older spellings of a configuration into today's. `gguf`
    is what files in that format call it all, where they know it.
    """

    name: str
    architecture: str
    shell: tuple[Key, ...]
    rules: tuple[Rule, ...]
    layers: Mapping[str, tuple[Kind, ...]]
    stack: Stack = Alike()
    norm: type[Norm] = RMSNorm
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prefix: str = "model.layers.{}."
    apart: bool = False
    repeated: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ("rotary_emb.inv_freq",)
    spellings: Mapping[str, str] = field(default_factory=dict)
    modern: Callable[[Config], Config] = lambda config: config
    gguf: GgufNames | None = None
    factors: Callable[[Config], Mapping[str, Factors]] = lambda config: {}


def family_of(config: Config) -> Family:
    """The family of a configuration.

    Raises:
        SettingError: it is none that is read here; says what it has that we lack, or the nearest one.
    """
    name = config.get("model_type")
    if isinstance(name, str) and name in LACKING:
        raise SettingError(f"{config.path}: {name} is not read: {LACKING[name]}, which no block here does")
    if not isinstance(name, str) or name not in families:
        raise SettingError(
            f"{config.path}: {shown(name)} is an architecture that is not known here;"
            f" {nearest(name, families)}"
        )
    return families[name]


def spec_of(family: Family, config: Config) -> Decoder:
    """The architecture that a configuration means.

    Raises:
        SettingError: it says something that we have no block or option for.
    """
    count = config.get(COUNT, None)
    if isinstance(count, int) and count > MOST_LAYERS:
        raise config.wrong(COUNT, count, f"at most {MOST_LAYERS}")
    config = family.modern(config)
    for name in ("quantization_config", "compression_config"):
        if config.get(name, None) is not None:
            raise SettingError(f"{config.path}: {name}: weights are read as numbers, not packed by a library")
    shell = _shell({**_read(family.shell, config), **family.fixed}, family.norm)
    labels = family.stack.read(config)
    read = {label: _layer(family, label, config) for label in dict.fromkeys(labels)}
    try:
        spec = Decoder(**shell, layers=tuple(read[label] for label in labels))
        check_types(spec)
        spec.check()
        check_closed_size(spec)
    except NasError as error:
        raise SettingError(f"{config.path}: {error}") from None
    return spec


def config_of(family: Family, spec: Decoder) -> dict[str, Any]:
    """The configuration of an architecture, if the family has it.

    Raises:
        SettingError: it has not; says the first difference.
    """
    labels = [_label(family, index, layer) for index, layer in enumerate(spec.layers)]
    own = {part.name: getattr(spec, part.name) for part in fields(spec)}
    for name in SHELL_PARTS:
        own |= {f"{name}.{part.name}": getattr(own[name], part.name) for part in fields(own[name])}
    found = _Writing({"model_type": family.name, "architectures": [family.architecture]})
    found.add(family.shell, own, spec.d_model, "the network")
    found.values |= family.stack.write(labels)
    for index, (label, layer) in enumerate(zip(labels, spec.layers, strict=True)):
        for kind in family.layers[label]:
            block, where = getattr(layer, kind.place), f"layers.{index}.{kind.place}"
            for keys, given, path in kind.entries(block, where):
                found.add(keys, given, spec.d_model, path)
    again = spec_of(family, Config(found.values, f"a configuration of {family.name}"))
    if again != spec:
        raise SettingError(f"{family.name} has no such network: {_difference(spec, again)}")
    return found.values


def tensors_of(family: Family, labels: Sequence[str], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors by name, of our parameters; on the meta device, what a checkpoint must hold."""
    found: dict[str, Tensor] = {}
    for prefix, there, rules in _groups(family, labels):
        own = {name.removeprefix(prefix): value for name, value in ours.items() if name.startswith(prefix)}
        for rule in _present(rules, own):
            found |= {there + name: value for name, value in rule.theirs(own).items()}
    return found


@dataclass(frozen=True)
class _Within(Mapping[str, Tensor]):
    """The tensors whose names begin with a prefix, without it."""

    tensors: Mapping[str, Tensor]
    prefix: str

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (n.removeprefix(self.prefix) for n in self.tensors if n.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def parameters_of(
    family: Family,
    labels: Sequence[str],
    theirs: Mapping[str, Tensor],
    shapes: Mapping[str, Shape],
) -> Iterator[tuple[str, Tensor]]:
    """Our parameters, of these shapes, one after the other; their tensors are read when they are needed."""
    for prefix, there, rules in _groups(family, labels):
        own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        for rule in _present(rules, own):
            for name, value in rule.ours(_Within(theirs, there), own):
                yield prefix + name, value


def _groups(family: Family, labels: Sequence[str]) -> Iterator[tuple[str, str, Sequence[Rule]]]:
    """The prefix of our parameters, that of their tensors, and the rules between them."""
    yield "", "", family.rules
    sublayers = 0
    for index, label in enumerate(labels):
        for kind in family.layers[label]:
            there = family.prefix.format(sublayers if family.apart else index)
            yield f"layers.{index}.{kind.place}.", there, kind.rules
            sublayers += 1


def _present(rules: Sequence[Rule], own: Mapping[str, Any]) -> Iterator[Rule]:
    """The rules of parameters that are there: a variant may lack some, or have others in their place."""
    for rule in rules:
        if all(name in own for name in rule.parameters):
            yield rule


def _read(keys: Sequence[Key], config: Config) -> dict[str, Any]:
    """The fields that keys say something about."""
    found: dict[str, Any] = {}
    for key in keys:
        found |= key.read(config)
    return found


def _shell(values: Mapping[str, Any], norm: type[Norm]) -> dict[str, Any]:
    """The fields of a decoder from values whose names may be those of a part."""
    kinds = {**SHELL_PARTS, "norm": norm}
    inner: dict[str, dict[str, Any]] = {name: {} for name in kinds}
    outer: dict[str, Any] = {}
    for name, value in values.items():
        part, dot, rest = name.partition(".")
        (inner[part] if dot else outer)[rest or name] = value
    return outer | {name: kinds[name](**given) for name, given in inner.items()}


def _layer(family: Family, label: str, config: Config) -> Layer:
    """A layer of ours with this label."""
    blocks: dict[str, Any] = {kind.place: kind.read(config) for kind in family.layers[label]}
    return Layer(**blocks, **family.options.get(label, {}))


def _label(family: Family, index: int, layer: Layer) -> str:
    """The label of a layer of ours."""
    for label, kinds in family.layers.items():
        if {kind.place for kind in kinds} == set(layer.blocks) and all(
            kind.fits(getattr(layer, kind.place)) for kind in kinds
        ):
            return label
    blocks = " and ".join(type(block).__name__ for block in layer.blocks.values())
    raise SettingError(f"{family.name} has no layer like layers.{index} ({blocks})")


@dataclass
class _Writing:
    """A configuration as far as it is written."""

    values: dict[str, Any]

    def add(self, keys: Sequence[Key], given: Mapping[str, Any], d_model: int, where: str) -> None:
        """Write keys; what another part wrote differently is refused."""
        for key in keys:
            try:
                written = key.write(given, d_model)
            except SettingError as error:
                raise SettingError(f"{where}: {error}") from None
            for name, value in written.items():
                self._put(name, value, where)

    def _put(self, name: str, value: Any, where: str) -> None:
        node, (*outer, last) = self.values, name.split(".")
        for word in outer:
            node = node.setdefault(word, {})
        if node.setdefault(last, value) != value:
            raise SettingError(
                f"{where}: {name} would be {shown(value)}, and elsewhere is {shown(node[last])}"
            )


def _difference(spec: Decoder, again: Decoder) -> str:
    """The first field in which two architectures differ."""
    for part in fields(spec):
        if part.name != "layers" and getattr(spec, part.name) != getattr(again, part.name):
            return f"{part.name} is {shown(getattr(spec, part.name))}"
    for index, (layer, other) in enumerate(zip(spec.layers, again.layers, strict=True)):
        for part in fields(layer):
            mine, theirs = getattr(layer, part.name), getattr(other, part.name)
            if mine != theirs:
                return f"layers.{index}.{part.name} is {shown(mine)}, and would come back as {shown(theirs)}"
    return "it would come back otherwise"
