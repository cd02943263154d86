"""A supernet is trained on the networks that its space allows, and its errors name the space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluators.supernet.evaluator import FromSupernet
from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.supernet import Subnet, Supernet
from tests.evaluators import tiny


def shallow(spec: Decoder) -> bool:
    return len(spec.layers) < 3


def never(spec: Decoder) -> bool:
    return False


def space_of(*constraints: Any) -> Space:
    layer = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3)))
    root = Decoder(d_model=16, layers=repeat(layer, depths=(1, 2, 3)))
    return Space(root, constraints=constraints, name="shallow convolutions")


def evaluator(folder: Path, space: Space) -> FromSupernet:
    text = folder / "text"
    text.mkdir(exist_ok=True)
    return FromSupernet(
        tiny.task(text), to_json(space.root), str(folder / "supernet"), 3, 0, 2, space_name=space.name
    )


def test_the_training_visits_no_network_that_a_constraint_forbids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited = list[Decoder]()
    plain = Supernet.subnet

    def watched(self: Supernet, spec: Decoder) -> Subnet:
        visited.append(spec)
        return plain(self, spec)

    monkeypatch.setattr(Supernet, "subnet", watched)
    space = space_of(shallow)
    evaluator(tmp_path, space).train(open_space=lambda: space)
    assert visited
    assert all(map(shallow, visited))


def test_a_constraint_that_forbids_everything_is_found_before_training(tmp_path: Path) -> None:
    space = space_of(never)
    with pytest.raises(SpaceError, match=r"shallow convolutions.*never"):
        evaluator(tmp_path, space).train(open_space=lambda: space)


def test_errors_of_a_trained_supernet_name_its_space(tmp_path: Path) -> None:
    scored = evaluator(tmp_path, space_of())
    scored.train()
    stranger = Decoder(d_model=16, layers=(Layer(sequence_mixer=ShortConv(kernel=4)),))
    with pytest.raises(IllegalArchitecture, match="the supernet of shallow convolutions"):
        scored.score(stranger, 3, 0)
