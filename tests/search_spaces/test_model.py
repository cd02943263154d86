"""The model: decode states, generation, auxiliary losses, figures and training rates of random networks."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decode_state import ROOM, in_steps
from search_spaces.network.decoder import OPTIONS, Decoder, Layer
from search_spaces.network.initialization import dice_at
from search_spaces.network.model import Model, build
from search_spaces.network.norms.base import Norm
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.scaling import scaled_rate
from tests.blocks.random_sizes import smaller
from tests.search_spaces.networks import ABSENT, NORMS, OPTION_VALUES, decoded, text

VOCAB, D_MODEL = 13, 11
CPU = torch.device("cpu")

SEQUENCE = [example for kind in blocks.values() if kind.mixes == "sequence" for example in kind.examples()]
CHANNELS = [example for kind in blocks.values() if kind.mixes == "channels" for example in kind.examples()]


def random_layer(dice: Random) -> Layer:
    """Any blocks at random sizes, with some options."""
    options = {name: dice.choice([ABSENT[name], value]) for name, value in OPTION_VALUES if name != "shared"}
    channels = dice.choice([None, smaller(dice.choice(CHANNELS), dice, D_MODEL)])
    mixer = smaller(dice.choice(SEQUENCE), dice, D_MODEL)
    beside = {k: v for name in options if options[name] for k, v in OPTIONS[name].beside().items()}
    layer = Layer(sequence_mixer=mixer, channel_mixer=channels, **beside, **options)
    try:
        layer.check(D_MODEL)
    except IllegalArchitecture:  # a precision for every token needs a channel mixer, and one without a state
        return replace(layer, precision=None)
    return layer


def random_network(seed: int, norm: Norm) -> Decoder:
    """Three layers, the last one with the weights of the first."""
    dice = Random(seed)
    first = replace(random_layer(dice), shared="ends")
    return Decoder(vocab=VOCAB, d_model=D_MODEL, layers=(first, random_layer(dice), first), norm=norm)


def moved(model: Model, seed: int = 0) -> Model:
    """The model with every parameter moved off its start, in float64."""
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.05)
    return model.double().eval()


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
@pytest.mark.parametrize("seed", range(12))
def test_any_network_decodes_what_it_reads(seed: int, norm: Norm) -> None:
    spec = random_network(seed, norm)
    model, tokens = moved(build(spec, seed=seed)), text(VOCAB, 2, 17, seed)
    with torch.no_grad():
        whole = model(tokens)
    torch.testing.assert_close(decoded(model, tokens, 6), whole, rtol=1e-8, atol=1e-8, msg=str(spec))


@pytest.mark.parametrize("seed", range(12))
def test_no_token_of_any_network_sees_its_future(seed: int) -> None:
    spec = random_network(seed, NORMS[seed % len(NORMS)])
    model, tokens = moved(build(spec, seed=seed)), text(VOCAB, 2, 14, seed)
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % VOCAB
    with torch.no_grad():
        before, after = model(tokens)[:, :9], model(changed)[:, :9]
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9, msg=str(spec))


@pytest.mark.parametrize("seed", range(6))
def test_a_network_repeats_with_its_seed(seed: int) -> None:
    spec = random_network(seed, NORMS[0])
    first, second, third = build(spec, seed=1), build(spec, seed=1), build(spec, seed=2)
    assert all(torch.equal(p, second.get_parameter(name)) for name, p in first.named_parameters())
    assert not torch.equal(first.embedding, third.embedding)


@pytest.mark.parametrize("block", SEQUENCE[::5], ids=lambda block: type(block).__name__)
def test_a_token_that_has_left_leaves_the_state_that_a_step_leaves(block: Block) -> None:
    spec = Decoder(
        vocab=VOCAB, d_model=D_MODEL, layers=(Layer(sequence_mixer=block, channel_mixer=SwiGLU()),)
    )
    (layer,) = moved(build(spec)).decoder_layers
    x = torch.randn(2, D_MODEL, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stepped = layer.step(x, layer.init_state(2, 8), 0)[1]
    absorbed = layer.absorb(x, layer.init_state(2, 8), 0)
    for place, state in stepped.items():
        for name, values in state.items():
            torch.testing.assert_close(absorbed[place][name], values)


def test_a_state_grows_where_there_is_no_room_and_keeps_what_it_holds() -> None:
    layer = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=4))
    model = build(Decoder(vocab=VOCAB, d_model=8, layers=(layer,)))
    _, state = model.prefill(text(VOCAB, 2, 5))
    assert (state.position, state.capacity) == (5, 5 + ROOM)
    _, small = model.prefill(text(VOCAB, 2, 5), capacity=5)
    before = {name: values.clone() for name, values in small.layers[0]["sequence_mixer"].items()}
    _, grown = model.step(text(VOCAB, 2, 1)[:, 0], small)
    assert (grown.position, grown.capacity) == (6, 10)
    for name, values in grown.layers[0]["sequence_mixer"].items():
        assert values.shape[-2] == 10
        assert torch.equal(values[..., :5, :], before[name])


@pytest.mark.parametrize(("count", "room"), [(0, 0), (1, ROOM), (ROOM, ROOM), (ROOM + 1, 2 * ROOM)])
def test_room_comes_in_steps(count: int, room: int) -> None:
    assert in_steps(count) == room


@pytest.mark.parametrize("exit", [None, EarlyExit(threshold=0.97)])
def test_the_last_token_alone_is_predicted_as_among_all(exit: EarlyExit | None) -> None:
    layer = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU(expansion=1))
    spec = Decoder(vocab=32, d_model=16, layers=(replace(layer, exit=exit), layer))
    model = build(spec, seed=3).eval()
    tokens = torch.randint(32, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        every, state = model.prefill(tokens)
        last, after = model.prefill(tokens, last=True)
        following = [model.step(tokens[:, 0], kept)[0] for kept in (state, after)]
    assert last.shape == (3, 1, 32)
    torch.testing.assert_close(last, every[:, -1:])
    torch.testing.assert_close(*following)


def test_greedy_text_is_that_of_steps() -> None:
    model = build(random_network(3, NORMS[0]), seed=4).eval()
    prompt = text(VOCAB, 2, 4)
    written = model.generate(prompt, 6)
    assert written.shape == (2, 6)
    for count in range(6):
        with torch.no_grad():
            logits = model(torch.cat((prompt, written[:, :count]), dim=1))[:, -1]
        chosen = logits.gather(1, written[:, count : count + 1])[:, 0]
        torch.testing.assert_close(chosen, logits.max(-1).values, rtol=1e-4, atol=1e-5)


def test_losses_and_figures_are_collected_by_path() -> None:
    layers = (
        Layer(sequence_mixer=ShortConv(), channel_mixer=MoE(num_experts=3, expansion=1)),
        Layer(sequence_mixer=ShortConv(), routing=MixtureOfDepths(capacity=0.5)),
        Layer(sequence_mixer=ShortConv(), exit=EarlyExit()),
    )
    model = build(Decoder(vocab=VOCAB, d_model=8, layers=layers)).train()
    losses, metrics = list[torch.Tensor](), dict[str, torch.Tensor]()
    model(text(VOCAB, 2, 8), losses=losses, metrics=metrics)
    assert len(losses) == 3
    assert all(loss.requires_grad and loss.isfinite() for loss in losses)
    assert "layers.1.routing.share" in metrics
    assert any(name.startswith("layers.0.channel_mixer.") for name in metrics)
    model.eval()
    losses.clear()
    metrics.clear()
    with torch.no_grad():
        model(text(VOCAB, 2, 8), losses=losses, metrics=metrics)
    assert {"layers.1.routing.share", "layers.2.exit.share"} <= metrics.keys()
    assert all(0 <= metrics[name] <= 1 for name in ("layers.1.routing.share", "layers.2.exit.share"))


def test_a_parameter_learns_at_the_rate_of_its_block() -> None:
    layers = (Layer(sequence_mixer=RGLRU(), channel_mixer=SwiGLU(), exit=EarlyExit()),)
    model = build(Decoder(vocab=VOCAB, d_model=8, layers=layers))
    rates = model.learning_rates()
    assert rates.keys() == {name for name, _ in model.named_parameters()}
    for name, rate in rates.items():
        kind = RGLRU if ".sequence_mixer." in name else SwiGLU if ".channel_mixer." in name else Block
        assert rate == scaled_rate(kind.learning_rate, model.roles()[name]), name


def test_layers_that_share_weights_are_one_module_with_states_of_their_own() -> None:
    layer = Layer(sequence_mixer=RGLRU(num_heads=2, head_dim=4), shared="a")
    model = build(Decoder(vocab=VOCAB, d_model=8, layers=(layer, layer)))
    first, second = model.decoder_layers
    assert first is second
    assert {name.split(".")[1] for name, _ in model.named_parameters() if name.startswith("layers")} == {"0"}
    _, state = model.prefill(text(VOCAB, 1, 5))
    states = [layer["sequence_mixer"] for layer in state.layers]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_place_has_random_numbers_of_its_own() -> None:
    def drawn(seed: int, path: str) -> list[float]:
        return torch.rand(3, generator=dice_at(seed, path, CPU)).tolist()

    assert drawn(0, "layers.0") == drawn(0, "layers.0")
    assert len({tuple(drawn(seed, path)) for seed in (0, 1) for path in ("layers.0", "layers.1")}) == 4


def test_a_model_on_the_meta_device_has_shapes_only() -> None:
    model = build(random_network(1, NORMS[0]), device="meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
