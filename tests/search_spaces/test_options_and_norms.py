"""Every option of a layer with every norm, in spaces of odd sizes: slices, mixtures, decode and costs."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from foundation.errors import SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.mixture import Mixture
from search_spaces.mixture.relaxable import check_space
from search_spaces.network.decoder import OPTIONS, Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import WEIGHTS, load_model, save_model
from search_spaces.network.norms.base import Norm
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet
from tests.search_spaces.networks import (
    ABSENT,
    NORMS,
    OPTION_VALUES,
    decoded,
    doubled,
    own_weights,
    randomised,
    text,
)

VOCAB, SPECS = 13, 6
CASES = pytest.mark.parametrize(
    ("name", "value", "norm"),
    [
        pytest.param(name, value, norm, id=f"{name}-{type(norm).__name__}")
        for name, value in OPTION_VALUES
        for norm in NORMS
    ],
)


def space_of(name: str, value: Any, norm: Norm) -> Space:
    """Widths, heads, kernels and hidden channels that are multiples of nothing in common."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=3, num_kv_heads=one_of(1, 3), head_dim=6),
            RGLRU(num_heads=3, head_dim=5),
            ShortConv(kernel=one_of(2, 5)),
        ),
        channel_mixer=one_of(None, SwiGLU(expansion=one_of(0.7, 1.4)), MoE(num_experts=3, expansion=1)),
        **({"bits": Bits(weight=one_of(16, 4))} | OPTIONS[name].beside()),
        **{name: one_of(ABSENT[name], value)},
    )
    stack = repeat(layer, depths=(1, 2))
    return Space(Decoder(vocab=VOCAB, d_model=one_of(9, 11, 15), layers=stack, norm=norm))


def specs_with(space: Space, name: str) -> list[Decoder]:
    """Random networks, half of which have the option in some layer."""
    specs, dice = list[Decoder](), Random(5)
    while len(specs) < SPECS:
        spec = space.close(space.sample(dice))
        if any(name in layer.options for layer in spec.layers) == bool(len(specs) % 2):
            specs.append(spec)
    return specs


@CASES
class TestEveryOptionWithEveryNorm:
    @torch.no_grad()
    def test_a_slice_computes_what_its_copy_does(self, name: str, value: Any, norm: Norm) -> None:
        space = space_of(name, value, norm)
        supernet = randomised(space)
        for number, spec in enumerate(specs_with(space, name)):
            subnet, tokens = supernet.subnet(spec), text(VOCAB, 2, 1 + 5 * number, number)
            subnet.module.eval()
            assert torch.equal(subnet(tokens), subnet.extract().eval()(tokens)), str(spec)

    def test_a_mixture_is_its_subnet_or_refuses_the_space(self, name: str, value: Any, norm: Norm) -> None:
        space = space_of(name, value, norm)
        reason = OPTIONS[name].not_relaxable
        if reason:
            with pytest.raises(SpaceError) as error:
                check_space(space)
            assert str(error.value) == (
                f"layers.0.{name}: {reason}; search it with an engine that reads one architecture at a time"
            )
            return
        supernet = randomised(space)
        mixture, weights = Mixture(supernet), doubled(supernet)
        for number, spec in enumerate(specs_with(space, name)):
            shares = mixture.one_hot(space.genotype_of(spec), torch.float64)
            subnet, tokens = supernet.subnet(spec), text(VOCAB, 2, 3 + number)
            mixed = mixture(tokens, shares, weights=weights)
            expected = subnet(tokens, own_weights(subnet, weights))
            torch.testing.assert_close(mixed, expected, rtol=1e-9, atol=1e-9, msg=str(spec))

    def test_decode_continues_what_was_read(self, name: str, value: Any, norm: Norm) -> None:
        space = space_of(name, value, norm)
        supernet = randomised(space)
        for number, spec in enumerate(specs_with(space, name)):
            model, tokens = supernet.subnet(spec).extract().double().eval(), text(VOCAB, 2, 19, number)
            with torch.no_grad():
                whole = model(tokens)
                torch.testing.assert_close(model(tokens, segment=7), whole, rtol=1e-9, atol=1e-9)
            for prompt in (1, 12):
                torch.testing.assert_close(decoded(model, tokens, prompt), whole, rtol=1e-9, atol=1e-9)

    def test_the_cost_is_that_of_what_is_built(
        self, name: str, value: Any, norm: Norm, tmp_path: Path
    ) -> None:
        for number, spec in enumerate(specs_with(space_of(name, value, norm), name)):
            cost, model = spec.cost(Scenario()), build(spec)
            assert cost.params == sum(p.numel() for p in model.parameters()), str(spec)
            folder = save_model(model, tmp_path / str(number))
            stored = load_file(folder / WEIGHTS)
            assert cost.weight_bytes == sum(t.numel() * t.itemsize for t in stored.values()), str(spec)
            assert load_model(folder).spec == spec == from_json(to_json(spec))

    def test_gradients_of_leaves_reach_the_slices_and_nothing_else(
        self, name: str, value: Any, norm: Norm
    ) -> None:
        space = space_of(name, value, norm)
        supernet, spec = Supernet(space), specs_with(space, name)[1]
        subnet, losses = supernet.subnet(spec), list[torch.Tensor]()
        leaves = subnet.leaves()
        logits = subnet(text(VOCAB, 2, 9), subnet.rounded(leaves), losses=losses)
        sum(losses, logits.square().mean()).backward()
        supernet.accumulate(subnet, leaves)
        for binding in subnet.bindings:
            grad, own = supernet.weights[binding.key].grad, leaves[binding.name].grad
            assert grad is not None
            assert own is not None
            assert torch.equal(grad[binding.index], own), binding.name
            assert grad.count_nonzero() == own.count_nonzero(), binding.name
        used = {binding.key for binding in subnet.bindings}
        assert all(w.grad is None for key, w in supernet.weights.items() if key not in used)
