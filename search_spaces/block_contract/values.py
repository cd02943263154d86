"""Values: a block is a frozen dataclass of plain values that has examples and survives JSON."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

from foundation.errors import NasError
from search_spaces.block_contract.promise import BrokenPromise, Subject, promise
from search_spaces.blocks.base import blocks
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json, to_json


@promise(quick=True)
def a_block_is_a_frozen_value(subject: Subject) -> None:
    """Frozen, hashable, equal to what JSON makes of it, and with fields that may be left open."""
    spec, kind = subject.spec, type(subject.spec)
    if spec.mixes not in ("sequence", "channels"):
        raise BrokenPromise(f"mixes must be 'sequence' or 'channels', is {spec.mixes!r}")
    try:
        for field in fields(spec)[:1]:
            setattr(spec, field.name, getattr(spec, field.name))
    except FrozenInstanceError:
        pass
    else:
        if fields(spec):
            raise BrokenPromise("it is not frozen: write @dataclass(frozen=True, kw_only=True)")
    hash(spec)
    if kind.__name__ not in blocks:
        raise BrokenPromise("it is not registered: write @blocks.add above it")
    if blocks[kind.__name__] is not kind and blocks[kind.__name__].__module__ != kind.__module__:
        raise BrokenPromise(f"another block is called {kind.__name__}: choose another name")
    for field in fields(spec):
        replace(spec, **{field.name: one_of(1, 2)})
    try:
        again = from_json(to_json(spec))
        # of a file that was run twice there are two classes of one name
        same = all(getattr(again, field.name) == getattr(spec, field.name) for field in fields(spec))
    except (TypeError, NasError) as error:
        raise BrokenPromise(f"its values do not survive JSON: {error}") from None
    if not same:
        raise BrokenPromise(f"its values do not survive JSON: {to_json(spec)} reads as another block")
