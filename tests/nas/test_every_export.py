"""Every block, every point of the zoo and random hybrids in the formats of other runtimes: hours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.real_models.exports import TOLERANCE, exported, moved, networks
from search_spaces.network.decoder import Decoder
from search_spaces.network.programs import unsupported

pytestmark = pytest.mark.slow
NETWORKS = dict(networks(30))
LIBRARIES = {"onnx": "onnxruntime", "executorch": "executorch"}


@pytest.mark.parametrize("form", LIBRARIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_computes_what_the_network_does(name: str, form: str) -> None:
    pytest.importorskip(LIBRARIES[form])
    prompt = 100 if name.startswith("block") else 16
    found = exported(NETWORKS[name], form, prompt)
    if reason := unsupported(NETWORKS[name]):
        assert reason in found["refused"]
    elif holds_codes(NETWORKS[name]) and found.get("difference", found) > TOLERANCE:
        assert found["difference"] <= moved(NETWORKS[name], prompt)
    else:
        assert found.get("difference", found) <= TOLERANCE


def holds_codes(spec: Decoder) -> bool:
    """Whether activations or decode states are rounded: what lies between two codes falls to either."""
    bits = [layer.bits_at(place) for layer in spec.layers for place in layer.blocks]
    return any(min(each.activation, each.state) < 16 for each in bits)


@pytest.mark.parametrize("form", LIBRARIES)
@pytest.mark.parametrize("block", ["Attention", "GatedDeltaNet", "Hyena", "MLSTM", "Mamba2", "S4"])
def test_prompts_may_be_longer_than_several_chunks(block: str, form: str) -> None:
    pytest.importorskip(LIBRARIES[form])
    assert exported(NETWORKS[f"block {block}"], form, 300)["difference"] <= TOLERANCE


def test_only_layers_that_some_tokens_pass_have_no_program() -> None:
    refused = {name: spec for name, spec in NETWORKS.items() if unsupported(spec)}
    assert list(refused) == ["zoo mixture_of_depths"]
    assert not any(unsupported(without_routers(spec)) for spec in refused.values())


def without_routers(spec: Decoder) -> Decoder:
    layers: tuple[Any, ...] = tuple(replace(layer, routing=None) for layer in spec.layers)
    return replace(spec, layers=layers)
