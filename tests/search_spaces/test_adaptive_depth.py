"""Layers that not every token passes, and layers that share their weights."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from foundation.errors import IllegalArchitecture, SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.layer import PassContext, SideOutputs
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import WEIGHTS, load_model, save_model
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
WINDOW = Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=5)
MAMBA = Mamba2(num_heads=2, head_dim=8, state_dim=8)
MLP = SwiGLU(expansion=2)


def network(*options: dict[str, Any], bits: Bits = Bits(), mixers: tuple[Any, ...] = ()) -> Decoder:  # noqa: B008
    mixers = mixers or (ATTENTION, MAMBA, WINDOW)
    layers = tuple(
        Layer(sequence_mixer=mixer, channel_mixer=MLP, bits=bits, **option)
        for mixer, option in zip(mixers, options, strict=True)
    )
    return Decoder(vocab=13, d_model=16, layers=layers)


def text(batch: int, count: int, seed: int = 0) -> Tensor:
    return torch.randint(13, (batch, count), generator=torch.Generator().manual_seed(seed))


def exact(spec: Decoder, seed: int = 0) -> Model:
    return build(spec, seed=seed).double().eval()


ROUTED = network({}, {"routing": MixtureOfDepths(capacity=0.5)}, {"routing": MixtureOfDepths(capacity=0.3)})
LEAVING = network({"exit": EarlyExit(threshold=0.93)}, {"exit": EarlyExit(threshold=0.93)}, {})
BOTH = network(
    {"exit": EarlyExit(threshold=0.9)}, {"routing": MixtureOfDepths()}, {"routing": MixtureOfDepths()}
)
SHARED = network({"shared": "a"}, {}, {"shared": "a"}, mixers=(ATTENTION, MAMBA, ATTENTION))
READS = {"reads_embedding": True}
ZAMBA = network({"shared": "a", **READS}, {}, {"shared": "a", **READS}, mixers=(ATTENTION, MAMBA, ATTENTION))
READING = network(
    {"exit": EarlyExit(threshold=0.93), **READS},
    {"routing": MixtureOfDepths(capacity=0.5), **READS},
    READS,
    mixers=(MAMBA, WINDOW, ATTENTION),
)
SPECS = {
    "routed": ROUTED,
    "leaving": LEAVING,
    "both": BOTH,
    "shared": SHARED,
    "zamba": ZAMBA,
    "reading": READING,
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@torch.no_grad()
def test_decode_equals_prefill_in_one_piece_or_several(spec: Decoder) -> None:
    model, tokens = exact(spec), text(3, 100)
    whole = model(tokens)
    first, state = model.prefill(tokens[:, :37])
    pieces = [first]
    for t in range(37, 70):
        logits, state = model.step(tokens[:, t], state)
        pieces.append(logits[:, None])
    pieces.append(model.prefill(tokens[:, 70:], state)[0])
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_row_of_a_batch_is_what_it_is_alone() -> None:
    model, tokens = exact(ROUTED), text(3, 40)
    together = model(tokens)
    for row in range(3):
        torch.testing.assert_close(model(tokens[row : row + 1])[0], together[row], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_some_tokens_pass_and_some_do_not_and_the_shares_are_reported() -> None:
    metrics: dict[str, Tensor] = {}
    exact(ROUTED)(text(4, 64), metrics=metrics)
    shares = {name: float(value) for name, value in metrics.items()}
    assert set(shares) == {"layers.1.routing.share", "layers.2.routing.share"}
    assert all(0 < share < 1 for share in shares.values())
    metrics.clear()
    exact(LEAVING)(text(4, 64), metrics=metrics)
    assert 0 < float(metrics["layers.0.exit.share"]) < 1
    assert float(metrics["layers.0.exit.share"] + metrics["layers.1.exit.share"]) <= 1


@torch.no_grad()
def test_who_leaves_keeps_the_prediction_of_its_exit() -> None:
    model, tokens = exact(network({"exit": EarlyExit(threshold=1.0)}, {}, {})), text(2, 20)
    layer = model.decoder_layers[0]
    x = model.embed(tokens)
    for sublayer in layer.sublayers.values():
        x = sublayer(x).y
    assert layer.exit is not None
    torch.testing.assert_close(model(tokens), layer.exit(x))


@torch.no_grad()
def test_an_exit_that_nobody_takes_changes_nothing() -> None:
    plain, never = network({}, {}, {}), network({"exit": EarlyExit(threshold=1e-9)}, {}, {})
    tokens = text(2, 20)
    assert torch.equal(exact(plain)(tokens), exact(never)(tokens))


def test_while_learning_the_share_of_the_capacity_passes_and_everything_gets_a_gradient() -> None:
    spec = network(
        {"exit": EarlyExit()}, {"routing": MixtureOfDepths(capacity=0.5)}, {"routing": MixtureOfDepths()}
    )
    model, losses = build(spec, seed=1), []
    model(text(2, 32), losses).logsumexp(-1).mean().backward(retain_graph=True)
    assert len(losses) == 3  # two routers and an exit
    sum(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_router_learns_to_foretell_who_is_among_the_best() -> None:
    spec = network({}, {"routing": MixtureOfDepths(capacity=0.25, balance=1.0)}, {})
    model, tokens = build(spec, seed=0), text(8, 64)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        losses: list[Tensor] = []
        logits = model(tokens, losses)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        (loss + sum(losses)).backward()
        optimizer.step()
    metrics: dict[str, Tensor] = {}
    with torch.no_grad():
        model.eval()(tokens, metrics=metrics)
    assert 0.15 < float(metrics["layers.1.routing.share"]) < 0.35


def test_routed_layers_learn_from_whole_sequences_only() -> None:
    with pytest.raises(SettingError, match="whole sequences"):
        build(ROUTED)(text(1, 8), segment=4)


@torch.no_grad()
def test_the_state_behind_a_router_is_as_small_as_what_passes() -> None:
    spec = network({"routing": MixtureOfDepths(capacity=0.1)}, {"routing": MixtureOfDepths(capacity=0.1)}, {})
    everything, scenario = network({}, {}, {}), Scenario(prompt=1000, new_tokens=24)
    few, all_ = (s.cost(scenario) for s in (spec, everything))
    assert few.state_bytes < 0.5 * all_.state_bytes
    assert few.decode_flops < 0.6 * all_.decode_flops
    assert few.prefill_flops < 0.6 * all_.prefill_flops
    model, counts = exact(spec), {}
    for spread in (-9.0, 9.0):  # scores of one sign: nobody passes, everybody passes
        x = model.embed(text(1, 300))
        router = model.decoder_layers[0].routing
        assert router is not None
        router.weight.copy_(x.mean((0, 1)) * spread)
        _, state = model.prefill(text(1, 300))
        counts[spread] = (
            int(state.layers[0]["routing"]["count"][0]),
            state.layers[0]["sequence_mixer"]["k"].shape[-2],
        )
    assert counts[-9.0][0] < counts[9.0][0]
    assert all(slots - count <= 128 for count, slots in counts.values())


def test_an_exit_makes_decoding_cheaper_by_the_share_it_expects() -> None:
    scenario = Scenario(prompt=100, new_tokens=20)
    costs = [network({"exit": EarlyExit(share=share)}, {}, {}).cost(scenario) for share in (0.0, 0.5)]
    assert costs[0].params == costs[1].params
    assert costs[0].decode_flops - costs[1].decode_flops == pytest.approx(
        0.5 * (2 * MLP.cost(16, scenario).decode_flops + 2 * 13 * 16), abs=3
    )


def test_cost_counts_every_parameter_once() -> None:
    for spec in (ROUTED, LEAVING, BOTH, SHARED):
        held = sum(p.numel() for p in build(spec, device="meta").parameters())
        assert spec.cost(Scenario()).params == held


def test_shared_layers_have_one_set_of_weights_and_states_of_their_own() -> None:
    model = build(SHARED)
    assert model.decoder_layers[0] is model.decoder_layers[2]
    assert model.decoder_layers[0] is not model.decoder_layers[1]
    apart = replace(SHARED, layers=tuple(replace(layer, shared=None) for layer in SHARED.layers))
    assert SHARED.cost(Scenario()).params < apart.cost(Scenario()).params
    assert SHARED.cost(Scenario()).state_bytes == apart.cost(Scenario()).state_bytes
    assert SHARED.cost(Scenario()).decode_flops == apart.cost(Scenario()).decode_flops


def test_layers_that_share_must_be_alike() -> None:
    spec = network({"shared": "a"}, {"shared": "a"}, {})
    with pytest.raises(IllegalArchitecture, match=r"layers\.1 shares its weights with layers\.0 as 'a'"):
        spec.check()


ILLEGAL = [
    (MixtureOfDepths(capacity=0), "capacity"),
    (MixtureOfDepths(capacity=1.5), "capacity"),
    (MixtureOfDepths(balance=-1), "balance"),
    (EarlyExit(threshold=0), "threshold"),
    (EarlyExit(share=1), "share"),
    (EarlyExit(weight=float("inf")), "weight"),
]


@pytest.mark.parametrize(("option", "word"), ILLEGAL, ids=str)
def test_illegal_options_are_refused_by_name(option: Any, word: str) -> None:
    place = "routing" if isinstance(option, MixtureOfDepths) else "exit"
    with pytest.raises(IllegalArchitecture, match=rf"layers\.0: .*{word}"):
        network({place: option}, {}, {}).check()


def open_space() -> Space:
    mixer = one_of(replace(ATTENTION, num_kv_heads=one_of(1, 2)), MAMBA)
    shared = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=1), shared="a")
    plain = Layer(
        sequence_mixer=mixer,
        channel_mixer=one_of(None, MLP),
        bits=Bits(weight=one_of(16, 8)),
        routing=one_of(None, MixtureOfDepths(capacity=one_of(0.25, 0.5))),
        exit=one_of(None, EarlyExit(threshold=0.9)),
    )
    return Space(Decoder(vocab=13, d_model=one_of(8, 16), layers=(one_of(plain, shared),) * 4))


def test_a_slice_is_its_copy_and_survives_the_journey(tmp_path: Any) -> None:
    space = open_space()
    supernet, dice = Supernet(space), Random(0)
    with torch.no_grad():
        for weight in supernet.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(weight.numel()), std=0.3)
    tokens, seen = text(2, 30), set[str]()
    for i in range(25):
        spec = space.close(space.sample(dice))
        seen |= {
            name for layer in spec.layers for name in ("shared", "routing", "exit") if getattr(layer, name)
        }
        subnet = supernet.subnet(spec)
        copy = subnet.extract().eval()
        with torch.no_grad():
            sliced = subnet(tokens)
            assert torch.equal(sliced, copy(tokens))
            if i % 5 == 0:
                save_model(copy, tmp_path / str(i))
                torch.testing.assert_close(load_model(tmp_path / str(i))(tokens), sliced)
    assert seen == {"shared", "routing", "exit"}
    assert sum(name.startswith("shared.a") for name in supernet.weights) == 8 + 1


def test_gradients_reach_weights_that_are_shared() -> None:
    space = Space(replace(SHARED, d_model=one_of(8, 16)))
    supernet = Supernet(space)
    subnet = supernet.subnet(replace(SHARED, d_model=8))
    leaves = subnet.leaves()
    subnet(text(2, 9), subnet.rounded(leaves)).square().mean().backward()
    supernet.accumulate(subnet, leaves)
    grad = supernet.weights["shared.a.sequence_mixer:Attention.mixer.wq"].grad
    assert grad is not None
    assert grad[..., :8].any()
    assert not grad[..., 8:].any()


class TestReadingTheEmbedding:
    @torch.no_grad()
    @pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
    def test_it_is_zambas_attention(self, num_kv_heads: int) -> None:
        """Theirs maps stream and embedding to queries, keys and values at once: our map, then the mixer's."""
        pytest.importorskip("transformers")
        from transformers import ZambaConfig
        from transformers.models.zamba.modeling_zamba import ZambaAttention, ZambaRMSNorm

        mixer = Attention(num_heads=4, num_kv_heads=num_kv_heads, head_dim=6, rotary=False)
        layer = Layer(sequence_mixer=mixer, shared="a", reads_embedding=True)
        model = build(Decoder(d_model=12, layers=(layer, layer)))
        own = model.decoder_layers[1]
        dice = torch.Generator().manual_seed(0)
        for parameter in own.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
        config = ZambaConfig(hidden_size=12, num_attention_heads=4, num_key_value_heads=num_kv_heads)
        config.attention_hidden_size, config.attention_head_dim = 24, 6
        config._attn_implementation = "eager"
        theirs, norm = ZambaAttention(config, 0).eval(), ZambaRMSNorm(24, eps=1e-6)
        reader, sublayer = own.reads_embedding, own.sublayers["sequence_mixer"]
        assert reader is not None
        norm.weight.copy_(torch.cat((sublayer.norm, reader.norm)))
        for name in ("wq", "wk", "wv"):
            joined = sublayer.mixer.get_parameter(name).flatten(0, 1) @ reader.weight.flatten(1)
            # theirs divides by the root of half a head, a half for each of the two inputs
            joined *= 0.5**0.5 if name == "wq" else 1.0
            theirs.get_parameter(f"{name[1]}_proj.weight").copy_(joined)
        theirs.o_proj.weight.copy_(sublayer.mixer.get_parameter("wo").flatten(1))
        x, embedded = (torch.randn(2, 33, 12, generator=dice) for _ in range(2))
        mask = torch.full((33, 33), float("-inf")).triu(1)[None, None]
        wanted = x + theirs(norm(torch.cat((x, embedded), dim=-1)), 0, mask)[0]
        read, _ = own(x, None, PassContext("", SideOutputs(), embedding=embedded))
        torch.testing.assert_close(read, wanted, rtol=1e-5, atol=1e-5)

    @torch.no_grad()
    def test_later_layers_read_it_as_it_was(self) -> None:
        model, tokens = exact(ZAMBA), text(2, 20)
        x = embedding = model.embed(tokens)
        for layer in model.decoder_layers:
            x, _ = layer(x, None, PassContext("", SideOutputs(), embedding=embedding))
        torch.testing.assert_close(model(tokens), model.logits(x))

    def test_both_inputs_and_both_gains_learn(self) -> None:
        model = build(ZAMBA)
        model(text(2, 20)).logsumexp(-1).mean().backward()
        reader = model.get_submodule("layers.0.reads_embedding")
        weight, norm = (reader.get_parameter(name).grad for name in ("weight", "norm"))
        assert weight is not None
        assert norm is not None
        assert weight.abs().amax((0, 2)).min() > 0
        assert norm.abs().min() > 0

    @pytest.mark.parametrize("spec", [ZAMBA, READING], ids=["zamba", "reading"])
    def test_its_cost_counts_what_it_allocates(self, spec: Decoder) -> None:
        params = spec.cost(Scenario()).params
        assert params == sum(p.numel() for p in build(spec).parameters())

    @torch.no_grad()
    def test_its_cost_counts_what_it_computes(self) -> None:
        model, scenario = build(ZAMBA), Scenario(batch=2, prompt=24, new_tokens=4)
        with FlopCounterMode(display=False) as counter:
            model.prefill(text(2, 24), capacity=28)
        products = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
        plain = network({"shared": "a"}, {}, {"shared": "a"}, mixers=(ATTENTION, MAMBA, ATTENTION))
        with FlopCounterMode(display=False) as counter:
            build(plain).prefill(text(2, 24), capacity=28)
        more = products - counter.get_flop_counts()["Global"][torch.ops.aten.mm]
        costs = [s.cost(scenario) for s in (ZAMBA, plain)]
        assert more == costs[0].prefill_flops - costs[1].prefill_flops == 2 * 2 * 24 * 2 * 16 * 32
        assert costs[0].decode_flops - costs[1].decode_flops == 2 * 2 * 2 * 16 * 32
        assert costs[0].state_bytes == costs[1].state_bytes

    @torch.no_grad()
    def test_a_slice_is_its_copy_and_its_file(self, tmp_path: Any) -> None:
        part = Layer(
            sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=1, head_dim=one_of(4, 8)), MAMBA),
            reads_embedding=one_of(False, True),
            shared=one_of(None, "a"),
        )
        space = Space(Decoder(vocab=13, d_model=one_of(8, 12, 16), layers=(part, part, part)), name="readers")
        supernet, dice, seen = Supernet(space, seed=0), Random(0), set()
        for weight in supernet.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
        for number in range(40):
            spec = space.close(space.sample(dice))
            try:
                spec.check()
            except IllegalArchitecture:
                continue
            subnet, tokens = supernet.subnet(spec), text(2, 30)
            copy = subnet.extract()
            assert torch.equal(subnet(tokens), copy(tokens)), spec
            stored = load_model(save_model(copy, tmp_path / str(number)))
            torch.testing.assert_close(stored(tokens), copy(tokens), rtol=0.1, atol=0.1)
            assert stored.spec == spec
            size = sum(f.numel() * f.itemsize for f in load_file(tmp_path / str(number) / WEIGHTS).values())
            assert size == spec.cost(Scenario()).weight_bytes
            seen |= {layer.reads_embedding for layer in spec.layers}
        assert seen == {False, True}

    def test_it_is_true_or_false(self) -> None:
        with pytest.raises(IllegalArchitecture, match="reads_embedding"):
            network({"reads_embedding": 1}, {}, {}).check()

    def test_the_strip_says_so(self) -> None:
        assert "reads the embedding" in str(ZAMBA)
