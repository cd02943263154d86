"""Bits and zeros shared out by need: exact against all choices, within sizes, and what really diverges."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from evaluators.compression.damage import Damage, exchanged
from evaluators.tasks.base import IGNORED
from foundation.errors import SettingError
from nas import cli
from nas.engines.exact.shares import Effect, shared_out
from nas.modification import ModificationSettings, estimates, modify
from nas.modifiers.allocate import Allocate
from nas.modifiers.base import modifier_of
from nas.modifiers.prune import Prune
from nas.modifiers.quantize import Quantize
from nas.study.model_code import load
from nas.tables import library
from nas.training.start import Start
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import save_model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.scenario import Scenario

ATTENTION = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=16), channel_mixer=SwiGLU(expansion=2)
)
RECURRENT = Layer(
    sequence_mixer=GatedDeltaNet(num_heads=2, head_dim=16, state_dim=8), channel_mixer=SwiGLU(expansion=1)
)
SPEC = Decoder(vocab=256, d_model=64, layers=(ATTENTION, RECURRENT))
FEW: dict[str, Any] = {"calibration": 4, "windows": 4}


@pytest.fixture(scope="module")
def network() -> Model:
    """A network whose first layer says little, and whose second says much."""
    model = build(SPEC, seed=1).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith((".wo", ".down")):
                weight.normal_(std=0.02 if name.startswith("layers.0") else 0.3)
    return model


@pytest.fixture
def settings(tmp_path: Path) -> ModificationSettings:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i} bottles of beer on the wall, take {i % 7} down. " for i in range(3000)))
    return ModificationSettings(data=str(path), window=32, validation_windows=4)


@bounded(max_examples=15)
@given(st.data())
def test_shares_are_the_best_of_all_choices(data: st.DataObject) -> None:
    numbers = st.integers(0, 50).map(float)
    table = {
        part: {value: Effect(data.draw(numbers), data.draw(numbers)) for value in range(3)} for part in "abc"
    }
    found = shared_out(table, 1)
    budget = sum(values[1].amount for values in table.values())
    sums = [
        sum(table[part][v].damage for part, v in zip("abc", choice, strict=True))
        for choice in product(range(3), repeat=3)
        if sum(table[part][v].amount for part, v in zip("abc", choice, strict=True)) <= budget
    ]
    assert found.damage == pytest.approx(min(sums))
    assert found.amount <= budget
    assert found.damage == sum(table[part][v].damage for part, v in found.values.items())


def test_damage_is_the_divergence_on_judged_tokens(network: Model) -> None:
    tokens = torch.randint(256, (3, 9), generator=torch.Generator().manual_seed(0))
    targets = tokens.clone()
    targets[:, :4] = IGNORED
    damage = Damage(network, tokens, targets)
    assert damage.of(network).kl == 0
    with torch.no_grad(), exchanged(network, {"embedding": network.embedding * 1.5}):
        moved, said = damage.of(network).kl, network(tokens).softmax(-1)
    before = network(tokens).detach().softmax(-1)
    by_hand = (before * (before / said).log()).sum(-1)[:, 4:].mean()
    assert moved == pytest.approx(float(by_hand), rel=1e-4)
    assert damage.of(network).kl == 0


def test_exchanged_weights_come_back_whatever_happens(network: Model) -> None:
    before = network.embedding.detach().clone()
    change = exchanged(network, {"embedding": before * 0})
    change.__enter__()
    assert not network.embedding.any()
    assert not change.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert torch.equal(network.embedding, before)


def test_bits_go_where_they_are_needed(
    network: Model, settings: ModificationSettings, tmp_path: Path
) -> None:
    begin = Start(network, {})
    (equal,) = modify(begin, [Quantize(bits=4, calibration=4)], tmp_path / "equal", settings)
    allocate = Allocate(groups=(64,), **FEW)
    (done,) = modify(begin, [allocate], tmp_path / "out", settings)
    assert done.after["weight_bytes"] <= equal.after["weight_bytes"]
    made = load(tmp_path / "out")
    first, second = (layer.bits.weight + layer.bits_at("channel_mixer").weight for layer in made.spec.layers)
    assert first < 8 < second
    formats = weight_bits(made)
    assert all(
        torch.equal(round_to_bits(weight, stored), weight)
        for name, weight in made.named_parameters()
        if (stored := formats[name]) is not None
    )
    task = settings.make_task()
    damage = Damage(network, *task.validation())
    assert damage.of(made).kl < 0.7 * damage.of(load(tmp_path / "equal")).kl
    assert done.notes["kept"] == "by need"


def test_zeros_go_where_they_do_least(network: Model, settings: ModificationSettings, tmp_path: Path) -> None:
    begin = Start(network, {})
    (equal,) = modify(begin, [Prune(calibration=4)], tmp_path / "equal", settings)
    allocate = Allocate(of="sparsity", options=(0.2, 0.5, 0.8), **FEW)
    (done,) = modify(begin, [allocate], tmp_path / "out", settings)
    assert done.after["nonzero"] <= equal.after["nonzero"]
    made, task = load(tmp_path / "out"), settings.make_task()
    damage = Damage(network, *task.validation())
    assert damage.of(made).kl < 0.8 * damage.of(load(tmp_path / "equal")).kl
    left = {name: float((w != 0).float().mean()) for name, w in made.named_parameters()}
    assert left["layers.0.channel_mixer.mixer.down"] < left["layers.1.channel_mixer.mixer.down"]


def test_equal_values_stay_where_needs_are_misjudged(
    network: Model, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misjudged(self: Allocate, kind: Any, damage: Damage, work: Any) -> Any:
        return {
            part: {v: Effect(-float(v.bits if "layers.0" in part else -v.bits), v.bits) for v in kind.values}
            for part in kind.parts
        }

    monkeypatch.setattr(Allocate, "_effects", misjudged)
    (done,) = modify(Start(network, {}), [Allocate(**FEW)], tmp_path / "out", settings)
    assert done.notes["kept"] == "equal"
    assert {layer.bits.weight for layer in load(tmp_path / "out").spec.layers} == {4}


def test_time_may_be_bounded_in_the_place_of_bytes(
    network: Model, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(spec: Decoder) -> dict[str, tuple[float, float]]:
        """Only the bits of the first layer take time."""
        first = spec.layers[0]
        return {"decode_ms": (first.bits.weight + first.bits_at("channel_mixer").weight, 0.0)}

    table = SimpleNamespace(scenario=Scenario(), predict=predict, rough={})
    monkeypatch.setattr(library, "named_table", lambda name: table)
    allocate = Allocate(under="decode_ms", table="mine", groups=(64,), method="nearest", **FEW)
    modify(Start(network, {}), [allocate], tmp_path / "out", settings)
    first, second = load(tmp_path / "out").spec.layers
    assert first.bits.weight + first.bits_at("channel_mixer").weight <= 8
    assert second.bits.weight == second.bits_at("channel_mixer").weight == 8


def test_layers_that_share_weights_have_the_same_bits(settings: ModificationSettings, tmp_path: Path) -> None:
    shared = Layer(sequence_mixer=ATTENTION.sequence_mixer, channel_mixer=SwiGLU(), shared="a")
    model = build(Decoder(vocab=256, d_model=64, layers=(shared, RECURRENT, shared)), seed=1)
    modify(Start(model, {}), [Allocate(method="nearest", **FEW)], tmp_path / "out", settings)
    layers = load(tmp_path / "out").spec.layers
    assert layers[0] == layers[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allocate,like=5", "bits must be one of 8, 6, 4, 3, 2, got 5"),
        ("allocate,like=3.5", "bits must be a whole number, got 3.5"),
        ("allocate,of=sparsity,like=4", "sparsity must be less than 1, got 4"),
        ("allocate,of=sparsity,method=gptq", "zeros are chosen by magnitude, wanda, sparsegpt, got gptq"),
        ("allocate,method=wanda", "bits are rounded by nearest, gptq, awq, got wanda"),
        ("allocate,under=decode_ms", "name a latency table"),
        ("allocate,table=mine", "table=mine predicts milliseconds, and under=size bounds bytes: add under="),
        ("allocate,of=sparsity,under=decode_ms,table=mine", "zeros take no less time"),
        ("allocate,groups=", "groups are some of the sizes"),
        ("allocate,groups=7", "groups must be one of"),
        ("allocate,options=9", "bits must be one of"),
    ],
)
def test_values_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        modifier_of(text)


def test_the_size_is_at_most_what_was_told(network: Model) -> None:
    ((_, estimate),) = estimates(Start(network, {}), [Allocate(like=3)])
    assert not estimate.exact
    assert estimate.weight_bytes[1] == Quantize(bits=3).changed(SPEC).cost(Scenario()).weight_bytes
    assert 0 < estimate.flops < math.inf


def test_a_table_that_is_not_there_is_named(
    network: Model, settings: ModificationSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(network, tmp_path / "winner")
    words = ["allocate", str(tmp_path / "winner"), "-o", str(tmp_path / "out"), "--under", "decode_ms"]
    words += ["--table", "nowhere", "--calibration", "2", "--windows", "2", "--data", str(settings.data)]
    assert cli.run([*words, "--window", "16", "--validation-windows", "2"]) == cli.REFUSED
    assert "no table 'nowhere' was imported" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
