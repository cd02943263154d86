"""The contract of layer options, for every field of a layer that holds one."""

from __future__ import annotations

from dataclasses import fields
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.mixture import Mixture
from search_spaces.mixture.relaxable import check_relaxable
from search_spaces.network.decoder import OPTIONS, Decoder, Layer, strip
from search_spaces.network.model import build
from search_spaces.network.model_files import WEIGHTS, save_model
from search_spaces.network.options.base import LayerOption, option_bytes, option_shapes
from search_spaces.network.shell import Shell
from search_spaces.parameter_axes import WIDTH
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

SHELL = Shell(vocab=13, d_model=16)
VALUES = [(name, value) for name, kind in OPTIONS.items() for value in kind.examples()]


def layer(name: str, value: Any) -> Layer:
    mixer = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
    return Layer(
        sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=2), **OPTIONS[name].beside(), **{name: value}
    )


def default_of(name: str) -> Any:
    return next(part.default for part in fields(Layer) if part.name == name)


def network(name: str, value: Any, d_model: int = 16) -> Decoder:
    return Decoder(vocab=13, d_model=d_model, layers=(layer(name, value),) * 2)


def option_in(name: str, value: Any) -> LayerOption:
    option = OPTIONS[name].of(value)
    assert option is not None
    return option


def text(batch: int, count: int) -> Tensor:
    return torch.randint(13, (batch, count), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "value"), VALUES)
class TestEveryOption:
    def test_it_is_absent_by_default_and_present_with_its_values(self, name: str, value: Any) -> None:
        assert layer(name, value).options == {name: option_in(name, value)}
        default = default_of(name)
        assert OPTIONS[name].of(default) is None
        assert not layer(name, default).options

    def test_a_value_of_another_kind_is_refused(self, name: str, value: Any) -> None:
        with pytest.raises(IllegalArchitecture):
            network(name, 3.5).check()

    def test_its_layout_has_every_axis_of_its_parameters(self, name: str, value: Any) -> None:
        shapes, layout = option_shapes(option_in(name, value), SHELL), OPTIONS[name].layout()
        assert layout.axes.keys() >= shapes.keys()
        assert layout.sizes(shapes) == ({WIDTH: SHELL.d_model} if shapes else {})

    def test_its_parameters_are_filled_and_counted(self, name: str, value: Any) -> None:
        module = option_in(name, value).build(SHELL)
        counted = option_in(name, value).cost(SHELL, Scenario()).params
        assert counted == sum(p.numel() for p in module.parameters()) if module is not None else not counted
        if module is not None:
            with torch.no_grad():
                module.reset_parameters(torch.Generator().manual_seed(0))
            assert all(p.isfinite().all() and p.any() for p in module.parameters())

    def test_the_price_is_that_of_what_is_built_and_exported(
        self, name: str, value: Any, tmp_path: Any
    ) -> None:
        spec = network(name, value)
        cost, model = spec.cost(Scenario()), build(spec)
        assert cost.params == sum(p.numel() for p in model.parameters())
        saved = load_file(save_model(model, tmp_path / "model") / WEIGHTS)
        assert cost.weight_bytes == sum(t.numel() * t.itemsize for t in saved.values())
        plain = network(name, default_of(name))
        if name != "shared":
            more = cost.weight_bytes - plain.cost(Scenario()).weight_bytes
            own = layer(name, value).norm_in(spec.norm).sublayer_params(spec.d_model)
            norms = 2 * 2 * 4 * (own - spec.norm.sublayer_params(spec.d_model))  # of two halves in two layers
            assert more == 2 * option_bytes(option_in(name, value), SHELL) + norms

    def test_it_survives_json(self, name: str, value: Any) -> None:
        assert from_json(to_json(network(name, value))) == network(name, value)

    def test_a_strip_names_it(self, name: str, value: Any) -> None:
        assert str(option_in(name, value)) in strip(layer(name, value))

    def test_prefill_and_steps_agree(self, name: str, value: Any) -> None:
        model, tokens = build(network(name, value)).double().eval(), text(2, 20)
        with torch.no_grad():
            whole = model(tokens)
            logits, state = model.prefill(tokens[:, :19])
            last, _ = model.step(tokens[:, 19], state)
        torch.testing.assert_close(torch.cat((logits, last[:, None]), dim=1), whole, rtol=1e-9, atol=1e-9)

    def test_a_slice_is_its_copy(self, name: str, value: Any) -> None:
        absent = default_of(name)
        part = layer(name, one_of(absent, value))
        space = Space(Decoder(vocab=13, d_model=one_of(8, 16), layers=(part,) * 2))
        supernet, seen = Supernet(space), set[bool]()
        with torch.no_grad():
            for weight in supernet.parameters():
                weight.normal_(generator=torch.Generator().manual_seed(weight.numel()), std=0.3)
            for seed in range(8):
                spec = space.close(space.sample(Random(seed)))
                subnet = supernet.subnet(spec)
                subnet.module.eval()
                assert torch.equal(subnet(text(2, 9)), subnet.extract().eval()(text(2, 9)))
                seen |= {bool(part.options) for part in spec.layers}
        assert seen == {True, False}

    def test_a_mixture_computes_it_or_refuses_it_with_the_reason(self, name: str, value: Any) -> None:
        absent = default_of(name)
        part = layer(name, one_of(absent, value))
        space = Space(Decoder(vocab=13, d_model=one_of(8, 16), layers=(part,) * 2))
        supernet, reason = Supernet(space), OPTIONS[name].not_relaxable
        if reason:
            with pytest.raises(SpaceError, match=rf"^layers\.0\.{name}: {reason}"):
                Mixture(supernet)
            with pytest.raises(SpaceError, match=reason):
                check_relaxable(part, "layers.0")
            return
        mixture = Mixture(supernet)
        for seed in range(6):
            genotype = space.sample(Random(seed))
            mixed = mixture(text(2, 9), mixture.one_hot(genotype))
            torch.testing.assert_close(
                mixed, supernet.subnet(space.close(genotype))(text(2, 9)), rtol=1e-4, atol=1e-4
            )


def test_shapes_are_static_without_the_options_that_depend_on_values() -> None:
    for name, value in VALUES:
        part = layer(name, value)
        assert bool(part.not_static) == bool(OPTIONS[name].not_static)
        static = {} if OPTIONS[name].not_static else part.options
        assert part.with_static_shapes().options == static


def test_a_layer_gives_the_first_reason_that_its_sublayers_do_not_add_up() -> None:
    assert layer("shared", None).not_additive == ""
    for name, value in VALUES:
        assert layer(name, value).not_additive == OPTIONS[name].not_additive
