"""What cannot be a network, a space or an export is refused: what is wrong, where, what is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from foundation.errors import IllegalArchitecture, NasError, SettingError, SpaceError, UnknownName
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import from_plain, kind_named, to_plain
from search_spaces.language.space import Space
from search_spaces.language.variation import mutate
from search_spaces.mixture.relaxable import check_space
from search_spaces.network.decode_state import DecodeState
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import CONFIG, WEIGHTS, load_model, read_config, save_model
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.sublayers import decoders_in
from search_spaces.quantization.bits import Bits
from tests.search_spaces.networks import text

MIXER = ShortConv(kernel=2)
LAYER = Layer(sequence_mixer=MIXER)


def network(**fields: Any) -> Decoder:
    return Decoder(**({"vocab": 7, "d_model": 8, "layers": (LAYER, LAYER)} | fields))


def with_layer(**fields: Any) -> Decoder:
    """A network whose second layer has these fields."""
    return network(layers=(LAYER, replace(LAYER, **fields)))


SHARED = Layer(sequence_mixer=MIXER, shared="weights")

ILLEGAL: list[tuple[Decoder, str]] = [
    (network(vocab=0), "vocab must be a positive integer, got 0"),
    (network(d_model=8.0), "d_model must be a positive integer, got 8.0"),
    (network(norm="rms"), "norm must be a norm such as RMSNorm(), got 'rms'"),
    (network(norm=LayerNorm(epsilon=1)), "LayerNorm: epsilon must be in (0, 1), got 1"),
    (
        with_layer(sequence_mixer=SwiGLU(expansion=1)),
        "layers.1: sequence_mixer must be a block that mixes sequence, got"
        " SwiGLU(expansion=1, activation='silu', biases=False)",
    ),
    (
        with_layer(channel_mixer=MIXER),
        "layers.1: channel_mixer must be a block that mixes channels, got ShortConv(kernel=2)",
    ),
    (
        with_layer(sequence_mixer=None),
        "layers.1: sequence_mixer must be a block that mixes sequence, got None",
    ),
    (with_layer(shared="two words"), "layers.1: shared must be a name such as 'attention', got 'two words'"),
    (with_layer(shared=3), "layers.1: shared must be a name such as 'attention', got 3"),
    (with_layer(reads_embedding=1), "layers.1: reads_embedding must be true or false, got 1"),
    (with_layer(routing=0.5), "layers.1: expected MixtureOfDepths or None, got 0.5"),
    (with_layer(exit=True), "layers.1: expected EarlyExit or None, got True"),
    (
        with_layer(routing=MixtureOfDepths(capacity=0.0)),
        "layers.1: MixtureOfDepths: capacity must be in (0, 1], got 0.0",
    ),
    (
        with_layer(routing=MixtureOfDepths(balance=-1.0)),
        "layers.1: MixtureOfDepths: balance must be positive, got -1.0",
    ),
    (
        with_layer(exit=EarlyExit(threshold=True)),
        "layers.1: EarlyExit: threshold must be in (0, 1], got True",
    ),
    (with_layer(exit=EarlyExit(share=1.0)), "layers.1: EarlyExit: share must be in [0, 1), got 1.0"),
    (with_layer(exit=EarlyExit(weight=0)), "layers.1: EarlyExit: weight must be positive, got 0"),
    (
        with_layer(bits=Bits(state=5)),
        "layers.1: Bits(state=5): known widths are (16, 8, 4)",
    ),
    (
        network(layers=(SHARED, LAYER, replace(SHARED, channel_mixer=SwiGLU()))),
        "layers.2 shares its weights with layers.0 as 'weights', so both must be the same",
    ),
    (
        with_layer(sequence_mixer=Attention(num_heads=3, num_kv_heads=2)),
        "layers.1: Attention: num_heads=3 must be a multiple of num_kv_heads=2",
    ),
]


@pytest.mark.parametrize(("spec", "message"), ILLEGAL, ids=[message for _, message in ILLEGAL])
def test_a_network_that_cannot_be_built_says_where_and_why(spec: Decoder, message: str) -> None:
    for refuse in (spec.check, lambda: build(spec), lambda: Space(spec).check(spec)):
        with pytest.raises(IllegalArchitecture) as error:
            refuse()
        assert str(error.value) == message


def small(**fields: Any) -> Space:
    root = Decoder(vocab=7, d_model=one_of(8, 9), layers=(LAYER,))
    return Space(root, **({"name": "small"} | fields))


def never(spec: Decoder) -> bool:
    return False


GENOTYPE = Genotype({"d_model": 8})

LANGUAGE: list[tuple[Callable[[], object], type[NasError], str]] = [
    (lambda: one_of(), SpaceError, "one_of() needs at least one option"),
    (
        lambda: one_of(1, 2, name="a b"),
        SpaceError,
        "a shared choice needs a name of letters, digits and _, got 'a b'",
    ),
    (
        lambda: one_of(one_of(1, 2), 3),
        SpaceError,
        "one_of directly inside one_of: write the options side by side",
    ),
    (
        lambda: one_of(1, 2, 1),
        SpaceError,
        "options 0 and 2 of one_of(1, 2, 1) can both become the same value: make them disjoint, or one"
        " architecture has two names",
    ),
    (lambda: repeat(LAYER, (1, -1)), SpaceError, "repeat: depths must be whole numbers, got -1"),
    (lambda: repeat(LAYER, (True,)), SpaceError, "repeat: depths must be whole numbers, got True"),
    (
        lambda: Space(network(layers=[LAYER])),
        SpaceError,
        "at layers: a list cannot be part of a space; use a tuple",
    ),
    (
        lambda: Space(network(layers=(LAYER, Layer))),
        SpaceError,
        "at layers.1: Layer is a class; write Layer()",
    ),
    (
        lambda: Space({1, 2}),
        SpaceError,
        "at the top: a set cannot be part of a space; use plain values, tuples and dataclasses",
    ),
    (lambda: small(constraints=["x"]), SpaceError, "a constraint is a function of the architecture, got 'x'"),
    (
        lambda: small(constraints=[never]).sample(Random(0)),
        SpaceError,
        "small: none of 1000 candidates is allowed (1000 times: violates the constraint never)",
    ),
    (
        lambda: mutate(small(constraints=[never]), GENOTYPE, Random(0)),
        SpaceError,
        f"small: none of 1000 mutants of {GENOTYPE.digest} is allowed",
    ),
    (
        lambda: small(constraints=[never]).close(GENOTYPE),
        IllegalArchitecture,
        "violates the constraint never",
    ),
    (
        lambda: small().close(Genotype({})),
        IllegalArchitecture,
        f"{Genotype({}).digest} leaves d_model open",
    ),
    (lambda: small().close(Genotype({"d_model": 7})), IllegalArchitecture, "d_model: 7 is not among (8, 9)"),
    (
        lambda: small().close(Genotype({"d_model": 8, "b": 1, "a": 2})),
        IllegalArchitecture,
        f"{Genotype({'d_model': 8, 'b': 1, 'a': 2}).digest} answers what nobody asks: a, b",
    ),
    (
        lambda: small().genotype_of(network()),
        IllegalArchitecture,
        "the architecture is no closing of this space",
    ),
    (lambda: from_plain({"a": 1}), SpaceError, "expected a 'type', 'one_of' or 'repeat', got the keys ['a']"),
    (
        lambda: from_plain({"type": "Decoder", "width": 8}),
        UnknownName,
        "Decoder has no field 'width'; known: d_model, embedding, head, layers, norm, soft_prompt, vocab",
    ),
    (lambda: from_plain({"type": "Decoder"}), SpaceError, "Decoder needs d_model, layers"),
    (
        lambda: kind_named("LayerNrom"),
        UnknownName,
        "unknown block or part 'LayerNrom'; did you mean 'LayerNorm'?",
    ),
    (
        lambda: list(decoders_in(one_of(network(), LAYER))),
        SpaceError,
        "this needs a space of Decoder, not of Layer",
    ),
    (
        lambda: check_space(Space(network(vocab=one_of(7, 8)))),
        SpaceError,
        "vocab: vocabularies of different sizes cannot be mixed",
    ),
]


@pytest.mark.parametrize(("act", "kind", "message"), LANGUAGE, ids=[message for _, _, message in LANGUAGE])
def test_a_wrong_space_says_what_would_be_right(
    act: Callable[[], object], kind: type[NasError], message: str
) -> None:
    with pytest.raises(kind) as error:
        act()
    assert str(error.value) == message


def test_a_lambda_is_named_by_where_it_is_written() -> None:
    space = small(constraints=[lambda spec: False])
    with pytest.raises(
        IllegalArchitecture, match=r"^violates the constraint lambda at test_network_errors\.py:\d+$"
    ):
        space.close(GENOTYPE)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return save_model(build(network(), seed=1), tmp_path / "model", {"from": "a test"})


def test_an_export_keeps_what_is_said_about_it(exported: Path) -> None:
    assert read_config(exported)["about"] == {"from": "a test"}
    assert {path.name for path in exported.iterdir()} == {CONFIG, WEIGHTS}
    with pytest.raises(SettingError, match=r"holds an exported model: .* replace it with force=True"):
        save_model(build(network(), seed=2), exported)
    save_model(build(network(), seed=2), exported, force=True)
    assert read_config(exported)["about"] == {}


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingError) as error:
        save_model(build(network()), tmp_path)
    assert str(error.value) == f"{tmp_path} is not empty and holds no exported model: choose another folder"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as error:
        load_model(tmp_path)
    assert str(error.value) == f"{tmp_path} holds no exported model ({CONFIG} is missing)"


@pytest.mark.parametrize("harm", ["text", "type", "illegal", "weights", "other weights", "no weights"])
def test_a_damaged_export_is_refused_with_its_path(exported: Path, harm: str) -> None:
    config = read_config(exported)
    if harm == "text":
        (exported / CONFIG).write_text("{")
    elif harm == "type":
        config["spec"]["layers"][0]["sequence_mixer"]["type"] = "ShortConf"
        (exported / CONFIG).write_text(json.dumps(config))
    elif harm == "illegal":
        config["spec"]["layers"][0]["sequence_mixer"]["kernel"] = 0
        (exported / CONFIG).write_text(json.dumps(config))
    elif harm == "weights":
        (exported / WEIGHTS).write_bytes(b"nothing")
    elif harm == "other weights":
        (exported / CONFIG).write_text(json.dumps(config | {"spec": to_plain(network(d_model=9))}))
    else:
        (exported / WEIGHTS).unlink()
    reasons = {
        "text": f"{exported / CONFIG} cannot be read: ",
        "type": f"{exported}: the architecture cannot be read: unknown block or part 'ShortConf'; did",
        "illegal": f"{exported}: the architecture cannot be read: layers.0: ShortConv: kernel must be",
    }
    start = reasons.get(harm, f"{exported}: the weights do not fit the architecture: ")
    with pytest.raises(SettingError) as error:
        load_model(exported)
    assert str(error.value).startswith(start)


def test_a_prompt_must_have_tokens_and_a_position_that_is_a_number() -> None:
    model = build(network())
    with pytest.raises(SettingError, match=r"^prefill needs at least one token$"):
        model.prefill(text(7, 2, 0))
    state = model.init_state(2, 8)
    moved = DecodeState(state.layers, torch.tensor(0), state.capacity)
    with pytest.raises(
        SettingError, match=r"^prefill goes on from a position that is a number, not from a tensor$"
    ):
        model.prefill(text(7, 2, 3), moved)


def test_a_router_learns_from_whole_sequences() -> None:
    model = build(network(layers=(replace(LAYER, routing=MixtureOfDepths()),))).train()
    with pytest.raises(
        SettingError, match=r"^a layer with a router learns from whole sequences, not from pieces$"
    ):
        model(text(7, 2, 8), segment=4)
