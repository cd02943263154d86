"""QLoRA from matrices that stay in 4 bits: the same numbers as from rounded ones, in less memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evaluators.compression.low_rank import (
    AS_IT_IS,
    ENDS,
    NF4,
    PLACES,
    REST,
    Form,
    LowRank,
    UnequalRanks,
    matrices,
    vectors,
)
from evaluators.compression.normal_float import (
    BITS,
    round_to_normal_float,
    stored_bytes,
    stored_normal_float,
)
from evaluators.tasks.recall import Recall
from evaluators.training.fit import fit
from evaluators.training.recipe import DEFAULT
from hw_profiles.memory.tracing import Live
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import blocks
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Head
from search_spaces.network.model import Model, build
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits

TASK = Recall.make(data=None, length=None, windows=None)
ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
MLP = SwiGLU(expansion=2)
LAYERS = {
    **{
        name: Layer(sequence_mixer=kind.examples()[0], channel_mixer=MLP)
        for name, kind in blocks.items()
        if kind.mixes == "sequence"
    },
    "experts": Layer(sequence_mixer=ATTENTION, channel_mixer=MoE(num_experts=3, top_k=2)),
    "router": Layer(sequence_mixer=ATTENTION, channel_mixer=MLP, routing=MixtureOfDepths(capacity=0.5)),
    "few bits": Layer(sequence_mixer=ATTENTION, channel_mixer=MLP, bits=Bits(weight=4, group=32)),
    "embedding": Layer(sequence_mixer=ATTENTION, channel_mixer=MLP, reads_embedding=True, parallel=True),
}


def network(layer: Layer, d_model: int = 16) -> Model:
    return build(Decoder(vocab=TASK.vocab, d_model=d_model, layers=(layer, layer)), seed=1).eval()


def training(
    model: Model, base: str, decompose: bool = False, steps: int = 3, with_vectors: bool = False
) -> LowRank:
    form, adapted = Form(rank=2, decompose=decompose, base=base), matrices(model, PLACES, 2)
    whole = vectors(model, (REST,)) if with_vectors else ()
    return LowRank(model, TASK, form, adapted, whole=whole, steps=steps, seed=0, batch=2, recipe=DEFAULT)


@torch.no_grad()
def rounded(model: Model) -> Model:
    """With the matrices that are adapted rounded in their place, in 32 bits."""
    adapted = matrices(model, PLACES, 2)
    for name, weight in model.named_parameters():
        if name in adapted:
            weight.copy_(round_to_normal_float(weight))
    return model


@pytest.mark.parametrize("with_vectors", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_learned_is_what_rounded_matrices_would_learn(name: str, with_vectors: bool) -> None:
    layer = LAYERS[name]
    if not matrices(network(layer), PLACES, 2):
        pytest.skip("it has no matrices")
    decompose = name in ("Mamba2", "experts")
    stored = training(network(layer), NF4, decompose, with_vectors=with_vectors)
    emulated = training(rounded(network(layer)), AS_IT_IS, decompose, with_vectors=with_vectors)
    # other orders of a gradient's sum: rows pass a router one by one, and halves in parallel share a norm
    reordered = name == "router" or (name == "embedding" and with_vectors)
    for _ in range(3):
        assert stored.learn() == pytest.approx(emulated.learn(), rel=1e-6 if reordered else 0)
    for path, weight in emulated.parameters.items():
        if reordered:
            torch.testing.assert_close(stored.parameters[path], weight)
            weight.data.copy_(stored.parameters[path])
        assert torch.equal(stored.parameters[path], weight), path
    assert any(weight.numel() == 0 for weight in stored.model.parameters())
    tokens, _ = TASK.train_batch(0, 0, 2)
    merged, expected = stored.merge(), emulated.merge()
    with torch.no_grad():
        assert torch.equal(merged(tokens), expected(tokens))
    for path, weight in expected.named_parameters():
        assert torch.equal(dict(merged.named_parameters())[path], weight), path
    assert all(weight.requires_grad for weight in merged.parameters())


@pytest.mark.parametrize("shape", [(1,), (3, 5), (64,), (7, 64), (3, 5, 67), (130, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_those_of_the_law(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    stored = stored_normal_float(weight)
    assert stored.nbytes == stored_bytes(weight.numel())
    assert torch.equal(stored.values(dtype), round_to_normal_float(weight))
    assert stored.values().shape == weight.shape


def test_the_law_is_that_of_the_paper_for_large_matrices() -> None:
    assert 8 * stored_bytes(2**24) / 2**24 == pytest.approx(BITS, abs=1e-5)


def peak(base: str) -> tuple[int, int]:
    """Bytes of the model, and the most that two steps hold, the model included."""
    with Live("cpu") as live:
        layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU())
        model = build(Decoder(vocab=TASK.vocab, d_model=64, layers=(layer,) * 12), seed=1).eval()
        size = sum(weight.nbytes for weight in model.parameters())
        learner = training(model, base)
        live.peak = live.live
        learner.learn()
        learner.learn()
    return size, live.peak


def test_a_step_holds_less_than_the_matrices_in_32_bits_take() -> None:
    size, whole = peak(AS_IT_IS)
    _, stored = peak(NF4)
    assert whole > 2 * size  # the matrices, those with factors in them, and gradients
    assert stored < size


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    layer = LAYERS["Mamba2"]
    whole = training(network(layer), NF4, steps=4)
    fit(whole)
    fit(training(network(layer), NF4, steps=4), folder=tmp_path, until=2)
    again = training(network(layer), NF4, steps=4)
    fit(again, folder=tmp_path)
    assert all(torch.equal(again.parameters[name], weight) for name, weight in whole.parameters.items())


def test_ranks_may_differ() -> None:
    model = network(LAYERS["Mamba2"])
    adapted = matrices(model, PLACES, 2)
    ranks = {name: index % 3 for index, name in enumerate(adapted)}
    form = Form(rank=2, base=NF4)
    learner = UnequalRanks(model, TASK, form, adapted, ranks, steps=2, seed=0, batch=2, recipe=DEFAULT)
    learner.learn()
    assert set(learner.quantized.stored) == {name for name, rank in ranks.items() if rank}  # type: ignore[union-attr]
    learner.merge()(TASK.train_batch(0, 0, 2)[0])


@pytest.mark.parametrize("tied", [True, False])
def test_the_embedding_learns_by_factors_beside_a_base_of_4_bits(tied: bool) -> None:
    spec = Decoder(vocab=TASK.vocab, d_model=16, layers=(LAYERS["Mamba2"],), head=Head(tied=tied))
    learned = []
    for base in (AS_IT_IS, NF4):
        model = build(spec, seed=1).eval()
        if base == AS_IT_IS:
            model = rounded(model)
        adapted = matrices(model, (*PLACES, ENDS), 2)
        ends = {name for name in adapted if not name.startswith("layers.")}
        assert ends == ({"embedding"} if tied else {"embedding", "head"})
        assert adapted["embedding"].factors(Form(rank=2)) == 2 * (TASK.vocab + 16)
        learner = LowRank(
            model, TASK, Form(rank=2, base=base), adapted, steps=3, seed=0, batch=2, recipe=DEFAULT
        )
        before = model.embedding.detach().clone()
        losses = [learner.learn() for _ in range(3)]
        merged = learner.merge()
        assert not torch.equal(merged.embedding, before)
        learned.append((losses, dict(merged.named_parameters())))
    (losses, whole), (again, stored) = learned
    assert losses == again
    assert all(torch.equal(stored[name], weight) for name, weight in whole.items())
