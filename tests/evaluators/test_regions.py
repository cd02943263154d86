"""Compiled regions compute what the network computes, gradients too; what cannot be compiled says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.training import SupernetTraining
from evaluators.training import regions as module
from evaluators.training.execution import INDUCTOR, TRACED, Execution
from evaluators.training.fit import fit
from evaluators.training.half_layer import HalfLayer
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import Recipe
from evaluators.training.regions import Regions, token_loss
from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Mixer, blocks
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Head
from search_spaces.network.layer import AS_THEY_ARE
from search_spaces.network.model import build
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from search_spaces.supernet import Supernet
from tests.evaluators.test_fit import TASK

# those that the compiler itself sets off
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute"),
]

ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=4)
BLOCKS = (
    ATTENTION,
    replace(ATTENTION, window=5),
    GatedLinearAttention(num_heads=2, head_dim=4, state_dim=4),
    MLSTM(num_heads=2, head_dim=4, state_dim=4),
    RGLRU(num_heads=2, head_dim=4),
    ShortConv(),
)
COUPLED = ("Mamba", "Mamba2")
"""Blocks with figures of all heads or channels, which ask whether they are split among processes."""

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "reads the embedding": {"reads_embedding": True},
    "exit": {"exit": EarlyExit()},
    "router": {"routing": MixtureOfDepths()},
    "side by side": {"parallel": True},
    "8-bit activations": {"bits": Bits(activation=8)},
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_compiled", {})
    yield
    torch.compiler.reset()


def network(block: Block, **options: Any) -> Decoder:
    layer = Layer(sequence_mixer=block, channel_mixer=SwiGLU(expansion=2), **options)
    return Decoder(
        vocab=12,
        d_model=8,
        layers=(layer, layer),
        norm=LayerNorm(place="both"),
        head=Head(tied=False, softcap=4.0),
    )


def gradients(spec: Decoder, regions: Regions) -> dict[str, Tensor]:
    """The loss and all gradients of a network in float64."""
    model = build(spec, seed=1).double()
    tokens, targets = TASK.train_batch(0, 0, 3)
    losses: list[Tensor] = []
    exits = any(layer.exit is not None for layer in spec.layers)
    loss = regions.text_loss(lambda parts: model(tokens, losses, parts=parts), targets, logits=exits)
    whole = sum(losses, start=loss)
    whole.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {"loss": whole.detach(), **found}


def check_alike(spec: Decoder) -> Regions:
    regions = Regions(TRACED)
    plain, compiled = gradients(spec, Regions("none")), gradients(spec, regions)
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-9, atol=1e-12, msg=name)
    return regions


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block))
def test_a_region_computes_what_its_block_computes(block: Block) -> None:
    check_alike(network(block))
    # the mixer, the channel mixer and the head: once, for both layers
    assert len(module._compiled) == 3
    assert None not in module._compiled.values()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in COUPLED)) for kind in sorted(blocks)]
)
def test_every_sequence_mixer_can_be_traced(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_pass", lambda run, inputs: run(*inputs))
    block = blocks[kind].examples()[0]
    if block.mixes == "sequence":
        layer = Layer(sequence_mixer=block)
        gradients(Decoder(vocab=12, d_model=16, layers=(layer,)), Regions("eager"))
        assert None not in module._compiled.values()


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_layers_go_on_to_work(name: str) -> None:
    check_alike(network(ATTENTION, **OPTIONS[name]))


def test_equal_sublayers_of_other_networks_are_compiled_already() -> None:
    check_alike(network(ATTENTION))
    regions, before = Regions(TRACED), len(module._compiled)
    deeper = network(ATTENTION)
    gradients(replace(deeper, layers=deeper.layers * 2), regions)
    assert (len(module._compiled), regions.spent) == (before, 0.0)
    gradients(network(ShortConv()), regions)
    assert len(module._compiled) == before + 1


@pytest.mark.parametrize("whole", [False, True])
def test_slices_of_a_supernet_are_weights_like_others(whole: bool) -> None:
    layer = Layer(
        sequence_mixer=replace(ATTENTION, num_kv_heads=one_of(1, 2)),
        channel_mixer=SwiGLU(expansion=2),
        bits=Bits(weight=one_of(16, 8)),
    )
    root = Decoder(vocab=12, d_model=one_of(4, 8), layers=repeat(layer, depths=(1, 2)))
    supernet = Supernet(Space(root, name="small"), seed=0)
    tokens, targets = TASK.train_batch(0, 0, 3)
    for answer in (0, 1):
        spec = supernet.space.draw(lambda _, labels, answer=answer: labels[min(answer, len(labels) - 1)])[1]
        subnet, found = supernet.subnet(spec), []
        for regions in (Regions("none"), Regions(TRACED)):
            supernet.zero_grad()
            sixteen = supernet.at_sixteen()
            leaves = subnet.leaves(sixteen, whole=whole)
            weights = subnet.rounded(leaves, sixteen)
            loss = regions.text_loss(
                lambda parts, run=subnet, w=weights: run(tokens, w, parts=parts), targets, logits=False
            )
            loss.backward()
            supernet.accumulate(subnet, leaves)
            grads = [weight.grad.clone() for weight in supernet.parameters() if weight.grad is not None]
            found.append([loss.detach(), *grads])
        torch.testing.assert_close(found[1], found[0])
    assert None not in module._compiled.values()


@dataclass(frozen=True, kw_only=True)
class Scaled(ShortConv):
    """Whose module keeps a number that follows the width."""

    def build(self, d_model: int) -> Mixer:
        mixer = super().build(d_model)
        mixer.scale = d_model**-0.5  # type: ignore[assignment]
        return mixer


def of_widths(spec: Decoder, widths: tuple[int, ...]) -> int:
    """How many regions serve networks of these widths, each of which must compute what it is."""
    module._compiled.clear()
    for width in widths:
        wide, regions = replace(spec, d_model=width), Regions(TRACED, widths=widths)
        plain, compiled = gradients(wide, Regions("none")), gradients(wide, regions)
        for name, value in plain.items():
            torch.testing.assert_close(compiled[name], value, rtol=1e-9, atol=1e-12, msg=name)
    return len(set(module._compiled.values()))


def small(block: Block, **options: Any) -> Decoder:
    return Decoder(vocab=12, d_model=8, layers=(Layer(sequence_mixer=block, **options),) * 2)


def test_one_region_serves_all_widths() -> None:
    # the mixer and the head
    assert of_widths(small(ShortConv(), reads_embedding=True), (8, 12)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block))
def test_regions_of_other_blocks_serve_all_widths(block: Block) -> None:
    # the mixer, the channel mixer and the head
    assert of_widths(network(block, parallel=True), (8, 12, 16)) == 3


def test_what_has_a_number_of_its_width_is_compiled_for_each() -> None:
    spec = small(Scaled())
    assert HalfLayer(Scaled(), Bits(), spec.norm, False, False).axes((8, 12)) is None
    assert HalfLayer(ShortConv(), Bits(), spec.norm, False, False).axes((8, 12)) is not None
    assert of_widths(spec, (8, 12)) == 2 + 1


def test_what_cannot_be_compiled_for_all_widths_is_compiled_for_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = torch.compile

    def refusing(function: Any, *, dynamic: bool | None, **settings: Any) -> Any:
        if dynamic is None:
            raise RuntimeError("Constraints violated (s0)")
        return compiled(function, dynamic=dynamic, **settings)

    monkeypatch.setattr(torch, "compile", refusing)
    with caplog.at_level(logging.WARNING):
        # two for each width, and None for the two that failed, once
        assert of_widths(small(ShortConv()), (8, 12)) == 2 * 2 + 1
    assert caplog.text.count("cannot be compiled, for all widths at once: RuntimeError: Constraints") == 2


def test_whole_slices_of_other_bits_share_a_region() -> None:
    layer = Layer(sequence_mixer=ATTENTION, bits=Bits(weight=one_of(16, 8)))
    supernet = Supernet(
        Space(Decoder(vocab=12, d_model=one_of(8, 16), layers=(layer,)), name="small"), seed=0
    )
    tokens, targets = TASK.train_batch(0, 0, 3)
    for bits in (0, 1):
        answers = {"d_model": 0, "layers.0.bits.weight": bits}
        spec = supernet.space.draw(lambda path, labels, of=answers: labels[of[path]])[1]
        subnet, sixteen = supernet.subnet(spec), supernet.at_sixteen()
        weights = subnet.rounded(subnet.leaves(sixteen, whole=True), sixteen)
        network = partial(subnet, tokens, weights)
        Regions(TRACED).text_loss(lambda parts, run=network: run(parts=parts), targets, logits=False)
    assert len(module._compiled) == 2


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    # on a CPU experts are a loop over those that were chosen, whose number only the data tell
    layer = Layer(sequence_mixer=Skip(), channel_mixer=MoE(num_experts=3, top_k=1, expansion=1))
    spec = Decoder(vocab=12, d_model=8, layers=(layer, layer))
    with caplog.at_level(logging.WARNING):
        check_alike(spec)
        gradients(spec, Regions(TRACED))
    (said,) = [
        record.getMessage() for record in caplog.records if "cannot be compiled" in record.getMessage()
    ]
    assert "MoE" in said
    assert "data-dependent" in said


def test_compiling_ends_with_its_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_said", set())
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.0)
    regions = Regions(TRACED, seconds=1e-6)
    with caplog.at_level(logging.WARNING):
        compiled = gradients(network(ATTENTION), regions)
    assert len(module._compiled) == 1
    assert regions.spent > 0
    (said,) = caplog.messages
    assert "compile_seconds" in said
    torch.testing.assert_close(compiled["loss"], gradients(network(ATTENTION), Regions("none"))["loss"])


def test_a_training_in_regions_ends_as_one_without(tmp_path: Any) -> None:
    spec = network(ATTENTION, bits=Bits(weight=8))

    def trained(backend: str, until: int | None = None) -> NetworkTraining:
        made = NetworkTraining(
            build(spec, seed=3),
            TASK,
            steps=6,
            seed=3,
            batch=4,
            execution=Execution(compile=backend, compile_seconds=1000),
        )
        fit(made, folder=tmp_path / backend, until=until)
        return made

    plain, regions = trained("none"), trained(TRACED)
    for name, weight in plain.parameters.items():
        torch.testing.assert_close(regions.parameters[name], weight, rtol=1e-4, atol=1e-5)
    resumed = trained(TRACED)
    assert all(torch.equal(regions.parameters[n], w) for n, w in resumed.parameters.items())


def test_bits_of_logits_and_losses() -> None:
    logits, targets = torch.randn(2, 3, 5, dtype=torch.float64), torch.tensor([[0, 1, -100], [4, 3, 2]])
    mean = -logits.log_softmax(-1).flatten(0, 1)[[0, 1, 3, 4, 5], [0, 1, 4, 3, 2]].mean()
    torch.testing.assert_close(token_loss(logits, targets), mean)


def test_a_region_for_all_widths_is_compiled_once(caplog: pytest.LogCaptureFixture) -> None:
    layer = Layer(
        sequence_mixer=ShortConv(), channel_mixer=SwiGLU(expansion=2), bits=Bits(weight=one_of(4, 16))
    )
    space = Space(Decoder(vocab=12, d_model=one_of(4, 8, 12), layers=repeat(layer, (1, 2))), name="s")
    how = Execution(device="cpu", compile=TRACED, compile_seconds=500)
    recipe = Recipe(supernet=SupernetRecipe(networks=3))
    training = SupernetTraining(space, TASK, steps=6, seed=0, batch=2, recipe=recipe, execution=how)
    with torch._dynamo.config.patch(error_on_recompile=True), caplog.at_level(logging.WARNING):
        fit(training)
    assert not caplog.records


def test_execution_follows_the_device() -> None:
    assert Execution.for_device("cpu") == Execution(compile="none", graphs=False)
    fast = Execution.for_device("cuda:0", compile_seconds=5.0)
    assert (fast.compile, fast.graphs, fast.compile_seconds) == (INDUCTOR, True, 5.0)
    assert Execution.for_supernet("cuda:0", 500) == Execution(device="cuda:0", graphs=True)
    assert Execution.for_supernet("cuda:0", 500, compile_seconds=5.0) == fast
    assert Execution.for_supernet("cuda:0", 2000).compile_seconds == 100
    assert Execution.for_supernet("cuda:0", 10**9).compile_seconds == 1800
    assert [Recipe().on(device).precision for device in ("cpu", "cuda:1")] == ["float32", "bfloat16"]
    assert Recipe(precision="tf32").on("cuda").precision == "tf32"
    with pytest.raises(SettingError, match="compile must be one of none, inductor, aot_eager"):
        Execution(compile="always")


def test_parts_as_they_are_change_nothing() -> None:
    model, tokens = build(network(ATTENTION), seed=1), TASK.train_batch(0, 0, 2)[0]
    assert torch.equal(model(tokens), model(tokens, parts=AS_THEY_ARE))


@pytest.mark.slow
def test_inductor_computes_it_too() -> None:
    regions = Regions(INDUCTOR, 1e4)
    plain, compiled = gradients(network(ATTENTION), Regions("none")), gradients(network(ATTENTION), regions)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-9, atol=1e-12, msg=name)
