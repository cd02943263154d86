"""A space: an open configuration, its constraints, and the ways to answer its questions.

    space = Space(Decoder(vocab=256, d_model=one_of(64, 96), layers=repeat(layer, depths=(2, 4))))
    genotype = draw(space, lambda path, labels: dice.choice(labels))
    spec = close(space, genotype)

`draw` asks, `close` replays, `Space.genotype_of` reads the answers back out of an architecture.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from types import MappingProxyType
from typing import Any

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.language.choices import OneOf, check_supported
from search_spaces.language.closer import Answer, Unbuildable, closer
from search_spaces.language.counting import count_closings, enumerate_answers
from search_spaces.language.feasible import DRAWS, Nearest, nearest, walk
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.limits import check_name, check_values
from search_spaces.language.matching import match
from search_spaces.language.objections import Unbuilt, allows, name_of, objection_to
from search_spaces.language.printing import show
from search_spaces.language.serialization import to_plain
from search_spaces.language.walk import open_values

TRIES = 1000
"""How many candidates in a row may be rejected before a space is called unsatisfiable."""

PATIENCE = 50
"""After so many rejections in a row it matters whether hardly any architecture is allowed."""


NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Gene:
    """One question that a space may ask: its path and the labels of its options."""

    path: str
    labels: tuple[Label, ...]


class Space:
    """An open configuration with constraints.

    `constraints` are functions of a closed configuration that say whether it is allowed; besides them, a
    configuration with a method `check()` may object with `IllegalArchitecture`. `defaults` are settings, as
    plain values by name, that a study of the space has where none are given; the space does not read them.

    Raises:
        SpaceError: a value of a kind that no space can hold, one shared name with two sets of options, a name
            that is no line of text, or more or larger values than `language.limits` allows.
    """

    def __init__(
        self,
        root: Any,
        *,
        constraints: Sequence[Callable[[Any], bool]] = (),
        name: str = "space",
        defaults: Mapping[str, Any] = NO_DEFAULTS,
    ) -> None:
        check_name(name)
        check_supported(root)
        check_values(root)
        if isinstance(constraints, str) or not isinstance(constraints, Iterable):
            raise SpaceError(f"constraints is a sequence of functions, got {constraints!r}")
        if not isinstance(name, str):
            raise SpaceError(f"a space's name is text, got {name!r}")
        for constraint in constraints:
            if not callable(constraint):
                raise SpaceError(f"a constraint is a function of the architecture, got {constraint!r}")
        if not isinstance(defaults, Mapping):
            raise SpaceError(f"defaults are settings by name, got {defaults!r}")
        self.root, self.constraints, self.name = root, tuple(constraints), name
        self.defaults: Mapping[str, Any] = dict(defaults)
        self._shared: dict[str, OneOf] = {}
        for _, choice in open_values(root):
            if choice.name and self._shared.setdefault(choice.name, choice) != choice:
                raise SpaceError(f"the shared choice {choice.name!r} stands for two sets of options")
        self._closer = closer(root)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Every question that the space may ask, in any branch; one path has one set of labels."""
        labels = {path: choice.labels for path, choice in open_values(self.root)}
        return tuple(Gene(path, options) for path, options in labels.items())

    @cached_property
    def digest(self) -> str:
        """Names the tree and its constraints (by name): 12 hex digits."""
        plain = [to_plain(self.root), [name_of(constraint) for constraint in self.constraints]]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]

    def size(self) -> int:
        """How many architectures the tree describes, exactly.

        Constraints and the blocks' own checks are not subtracted: that takes enumeration (`enumerate`).
        """
        return count_closings(self.root)

    def enumerate(self) -> Iterator[Genotype]:
        """Every genotype of the tree once, legal or not, in a fixed order."""
        yield from map(Genotype, enumerate_answers(self._closer))

    def draw(self, answer: Answer) -> tuple[Genotype, Any]:
        """Ask every open question, outermost first: the genotype and the architecture, unchecked.

        Where a constructor refuses its values, the architecture is one that has an objection, and questions
        after it are not asked.
        """
        genes: dict[str, Label] = {}

        def ask(path: str, labels: tuple[Label, ...]) -> Label:
            if path in genes:  # a shared choice that was asked before
                return genes[path]
            genes[path] = answer(path, labels)
            return genes[path]

        try:
            spec = self._closer(ask)
        except Unbuildable as error:
            spec = Unbuilt(str(error))
        return Genotype(genes), spec

    def draw_genotype(self, genotype: Genotype) -> Any:
        """The architecture of a whole genotype, unchecked."""
        return self.draw(lambda path, labels: genotype.genes[path])[1]

    def close(self, genotype: Genotype) -> Any:
        """The architecture that `genotype` picks.

        Raises:
            IllegalArchitecture: an answer is missing, unknown or never asked for, or the architecture is
                not allowed.
        """

        def replay(path: str, labels: tuple[Label, ...]) -> Label:
            try:
                return genotype.genes[path]
            except KeyError:
                raise IllegalArchitecture(f"{genotype.digest} leaves {path} open") from None

        asked, spec = self.draw(replay)
        if isinstance(spec, Unbuilt):
            raise IllegalArchitecture(spec.reason)
        unasked = sorted(set(genotype.genes) - set(asked.genes))
        if unasked:
            raise IllegalArchitecture(f"{genotype.digest} answers what nobody asks: {', '.join(unasked)}")
        self.check(spec)
        return spec

    def check(self, spec: Any) -> None:
        """Raise `IllegalArchitecture` where the architecture objects or a constraint is violated."""
        objection = self.objection(spec)
        if objection:
            raise IllegalArchitecture(objection)

    def objection(self, spec: Any) -> str | None:
        """Why an architecture is not allowed, or None.

        Raises:
            SpaceError: its checks or a constraint have a mistake.
        """
        return objection_to(spec, self.constraints)

    @staticmethod
    def cannot_be(spec: Any) -> str | None:
        """What an architecture itself objects, or None."""
        return objection_to(spec, ())

    def moved_to_allowed(self, genotype: Genotype) -> tuple[Genotype, Any] | None:
        """The first allowed architecture on the way from this one to a known one; None where none is known.

        None too where chance finds allowed ones: those are spread evenly, and these are not.
        """
        known = self._nearest
        if not known.allowed or known.tried <= DRAWS:
            return None
        return walk(self, genotype, known.genotype, lambda spec: self.objection(spec) is None)

    @cached_property
    def _nearest(self) -> Nearest:
        """An allowed architecture, or what comes nearest."""
        return nearest(self, self.broken_rules)

    def broken_rules(self, spec: Any) -> tuple[int, ...]:
        """How many constraints an architecture violates; one more than there are, if it cannot be built."""
        if self.cannot_be(spec) is not None:
            return (len(self.constraints) + 1,)
        return (sum(not allows(constraint, spec) for constraint in self.constraints),)

    def genotype_of(self, spec: Any) -> Genotype:
        """The answers that lead to `spec`: the inverse of `close`.

        Raises:
            IllegalArchitecture: `spec` is not in the space.
        """
        genes = match(self.root, spec)
        if genes is None:
            raise IllegalArchitecture("the architecture is no closing of this space")
        genotype = Genotype(genes)
        self.close(genotype)
        return genotype

    def contains(self, spec: Any) -> bool:
        """Whether `spec` is an allowed architecture of this space."""
        try:
            self.genotype_of(spec)
        except IllegalArchitecture:
            return False
        return True

    def sample(self, dice: Random) -> Genotype:
        """An allowed genotype, every question answered uniformly at random.

        Where hardly any architecture is allowed, a draw that is not is moved to one that is.

        Raises:
            SpaceError: after `TRIES` rejections in a row, saying which objections rejected how many.
        """
        return self.propose(lambda path, labels: dice.choice(labels))

    def propose(self, answer: Answer, tries: int = TRIES) -> Genotype:
        """Draw until an allowed architecture comes; `answer` must contain chance, or one try decides."""
        return self.propose_with_spec(answer, tries)[0]

    def propose_with_spec(
        self, answer: Answer, tries: int = TRIES, *, constrained: bool = True
    ) -> tuple[Genotype, Any]:
        """As `propose`, with the architecture beside its genotype; unless `constrained`, only buildable."""
        objections: Counter[str] = Counter()
        for count in range(tries):
            genotype, spec = self.draw(answer)
            objection = objection_to(spec, self.constraints if constrained else ())
            if objection is None:
                return genotype, spec
            moved = self.moved_to_allowed(genotype) if constrained and count >= PATIENCE else None
            if moved is not None:
                return moved
            objections[objection] += 1
        reasons = "; ".join(f"{count} times: {text}" for text, count in objections.most_common(3))
        raise SpaceError(f"{self.name}: none of {tries} candidates is allowed ({reasons})")

    def require_sound(self) -> None:
        """Raise `SpaceError` where none of the candidates can be built, or where a constraint has a mistake.

        Whether the constraints allow anything is not asked.
        """
        dice = Random("sound")
        _, spec = self.propose_with_spec(lambda path, labels: dice.choice(labels), constrained=False)
        self.objection(spec)

    def require_allowed(self) -> None:
        """Raise `SpaceError` where no architecture is found that is allowed, saying how many were tried.

        They are all of a small space, and else up to `feasible.DRAWS` and `feasible.CHANGED`.
        """
        found = self._nearest
        if not found.allowed:
            tried = f"{found.tried:,} architectures"
            whose = f"its {tried}" if found.complete else f"{tried} that were tried"
            objection = self.objection(self.draw_genotype(found.genotype))
            raise SpaceError(f"{self.name}: none of {whose} is allowed; the nearest: {objection}")

    def __str__(self) -> str:
        described = self.size()
        count = f"{described:,}" if described < 10**15 else f"{described:.3g}"
        head = f"{self.name}: {count} architectures, {len(self.genes)} genes, digest {self.digest}"
        tail = [f"constraint: {name_of(constraint)}" for constraint in self.constraints]
        tail += [f"where a study is given none, {name}: {value}" for name, value in self.defaults.items()]
        return "\n".join([head, show(self.root), *tail])


def draw(space: Space | Any, answer: Answer) -> Genotype:
    """Ask `answer` every open question of `space` (a `Space` or a bare open configuration)."""
    return as_space(space).draw(answer)[0]


def close(space: Space | Any, genotype: Genotype) -> Any:
    """The architecture that `genotype` picks out of `space`; see `Space.close`."""
    return as_space(space).close(genotype)


def as_space(space: Space | Any) -> Space:
    """`space` itself, or a bare open configuration as a space without constraints.

    Raises:
        SpaceError: it is a plain value, which leaves nothing to be searched.
    """
    if space is None or isinstance(space, (str, bytes, int, float)):
        raise SpaceError(f"a space is a Space or a configuration with open choices, got {space!r}")
    return space if isinstance(space, Space) else Space(space)
