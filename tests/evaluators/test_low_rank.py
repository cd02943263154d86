"""Low-rank adaptation: its formulas, merging without a difference, and NF4."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from evaluators.compression.bottleneck import Bottleneck, new_values, widened, wider
from evaluators.compression.galore import GaLore
from evaluators.compression.low_rank import (
    PLACES,
    REST,
    Form,
    LowRank,
    UnequalRanks,
    matrices,
    vectors,
)
from evaluators.compression.merged import Course
from evaluators.compression.normal_float import BITS, normal_float_values, round_to_normal_float
from evaluators.tasks.base import IGNORED
from evaluators.tasks.recall import Recall
from evaluators.training import fit as fitting
from evaluators.training.fit import fit
from evaluators.training.recipe import DEFAULT
from foundation.errors import EvaluationFailed
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import blocks
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.rounding import round_all

ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
TASK = Recall.make(data=None, length=None, windows=None)
UP = "layers.0.channel_mixer.mixer.up"


def network(channels: object = None, sequence: object = ATTENTION, bits: Bits | None = None) -> Model:
    layer = Layer(
        sequence_mixer=sequence,  # type: ignore[arg-type]
        channel_mixer=channels or SwiGLU(),  # type: ignore[arg-type]
        bits=bits or Bits(),
    )
    return build(Decoder(vocab=TASK.vocab, d_model=16, layers=(layer,)), seed=1).eval()


def low_rank(model: Model, form: Form, places: tuple[str, ...] = PLACES) -> LowRank:
    adapted, whole = matrices(model, places, form.rank), vectors(model, places)
    return LowRank(model, TASK, form, adapted, whole=whole, steps=4, seed=0, batch=2, recipe=DEFAULT)


def moved(training: LowRank) -> LowRank:
    """With factors that are not zero."""
    with torch.no_grad():
        for name, weight in training.parameters.items():
            if name.endswith((".B", ".d")):
                weight.normal_(std=0.1)
    return training


@pytest.mark.parametrize("decompose", [False, True])
def test_nothing_changes_at_first(decompose: bool) -> None:
    model = network()
    tokens, _ = TASK.train_batch(0, 0, 2)
    before = functional_call(model, low_rank(model, Form(rank=1)).merged(), (tokens,))
    after = functional_call(model, low_rank(model, Form(rank=2, decompose=decompose)).merged(), (tokens,))
    torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-2)  # bfloat16 weights
    if not decompose:
        assert torch.equal(after, before)


def product(x: Tensor, weight: Tensor, factors: tuple[Tensor, Tensor], scale: float) -> Tensor:
    """LoRA as the paper draws it, two products beside the first."""
    a, b = factors
    return F.linear(x, weight) + scale * F.linear(F.linear(x, a), b)


def test_lora_is_two_products_beside_the_first() -> None:
    model = network()
    training = moved(low_rank(model, Form(rank=4, alpha=8.0)))
    training._bits = dict.fromkeys(training._bits)  # in full precision
    weight, x = dict(model.named_parameters())[UP], torch.randn(5, 16)
    factors = training.parameters[f"{UP}.A"][0], training.parameters[f"{UP}.B"][0]
    torch.testing.assert_close(F.linear(x, training.merged()[UP]), product(x, weight, factors, 2.0))


def test_dora_learns_norms_and_directions_apart() -> None:
    model = network()
    training = moved(low_rank(model, Form(rank=4, decompose=True)))
    training._bits = dict.fromkeys(training._bits)
    merged, plain = training.merged()[UP], dict(model.named_parameters())[UP]
    torch.testing.assert_close(merged.norm(dim=-1), plain.norm(dim=-1))
    factors = training.parameters[f"{UP}.B"][0] @ training.parameters[f"{UP}.A"][0]
    direction = plain + 4.0 * factors
    torch.testing.assert_close(F.cosine_similarity(merged, direction, dim=-1), torch.ones(len(merged)))


@pytest.mark.parametrize("bits", [Bits(), Bits(weight=4, group=32)])
@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("places", [PLACES, (*PLACES, REST), (REST,)])
def test_merging_changes_no_logit(bits: Bits, decompose: bool, places: tuple[str, ...]) -> None:
    training = moved(low_rank(network(bits=bits), Form(rank=4, decompose=decompose), places))
    tokens, _ = TASK.train_batch(0, 0, 2)
    with torch.no_grad():
        beside = functional_call(training.model, training.merged(), (tokens,))
        assert torch.equal(training.merge()(tokens), beside)


def test_every_expert_has_factors_of_its_own() -> None:
    training = low_rank(network(MoE(num_experts=3, top_k=2)), Form(rank=4), ("expert",))
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in training.parameters} == {
        "gated",
        "up",
        "down",
    }
    assert all(len(weight) == 3 for weight in training.parameters.values())


@pytest.mark.parametrize("name", list(blocks))
def test_every_block_learns_by_its_factors(name: str) -> None:
    block = blocks[name].examples()[0]
    model = network(sequence=block) if block.mixes == "sequence" else network(block)
    adapted = matrices(model, PLACES, 2)
    training = low_rank(model, Form(rank=2))
    counted = sum(weight.numel() for weight in training.parameters.values())
    assert counted == sum(shape.factors(Form(rank=2)) for shape in adapted.values())
    training.gradients()
    for path in adapted:
        assert training.parameters[f"{path}.B"].grad is not None


@pytest.mark.parametrize("name", list(blocks))
def test_what_is_no_matrix_is_learned_whole(name: str) -> None:
    block = blocks[name].examples()[0]
    model = network(sequence=block) if block.mixes == "sequence" else network(block)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    training = low_rank(model, Form(rank=2), (REST,))
    small = {n for n, role in model.roles().items() if role.kind in ("elementwise", "readout")}
    assert training.parameters.keys() == {f"{path}.d" for path in small}
    fit(training)
    after = dict(training.merge().named_parameters())
    changed = {path for path, weight in after.items() if not torch.equal(weight, before[path])}
    rounded = round_all(before, training._bits)
    assert {path for path in changed if not torch.equal(after[path], rounded[path])} <= small
    assert changed & small
    assert not any(bool(learned.any()) for learned in training.parameters.values())


@pytest.mark.parametrize("name", list(blocks))
def test_only_experts_stand_in_the_place_of_experts(name: str) -> None:
    block = blocks[name].examples()[0]
    model = network(sequence=block) if block.mixes == "sequence" else network(block)
    experts = matrices(model, ("expert",))
    assert bool(experts) == (getattr(block, "num_experts", 0) > 0)
    every = {name for name, role in model.roles().items() if role.kind == "matrix"}
    assert every - {"head"} == matrices(model, PLACES).keys()


def test_queries_and_keys_of_one_parameter_read_the_residual_stream() -> None:
    read = matrices(network(sequence=GatedDeltaNet(num_heads=2, head_dim=8, state_dim=8)), ("input",))
    stacked = read["layers.0.sequence_mixer.mixer.wqk"]
    assert (stacked.stacked, stacked.rows, stacked.inputs) == (2, 16, 16)


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SAVE_SECONDS", 0.0)
    form = Form(rank=2, decompose=True)
    whole = low_rank(network(), form)
    fit(whole)

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(low_rank(network(), form), folder=tmp_path, on_step=stop)
    resumed = low_rank(network(), form)
    assert len(fit(resumed, folder=tmp_path).loss) < 4
    first, second = whole.merge(), resumed.merge()
    start = dict(network().named_parameters())
    changed = 0
    for (path, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        changed += not torch.equal(one, start[path].to(torch.bfloat16).float())
    assert changed >= len(whole.adapted)


def test_the_values_of_nf4_are_those_of_its_paper() -> None:
    published = """-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453 -0.28444138169288635
        -0.18477343022823334 -0.09105003625154495 0.0 0.07958029955625534 0.16093020141124725
        0.24611230194568634 0.33791524171829224 0.44070982933044434 0.5626170039176941 0.7229568362236023
        1.0"""
    expected = torch.tensor([float(value) for value in published.split()])
    torch.testing.assert_close(normal_float_values(), expected, rtol=0, atol=2e-6)
    assert pytest.approx(4.127, abs=1e-3) == BITS


def test_nf4_rounds_each_weight_to_the_nearest_value_of_its_group() -> None:
    weight = torch.randn(10, 64)
    rounded = round_to_normal_float(weight)
    scale = weight.abs().amax(-1, keepdim=True)
    nearest = normal_float_values()[
        (weight[..., None] / scale[..., None] - normal_float_values()).abs().argmin(-1)
    ]
    assert (rounded - nearest * scale).abs().max() < 0.02 * scale.max()  # scales have 8 bits
    assert float((rounded - weight).norm() / weight.norm()) < 0.11
    assert torch.equal(round_to_normal_float(torch.zeros(3, 5)), torch.zeros(3, 5))


def galore(model: Model, every: int) -> GaLore:
    course = Course(steps=4, seed=0, batch=16, recipe=replace(DEFAULT, clip=None))
    return GaLore(model, TASK, Form(rank=4, alpha=2.0), matrices(model, PLACES, 4), every, **course)


def test_galore_is_adam_on_projected_gradients() -> None:
    """From both sides and over a change of the space, against algorithm 2 of the paper written out."""
    model = network().double()
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    training = galore(model, every=2)
    training._bits = dict.fromkeys(training._bits)  # in full precision
    own, turn, mean, square = dict(start), dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
    for step in range(4):
        leaves = {name: own[name].clone().requires_grad_() for name in training.adapted}
        tokens, targets = TASK.train_batch(step, 0, 16)  # gradients of a rank of 4 at least
        said = functional_call(model, {**own, **leaves}, (tokens,), tie_weights=False)
        F.cross_entropy(said.flatten(0, 1), targets.flatten(), ignore_index=IGNORED).backward()
        training.learn()
        (rate,) = {group["lr"] for group in training.optimizer.param_groups}
        for name, leaf in leaves.items():
            shape = training.adapted[name]
            assert leaf.grad is not None
            gradient = leaf.grad.reshape(shape.rows, shape.inputs)
            if step % 2 == 0:  # moments stay, so signs of singular vectors matter
                left, _, right = torch.linalg.svd(gradient, full_matrices=False)
                turn[name] = right[:4].mT if shape.rows >= shape.inputs else left[:, :4]
            gradient = gradient.mT if shape.rows >= shape.inputs else gradient
            reduced = turn[name].mT @ gradient
            mean[name] = 0.9 * mean.get(name, torch.zeros(())) + 0.1 * reduced
            square[name] = 0.95 * square.get(name, torch.zeros(())) + 0.05 * reduced.square()
            first, second = mean[name] / (1 - 0.9 ** (step + 1)), square[name] / (1 - 0.95 ** (step + 1))
            moved = -rate * 0.5 * turn[name] @ (first / (second.sqrt() + 1e-8))
            moved = moved.mT if shape.rows >= shape.inputs else moved
            own[name] = own[name] + moved.reshape(own[name].shape)
    for name, weight in training._unrounded().items():
        if name in training.adapted:
            assert not torch.equal(weight, start[name])
        torch.testing.assert_close(weight, own[name], rtol=1e-6, atol=1e-6)


def test_galore_says_which_gradient_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    training = galore(network(), every=2)
    monkeypatch.setattr(training, "backward", lambda weights: (1e39 * weights[UP].sum()).backward())
    with pytest.raises(EvaluationFailed, match=f"the gradient of {UP} is not finite at step 1"):
        training.advance()


def test_galore_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "SAVE_SECONDS", 0.0)
    whole = galore(network(), every=2)
    fit(whole)
    fit(galore(network(), every=2), folder=tmp_path, until=3)
    resumed = galore(network(), every=2)
    assert len(fit(resumed, folder=tmp_path).loss) < 4
    for one, other in zip(whole.merge().parameters(), resumed.merge().parameters(), strict=True):
        assert torch.equal(one, other)


CHANNEL_MIXERS = [name for name in blocks if wider(blocks[name].examples()[0], 16, 3)]


def test_every_channel_mixer_can_have_more_channels() -> None:
    other = {"Skip", "DeepSeekMoE"}  # one field is the width of its routed and of its shared experts
    assert {name for name in blocks if blocks[name].mixes == "channels"} <= other | set(CHANNEL_MIXERS)


@pytest.mark.parametrize("name", CHANNEL_MIXERS)
def test_new_channels_say_nothing_at_first_and_learn_alone(name: str) -> None:
    model, (tokens, _) = network(blocks[name].examples()[0]), TASK.train_batch(0, 0, 2)
    before, spec = model(tokens), model.spec
    training = Bottleneck(widened(model, 3), TASK, 3, steps=2, seed=0, batch=2, recipe=DEFAULT)
    assert sum(weight.numel() for weight in training.parameters.values()) == new_values(spec, 3)
    training._bits = dict.fromkeys(training._bits)
    start = {own: weight.detach().clone() for own, weight in training.merged().items()}
    said = functional_call(training.model, start, (tokens,), tie_weights=False)
    torch.testing.assert_close(said, before, rtol=1e-4, atol=1e-4)
    training.learn()
    training.learn()
    beside = functional_call(training.model, training.merged(), (tokens,), tie_weights=False)
    merged = training.merge()
    assert torch.equal(merged(tokens), beside)
    assert not torch.equal(beside, said)
    for own, weight in model.named_parameters():
        kept = dict(merged.named_parameters())[own][tuple(map(slice, weight.shape))]
        assert torch.equal(kept, weight)


def test_matrices_may_have_ranks_of_their_own() -> None:
    model, form = network(), Form(rank=2, alpha=4.0)
    adapted = matrices(model, PLACES, form.rank)
    ranks = {name: index % 4 for index, name in enumerate(adapted)}
    course = Course(steps=2, seed=0, batch=2, recipe=DEFAULT)
    training = moved(UnequalRanks(model, TASK, form, adapted, ranks, **course))  # type: ignore[assignment]
    law = sum(adapted[name].factors(replace(form, rank=rank)) for name, rank in ranks.items())
    assert sum(weight.numel() for weight in training.parameters.values()) == law
    training._bits = dict.fromkeys(training._bits)
    weights, merged = dict(model.named_parameters()), training.merged()
    for name, rank in ranks.items():
        shape = (adapted[name].rows, adapted[name].inputs)
        learned = (merged[name] - weights[name]).view(shape)
        assert int(torch.linalg.matrix_rank(learned, atol=1e-4)) == rank
        if rank > 1:
            left, sizes, right = torch.linalg.svd(learned)
            best = weights[name].view(shape) + sizes[0] * torch.outer(left[:, 0], right[0])
            torch.testing.assert_close(training.of_rank(name, 1).view(shape), best)
            torch.testing.assert_close(training.of_rank(name, rank), merged[name])
