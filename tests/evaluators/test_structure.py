"""Structured pruning: what goes is a unit, what stays is sliced, and importance is its definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evaluators.compression.structure import (
    UNITS,
    cut_of,
    least_needed,
    pruned,
    with_layers,
    without_units,
)
from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build

ATTENTION = Attention(num_heads=4, num_kv_heads=2, head_dim=8)
WIDTH = 16


def network(*layers: Layer) -> Model:
    model = build(Decoder(vocab=32, d_model=WIDTH, layers=layers), seed=1).eval()
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.empty_like(weight).normal_(generator=dice)
    return model


def alone(block: Block) -> Model:
    if block.mixes == "sequence":
        return network(Layer(sequence_mixer=block))
    return network(Layer(sequence_mixer=ATTENTION, channel_mixer=block))


def batch(windows: int = 3, length: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(0, 32, (windows, length + 1), generator=torch.Generator().manual_seed(7))
    return tokens[:, :-1], tokens[:, 1:]


def possible(block: Block, unit: str) -> bool:
    try:
        return cut_of(block, WIDTH, unit, 0.5) is not None
    except IllegalArchitecture:  # two experts, of which two are chosen
        return False


CASES = [(name, unit) for name in blocks for unit in UNITS if possible(blocks[name].examples()[0], unit)]


def test_the_usual_blocks_have_units() -> None:
    cut = {name: {unit for one, unit in CASES if one == name} for name, _ in CASES}
    assert cut["Attention"] == {"heads"}
    assert cut["SwiGLU"] == cut["MLP"] == {"channels"}
    assert cut["Mamba2"] == {"heads", "states"}
    assert cut["Mamba"] == {"channels", "states"}
    assert cut["MoE"] == {"channels", "experts"}
    assert "heads" not in cut.get("Retention", set())  # their decays are a ladder


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_every_block_that_has_units_loses_them(name: str, unit: str) -> None:
    block = blocks[name].examples()[0]
    model, (tokens, targets) = alone(block), batch()
    smaller = pruned(model, unit, [0.5], (tokens, targets))
    assert smaller.spec == without_units(model.spec, unit, [0.5])
    assert smaller(tokens).isfinite().all()
    own = smaller.spec.layers[0].blocks["sequence_mixer" if block.mixes == "sequence" else "channel_mixer"]
    before, after = parameter_shapes(block, WIDTH), parameter_shapes(own, WIDTH)
    assert sum(map(torch.Size.numel, map(torch.Size, after.values()))) < sum(
        map(torch.Size.numel, map(torch.Size, before.values()))
    )


def test_units_that_put_out_nothing_go_and_the_function_stays() -> None:
    layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2))
    model, (tokens, targets) = network(layer), batch()
    sequence, channels = (model.decoder_layers[0].sublayers[place].mixer for place in layer.blocks)
    with torch.no_grad():
        sequence.wo[:, [0, 3]] = 0  # one head of each group: heads are G H
        channels.down[:, ::2] = 0
    before = model(tokens)
    smaller = pruned(model, "channels", [0.5], (tokens, targets))
    assert torch.equal(smaller.layers[0].channel_mixer.mixer.up, channels.up[1::2])
    smaller = pruned(smaller, "heads", [0.5], (tokens, targets))
    assert smaller.spec.layers[0].sequence_mixer == Attention(num_heads=2, num_kv_heads=2, head_dim=8)
    assert torch.equal(smaller.layers[0].sequence_mixer.mixer.wq, sequence.wq[[1, 2]])
    torch.testing.assert_close(smaller(tokens), before)


def test_an_expert_loses_channels_of_its_own() -> None:
    model, examples = alone(MoE(num_experts=3, top_k=1, expansion=1)), batch()
    mixer = model.decoder_layers[0].sublayers["channel_mixer"].mixer
    with torch.no_grad():
        for expert in range(3):
            mixer.down[expert, :, expert :: 2 if expert < 2 else 1] = 0
    smaller = pruned(model, "channels", [0.5], examples)
    up = smaller.layers[0].channel_mixer.mixer.up
    assert torch.equal(up[0], mixer.up[0, 1::2])
    assert torch.equal(up[1], mixer.up[1, 0::2])


def test_the_effect_of_a_channel_is_that_of_its_output_on_each_window() -> None:
    model, (tokens, targets) = alone(SwiGLU(expansion=1)), batch()
    mixer, total = model.decoder_layers[0].sublayers["channel_mixer"].mixer, torch.zeros(WIDTH)
    for window, wanted in zip(tokens, targets, strict=True):
        loss = F.cross_entropy(model(window[None])[0], wanted)
        (gradient,) = torch.autograd.grad(loss, [mixer.down])
        total += (mixer.down * gradient).sum(0).square().detach()
    kept = total.topk(4).indices.sort().values
    smaller = pruned(model, "channels", [0.75], (tokens, targets))
    assert torch.equal(smaller.layers[0].channel_mixer.mixer.up, mixer.up[kept])


def test_by_magnitude_the_heaviest_stay() -> None:
    model, examples = alone(Mamba2(num_heads=4, head_dim=4, state_dim=4)), batch()
    mixer = model.decoder_layers[0].sublayers["sequence_mixer"].mixer
    with torch.no_grad():
        mixer.wx[2] *= 50
        mixer.wo[:, 2] *= 50
    smaller = pruned(model, "heads", [0.75], examples, "magnitude")
    assert torch.equal(smaller.layers[0].sequence_mixer.mixer.wx, mixer.wx[2:3])


def test_the_layer_goes_whose_absence_costs_least() -> None:
    layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=1))
    model, examples = network(layer, layer, layer), batch()
    with torch.no_grad():
        for sublayer in model.decoder_layers[1].sublayers.values():
            for name, weight in sublayer.mixer.named_parameters():
                weight.mul_(0 if name in ("wo", "down") else 1)
    losses = {}
    for kept in ([1, 2], [0, 2], [0, 1]):
        said = with_layers(model, kept)(examples[0]).detach()
        losses[float(F.cross_entropy(said.flatten(0, 1), examples[1].flatten()))] = kept
    assert least_needed(model, 1, examples) == losses[min(losses)]
    shorter = with_layers(model, [0, 2])
    torch.testing.assert_close(shorter(examples[0]), model(examples[0]))
    assert [name for name, _ in shorter.named_parameters()] == [
        name for name, _ in build(shorter.spec).named_parameters()
    ]


def test_layers_that_share_weights_lose_them_once() -> None:
    layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=1), shared="both")
    model, examples = network(layer, layer), batch()
    smaller = pruned(model, "channels", [0.5, 0.5], examples)
    assert smaller.layers[0] is smaller.layers[1]
    with pytest.raises(IllegalArchitecture, match="shares its weights"):
        without_units(model.spec, "channels", [0.5, 0.25]).check()


def test_what_cannot_be_is_said_with_its_layer() -> None:
    layer = Layer(sequence_mixer=Retention(), channel_mixer=MoE(num_experts=4, top_k=2))
    spec = Decoder(vocab=32, d_model=WIDTH, layers=(layer,))
    with pytest.raises(IllegalArchitecture, match=r"layers\.0: .*top_k"):
        without_units(spec, "experts", [0.75])
    assert without_units(spec, "heads", [0.5]) == spec
