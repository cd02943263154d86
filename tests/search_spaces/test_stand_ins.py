"""Classes that this process does not know: read, shown and written again by their fields, no more."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from foundation.errors import SettingError, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.language.absence import NotDefined, StandIn
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.printing import brief
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.language.stand_ins import defaults_of, stand_ins
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Smooth:
    """Registered nowhere; it plays the part of a block."""

    heads: Any = 2
    decay: Any = 0.9


def read(root: Any) -> Any:
    """What a process reads that does not know `Smooth`."""
    text = to_json(root)
    return from_json(text, stand_ins(text, {}, defaults_of(root)))


def space() -> Any:
    smooth = Layer(sequence_mixer=Smooth(heads=one_of(2, 4)))
    layer = one_of(smooth, Layer(sequence_mixer=Attention()))
    return Decoder(d_model=one_of(8, 16), layers=repeat(layer, depths=(1, 2)))


def test_every_architecture_reads_as_it_was_written() -> None:
    real, stood_in = Space(space()), Space(read(space()))
    assert stood_in.digest == real.digest
    assert [gene.labels for gene in stood_in.genes] == [gene.labels for gene in real.genes]
    for genotype in real.enumerate():
        mine, theirs = real.draw_genotype(genotype), stood_in.draw_genotype(genotype)
        assert to_json(mine) == to_json(theirs)
        assert brief(mine) == brief(theirs)
        assert str(mine) == str(theirs)


def test_a_stand_in_is_frozen_and_says_what_it_lacks() -> None:
    part = read(Smooth())
    assert isinstance(part, StandIn)
    assert (type(part).__name__, part.heads, brief(part)) == ("Smooth", 2, "Smooth")
    assert not hasattr(part, "window")
    with pytest.raises(FrozenInstanceError):
        part.heads = 3
    with pytest.raises(NotDefined, match="Smooth was read without the code that defines it, so its build is"):
        part.build(8)
    network = read(Decoder(d_model=8, layers=(Layer(sequence_mixer=Smooth()),)))
    for ask in network.check, lambda: build(network), lambda: network.cost(Scenario()):
        with pytest.raises(SettingError, match="not built, priced or exported"):
            ask()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(part)


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "Odd", "__class__": 1}',
        '{"type": "Odd", "not a name": 1}',
        '{"type": "Odd", "class": 1}',
        '{"type": "Odd"',
        "[" + ",".join(f'{{"type": "K{i}"}}' for i in range(1001)) + "]",
    ],
)
def test_what_nobody_wrote_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        stand_ins(text, {}, {})


@pytest.mark.parametrize("defaults", [{}, {"Smooth": 3}, {"Smooth": {"heads": [1], "other": 2}}])
def test_records_without_defaults_are_read_too(defaults: Any) -> None:
    text = to_json(Smooth())
    assert brief(from_json(text, stand_ins(text, {}, defaults))) == "Smooth(heads=2, decay=0.9)"
