"""Rates and starts that transfer: what a step changes in a network does not depend on its width."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from evaluators.training.optimizers.adamw import AdamW
from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.parameter_roles import block_roles, option_roles
from search_spaces.network.residual import Residual
from search_spaces.network.scaling import BASE_WIDTH, ELEMENTWISE, Role, scaled_rate
from search_spaces.network.shell import Shell
from search_spaces.supernet import Supernet

WIDTHS = (64, 256, 1024)
VOCAB, STEPS = 64, 4
FLAT = 3.0
"""By how much an activation or its change may differ between widths; without the rules it is 18 and more."""

GROWING = ("num_heads", "num_kv_heads", "channels")


def kinds() -> list[Any]:
    return [pytest.param(kind, id=name) for name, kind in blocks.items() if kind is not Skip]


def at_width(kind: type[Block], d_model: int) -> Block:
    """The first example of a kind, with as many more heads or channels as the width is larger."""
    block = kind.examples()[0]
    sizes = {
        field.name: getattr(block, field.name) * (d_model // WIDTHS[0])
        for field in fields(block)
        if field.name in GROWING and getattr(block, field.name) > 1
    }
    return replace(block, **sizes)


def network(block: Block, d_model: int) -> Model:
    mixes = block.mixes == "sequence"
    layer = Layer(
        sequence_mixer=block if mixes else Attention(num_heads=d_model // 32, num_kv_heads=1, head_dim=32),
        channel_mixer=SwiGLU(expansion=2) if mixes else block,
    )
    return build(Decoder(vocab=VOCAB, d_model=d_model, layers=(layer, layer)), seed=1)


def coordinates(model: Model, *, steps: int = STEPS) -> dict[str, float]:
    """Root mean squares of what every sublayer adds and of the logits, before training and their change."""
    found: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, Residual):
            module.register_forward_hook(
                lambda _, inputs, mixed, path=path: found.__setitem__(path, (mixed.y - inputs[0]).detach())
            )
    dice = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCAB, (4, 33), generator=dice)
    optimizer = AdamW(decay=0.0).make(dict(model.named_parameters()), model.learning_rates(), model.roles())

    def read() -> dict[str, torch.Tensor]:
        logits = model(tokens[:, :-1])
        return {**found, "logits": logits.detach()}

    before = read()
    for _ in range(steps):
        losses: list[torch.Tensor] = []
        logits = model(tokens[:, :-1], losses)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        sum(losses, start=loss).backward()
        optimizer.step()
    after = read()
    # untrained logits may shrink: what is learned outweighs them (Yang et al. 2022, appendix D.2)
    size = {f"{name} at the start": rms(value) for name, value in before.items() if name != "logits"}
    return size | {f"{name}, changed": rms(after[name] - before[name]) for name in before}


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


@pytest.mark.parametrize("kind", kinds())
def test_activations_and_what_steps_change_are_alike_from_width_64_to_1024(kind: type[Block]) -> None:
    read = {}
    for d_model in WIDTHS:
        block = at_width(kind, d_model)
        try:
            block.check(d_model)
        except IllegalArchitecture as error:
            pytest.fail(f"{kind.__name__} at {d_model}: {error}")
        read[d_model] = coordinates(network(block, d_model))
    for name, base in read[WIDTHS[0]].items():
        ratios = {d_model: read[d_model][name] / base for d_model in WIDTHS[1:]}
        assert all(1 / FLAT < ratio < FLAT for ratio in ratios.values()), (name, base, ratios)


def test_a_token_does_not_predict_itself_by_the_root_of_the_width() -> None:
    for d_model in WIDTHS:
        model = build(
            Decoder(
                vocab=VOCAB, d_model=d_model, layers=(Layer(sequence_mixer=Skip(), channel_mixer=SwiGLU()),)
            )
        )
        tokens = torch.arange(VOCAB)[:, None]
        own = model(tokens)[:, 0].diagonal().mean().item()
        assert own < 1.3 * math.sqrt(BASE_WIDTH)


def test_roles_tell_matrices_from_what_works_entry_by_entry() -> None:
    roles = block_roles(GatedDeltaNet(num_heads=2, head_dim=16, state_dim=8), 48)
    assert roles["wqk"] == Role("matrix", 48, stacked_axes=1)
    assert roles["wo"] == Role("matrix", 32, input_axes=2)
    assert {roles[name] for name in ("conv_qk", "conv_v", "norm", "a_log", "dt_bias")} == {ELEMENTWISE}
    experts = block_roles(MoE(num_experts=4, expansion=2), 48)
    assert experts["down"] == Role("matrix", 96, stacked_axes=1)
    assert experts["router"] == Role("matrix", 48)
    shell = Shell(VOCAB, 48)
    assert shell.roles["embedding"].kind == "embedding"
    assert shell.roles["norm"].kind == "readout"
    assert option_roles(MixtureOfDepths(), shell)["weight"] == Role("matrix", 48)
    assert option_roles(EarlyExit(), shell) == {"norm": ELEMENTWISE, "head": Role("matrix", 48)}


def test_every_elementwise_parameter_that_a_block_names_is_one_of_its_own() -> None:
    for name, kind in blocks.items():
        there = {n for block in kind.examples() for n in block_roles(block, BASE_WIDTH)}
        assert kind.elementwise <= there, name


@pytest.mark.parametrize("fan_in", [8, 64, 128, 1024])
def test_rates_fall_with_the_fan_in_beyond_the_base(fan_in: int) -> None:
    share = min(1.0, 64 / fan_in)
    assert scaled_rate(0.01, Role("matrix", fan_in)) == pytest.approx(0.01 * share)
    assert scaled_rate(0.01, Role("embedding", fan_in)) == pytest.approx(0.01 * share**0.5)
    assert scaled_rate(0.01, Role("readout", fan_in)) == pytest.approx(0.01 * share**0.5)
    assert scaled_rate(0.01, Role("elementwise", fan_in)) == 0.01


def test_a_weight_of_several_widths_learns_between_their_rates() -> None:
    layer = Layer(sequence_mixer=Skip(), channel_mixer=SwiGLU(expansion=1))
    space = Space(Decoder(vocab=VOCAB, d_model=one_of(64, 256), layers=repeat(layer, depths=(1,))))
    supernet = Supernet(space)
    rate = SwiGLU.learning_rate
    assert supernet.rates["layers.0.channel_mixer:SwiGLU.mixer.up"] == pytest.approx(rate / 2)
    assert supernet.roles["layers.0.channel_mixer:SwiGLU.mixer.up"] == Role("matrix", 256)
    assert supernet.rates["layers.0.channel_mixer:SwiGLU.norm"] == rate
    assert supernet.weights["norm"].max().item() == pytest.approx(0.5)
