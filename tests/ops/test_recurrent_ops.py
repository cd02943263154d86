"""Recurrences: every chunked or written-out form against its plain one, in value, gradient and extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Mixer, State
from search_spaces.blocks.delta_net import DeltaNet
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.rwkv6 import RWKV6
from search_spaces.blocks.rwkv_channel_mix import RWKVChannelMix
from search_spaces.blocks.slstm import SLSTM
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.ops import delta_rule, gated_attention, mlstm, slstm
from search_spaces.ops.rwkv import token_shift

LENGTHS = (1, 2, 3, 63, 64, 65, 130, 1000)
HEADS, KEYS, VALUES = 3, 5, 4
Form: TypeAlias = Callable[..., tuple[Tensor, list[Tensor]]]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens(batch: int, count: int) -> list[Tensor]:
    """q, k [B, T, H, N], v [B, T, H, P], two scalars [B, T, H] and a state [B, H, N, P]."""
    q, k = (draw(batch, count, HEADS, KEYS, seed=seed) for seed in (0, 1))
    v = draw(batch, count, HEADS, VALUES, seed=2)
    return [
        q,
        k,
        v,
        *(draw(batch, count, HEADS, seed=s) for s in (3, 4)),
        draw(batch, HEADS, KEYS, VALUES, seed=5),
    ]


def delta_forms(gated: bool) -> tuple[Form, Form]:
    def prepared(q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        return q, F.normalize(k, dim=-1), v, b.sigmoid(), -g.abs()

    def fast(*leaves: Tensor) -> tuple[Tensor, list[Tensor]]:
        *parts, g = prepared(*leaves)
        y, last = delta_rule.delta_rule(*parts, g if gated else None, state=leaves[-1], final=True)
        return y, [] if last is None else [last]

    def plain(*leaves: Tensor) -> tuple[Tensor, list[Tensor]]:
        *parts, g = prepared(*leaves)
        y, last = delta_rule.delta_rule_plainly(*parts, g if gated else None, state=leaves[-1])
        return y, [last]

    return fast, plain


def mlstm_forms(sigmoid: bool) -> tuple[Form, Form]:
    def form(op: Callable[..., tuple[Tensor, mlstm.Cell]]) -> Form:
        def run(
            q: Tensor, k: Tensor, v: Tensor, w: Tensor, f: Tensor, memory: Tensor
        ) -> tuple[Tensor, list[Tensor]]:
            g = F.logsigmoid(f + 1) if sigmoid else f
            cell = mlstm.Cell(memory, memory[..., 0], memory[..., 0, 0].detach())
            y, last = op(q, k, v, 2 * w, g, cell=cell)
            # the parts over exp(peak) depend on the choice of the peak, their true values do not
            true = last.peak.exp()[..., None]
            return y, [last.memory * true[..., None], last.normaliser * true]

        return run

    return form(mlstm.mlstm), form(mlstm.mlstm_plainly)


def bonus_forms() -> tuple[Form, Form]:
    def run(*leaves: Tensor) -> tuple[Tensor, list[Tensor]]:
        q, k, v, _, _, memory = leaves
        y, last = gated_attention.gated_attention(q, k, v, -q.exp(), memory, bonus=k[0, 0], final=True)
        return y, [] if last is None else [last]

    def plain(*leaves: Tensor) -> tuple[Tensor, list[Tensor]]:
        q, k, v, _, _, memory = leaves
        y, last = gated_attention.gated_attention_plainly(q, k, v, -q.exp(), memory, bonus=k[0, 0])
        return y, [last]

    return run, plain


FORMS: dict[str, tuple[Form, Form]] = {
    "delta rule": delta_forms(gated=False),
    "gated delta rule": delta_forms(gated=True),
    "mLSTM": mlstm_forms(sigmoid=True),
    "mLSTM, exponential": mlstm_forms(sigmoid=False),
    "decay per channel and bonus": bonus_forms(),
}


@pytest.mark.parametrize("name", FORMS)
class TestChunks:
    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("count", LENGTHS)
    def test_fast_is_plain(self, name: str, count: int, batch: int) -> None:
        leaves = tokens(batch, count)
        (y, last), (expected, expected_last) = (form(*leaves) for form in FORMS[name])
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
        for part, expected_part in zip(last, expected_last, strict=True):
            torch.testing.assert_close(part, expected_part, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("count", [1, 2, 37, 64, 70])
    def test_gradients_are_those_of_the_plain_form(self, name: str, count: int) -> None:
        leaves = [leaf.requires_grad_() for leaf in tokens(2, count)]
        slopes = []
        for form in FORMS[name]:
            y, last = form(*leaves)
            total = (y * draw(*y.shape, seed=8)).sum() + sum(
                (part.cos().sum() for part in last), torch.zeros(())
            )
            slopes.append(torch.autograd.grad(total, leaves, allow_unused=True))
        for slope, expected_slope in zip(*slopes, strict=True):
            assert (slope is None) == (expected_slope is None)
            if slope is not None:
                torch.testing.assert_close(
                    slope, expected_slope, rtol=1e-8, atol=1e-8 * float(expected_slope.abs().max())
                )

    def test_outputs_do_not_depend_on_where_a_sequence_ends(self, name: str) -> None:
        leaves = tokens(1, 130)
        whole, _ = FORMS[name][0](*leaves)
        for cut in (1, 65, 129):
            head, _ = FORMS[name][0](*(part[:, :cut] for part in leaves[:-1]), leaves[-1])
            torch.testing.assert_close(head, whole[:, :cut], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strength", [0.0, 8.0, 100.0])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_extremes_of_the_delta_rule_are_exact(rate: float, strength: float) -> None:
    q, k, v, b, g, state = (part.float() for part in tokens(2, 70))
    parts = [q, F.normalize(k, dim=-1), v, torch.full_like(b, rate), torch.full_like(g, -strength)]
    leaves = [part.requires_grad_() for part in parts]
    y, last = delta_rule.delta_rule(*leaves, state=state, final=True)
    expected, expected_last = delta_rule.delta_rule_plainly(
        *(part.detach().double() for part in leaves), state=state.double()
    )
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)
    assert last is not None
    torch.testing.assert_close(last.double(), expected_last, rtol=1e-4, atol=1e-5)
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(y.sum(), leaves))


def test_equal_keys_overwrite_what_the_delta_rule_holds() -> None:
    q, _, v, b, _, _ = tokens(1, 130)
    key = F.normalize(torch.ones_like(q), dim=-1)
    y, _ = delta_rule.delta_rule(key, key, v, torch.ones_like(b))
    torch.testing.assert_close(y, v)


@pytest.mark.parametrize("write", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("forget", [-100.0, 0.0, 100.0])
def test_extreme_gates_of_the_mlstm_are_finite_and_exact(forget: float, write: float) -> None:
    q, k, v, w, g, _ = (part.float() for part in tokens(2, 70))
    parts = [q, k, v, w + write, F.logsigmoid(g + forget)]
    leaves = [part.requires_grad_() for part in parts]
    y, last = mlstm.mlstm(*leaves)
    expected, expected_last = mlstm.mlstm_plainly(*(part.detach().double() for part in leaves))
    # logarithms of up to 100 per token are summed in float32
    torch.testing.assert_close(last.peak.double(), expected_last.peak, rtol=0, atol=70 * 100 * 2**-23)
    # where keys cancel, a quotient of two rounded numbers is as rough as the divisor is small
    assert (y.double() - expected).abs().median() < 1e-5 * max(1.0, float(expected.abs().median()))
    assert y.isfinite().all()
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(y.sum(), leaves))


@pytest.mark.parametrize("after", [True, False], ids=["after writing", "before writing"])
@pytest.mark.parametrize("strength", [0.0, 8.0, 148.0, 1e6])
def test_extreme_decays_per_channel_are_exact(strength: float, after: bool) -> None:
    q, k, v, _, _, state = (part.float() for part in tokens(2, 70))
    bonus = None if after else k[0, 0]
    g = torch.full_like(q, -strength)
    g[:, 20:30] = 0
    leaves = [part.requires_grad_() for part in (q, k, v, g, state)]
    y, _ = gated_attention.gated_attention(*leaves, bonus=bonus)
    expected, _ = gated_attention.gated_attention_plainly(
        *(part.detach().double() for part in leaves), bonus=bonus
    )
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-6 * scale)
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(y.sum(), leaves))


def test_mild_decays_after_strong_ones_keep_their_digits() -> None:
    q, k, v, g, _, _ = tokens(1, 64)
    g = torch.where(torch.arange(64)[:, None, None] < 40, -140.0, -1e-3).expand_as(k)
    exact, _ = gated_attention.gated_attention_plainly(q, k, v, g)
    y, _ = gated_attention.gated_attention(*(part.float() for part in (q, k, v, g)))
    assert (y.double() - exact).abs().max() < 3e-7 * exact.abs().max()


@pytest.mark.parametrize("count", [1, 3, 40, 64, 100, 130])
def test_products_are_what_is_computed(count: int) -> None:
    q, k, v, b, g, state = (part.float() for part in tokens(1, count))
    sizes = (count, HEADS, KEYS, VALUES)
    with FlopCounterMode(display=False) as counter:
        gated_attention.gated_attention(q, k, v, -q.exp(), state, final=True)
    assert counter.get_total_flops() == 2 * gated_attention.products(*sizes)
    with FlopCounterMode(display=False) as counter:
        delta_rule.delta_rule(q, k, v, b, g, state=state, final=True)
    assert counter.get_total_flops() == 2 * delta_rule.products(*sizes)


def scalar_parts(batch: int, count: int) -> tuple[Tensor, Tensor, slstm.Cell]:
    u = 2 * draw(batch, count, 4, HEADS, VALUES, seed=0)
    recurrent = draw(4, HEADS, VALUES, VALUES, seed=1)
    hidden, memory, peak = (draw(batch, HEADS, VALUES, seed=seed) for seed in (2, 3, 4))
    return u, recurrent, slstm.Cell(hidden, memory, 1 + memory.abs().detach(), peak)


@pytest.mark.parametrize("sigmoid", [True, False], ids=["sigmoid", "exponential"])
class TestSLSTM:
    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("count", [1, 2, 63, 65, 1000])
    def test_fast_is_plain(self, count: int, batch: int, sigmoid: bool) -> None:
        u, recurrent, cell = scalar_parts(batch, count)
        for start in (cell, slstm.empty(u)):
            y, last = slstm.slstm(u, recurrent, start, sigmoid=sigmoid)
            expected, expected_last = slstm.slstm_plainly(u, recurrent, start, sigmoid=sigmoid)
            torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(tuple(last), tuple(expected_last), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("count", [1, 2, 9, 40])
    def test_the_written_out_gradient_is_that_of_pytorch(self, count: int, sigmoid: bool) -> None:
        u, recurrent, cell = scalar_parts(2, count)
        leaves = [part.requires_grad_() for part in (u, recurrent, *cell[:3])]
        slopes = []
        for form in (slstm.slstm, slstm.slstm_plainly):
            start = slstm.Cell(*leaves[2:], cell.peak)
            y, last = form(u, recurrent, start, sigmoid=sigmoid)
            total = (y * draw(*y.shape, seed=7)).sum() + (last.memory / last.normaliser).cos().sum()
            total = (
                total
                + last.hidden.sin().sum()
                + (last.normaliser * draw(*last.normaliser.shape, seed=8)).sum()
            )
            slopes.append(torch.autograd.grad(total, leaves))
        for slope, expected_slope in zip(*slopes, strict=True):
            torch.testing.assert_close(
                slope, expected_slope, rtol=1e-8, atol=1e-8 * float(expected_slope.abs().max())
            )

    @pytest.mark.parametrize("gate", [-200.0, 0.0, 200.0])
    def test_extreme_gates_are_finite(self, gate: float, sigmoid: bool) -> None:
        u, recurrent, _ = scalar_parts(2, 20)
        u, recurrent = u.float(), recurrent.float()
        u[:, :, 1:3] += gate
        leaves = [u.requires_grad_(), recurrent.requires_grad_()]
        y, last = slstm.slstm(*leaves, slstm.empty(u), sigmoid=sigmoid)
        assert y.isfinite().all()
        assert (last.normaliser >= 1).all()
        assert all(slope.isfinite().all() for slope in torch.autograd.grad(y.sum(), leaves))


def test_a_token_shift_sees_one_token_back() -> None:
    x = draw(2, 5, 3, seed=0)
    change, last = token_shift(x)
    assert torch.equal(change[:, 0], -x[:, 0])
    torch.testing.assert_close(change[:, 1:], x[:, :-1] - x[:, 1:])
    assert torch.equal(last, x[:, -1])
    torch.testing.assert_close(token_shift(x[:, 2:], x[:, 1])[0], change[:, 2:])


@pytest.mark.parametrize(("decay", "powers"), [("narrow", (5, 6, 7)), ("wide", (1, 3, 5))])
def test_a_head_fades_at_its_own_rate_however_many_there_are(decay: str, powers: tuple[int, ...]) -> None:
    module = Retention(num_heads=3, head_dim=4, state_dim=4, decay=decay).build(8)
    large = Retention(num_heads=7, head_dim=4, state_dim=4, decay=decay).build(8)
    x = torch.zeros(1)
    rates = [mixer._log_decay(x).exp() for mixer in (module, large)]
    torch.testing.assert_close(rates[0], torch.tensor([[1 - 2.0**-power for power in powers]]))
    assert torch.equal(rates[0], rates[1][:, :3])


KINDS: list[type[Block]] = [
    Retention, DeltaNet, GatedDeltaNet, MLSTM, SLSTM, RWKV6, RWKVChannelMix, GatedLinearAttention
]  # fmt: skip


SLOW_TO_COMPILE = {DeltaNet, GatedDeltaNet, MLSTM, RWKV6, GatedLinearAttention}
COMPILED = [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW_TO_COMPILE else ()) for kind in KINDS]


class Stepping(torch.nn.Module):
    """One step of a mixer as a forward function."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, state: State, position: Tensor) -> tuple[Tensor, State]:
        return self.mixer.step(x, state, position)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@torch.no_grad()
def test_prefill_and_step_can_be_exported(kind: type[Block]) -> None:
    mixer = kind.examples()[0].build(8).eval()
    mixer.reset_parameters(torch.Generator().manual_seed(0))
    x, state = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(1)), mixer.init_state(2, 20)
    expected = mixer(x, mixer.init_state(2, 20))
    prefill = torch.export.export(mixer, (x, state))
    torch.testing.assert_close(prefill.module()(x, state).y, expected.y)
    step = torch.export.export(Stepping(mixer), (x[:, 0], expected.state, torch.tensor(9)))
    y, _ = step.module()(x[:, 1], expected.state, torch.tensor(9))
    torch.testing.assert_close(y, mixer.step(x[:, 1], expected.state or {}, 9)[0])


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, about its own parts
@pytest.mark.parametrize("kind", COMPILED, ids=lambda kind: kind.__name__)
def test_a_compiler_sees_one_graph_and_its_gradient(kind: type[Block]) -> None:
    mixer = kind.examples()[0].build(8)
    with torch.no_grad():
        mixer.reset_parameters(torch.Generator().manual_seed(0))
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(mixer, backend="aot_eager_decomp_partition", fullgraph=True)
    actual, expected = compiled(x).y, mixer(x).y
    torch.testing.assert_close(actual, expected)
    slopes = [torch.autograd.grad(y.sin().sum(), x)[0] for y in (actual, expected)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@torch.no_grad()
def test_what_is_absorbed_is_what_a_step_would_remember(kind: type[Block]) -> None:
    mixer = kind.examples()[0].build(8)
    mixer.reset_parameters(torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    state = mixer(x[:, :2], mixer.init_state(2, 5)).state
    expected = mixer.step(x[:, 2], state, 2)[1]
    assert not all(torch.equal(expected[name], state[name]) for name in state)
    torch.testing.assert_close(mixer.absorb(x[:, 2], state, 2), expected)


MIXERS = [kind.examples()[0] for kind in KINDS if kind.mixes == "sequence"]
CHANNELS = RWKVChannelMix(expansion=2)


def model_of(mixer: Block, **options: Any) -> tuple[Model, Tensor]:
    """Two layers with a channel mixer that has a state, the first with options, and tokens to read."""
    layers = (
        Layer(sequence_mixer=mixer, channel_mixer=CHANNELS, **options),
        Layer(sequence_mixer=mixer, channel_mixer=CHANNELS),
    )
    model = build(Decoder(vocab=32, d_model=12, layers=layers), seed=0).double()
    return model, torch.randint(32, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "options",
    [{}, {"exit": EarlyExit(threshold=0.97, share=0.3)}, {"routing": MixtureOfDepths(capacity=0.5)}],
    ids=["plain", "exit", "routing"],
)
@torch.no_grad()
def test_a_model_keeps_the_state_of_a_channel_mixer(options: dict[str, Any]) -> None:
    model, read = model_of(RWKV6.examples()[0], **options)
    model.eval()
    logits, state = model.prefill(read[:, :17])
    pieces = [logits]
    for t in range(17, 40):
        logits, state = model.step(read[:, t], state)
        pieces.append(logits[:, None])
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(read), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: type(mixer).__name__)
def test_learning_through_handed_over_states_is_learning_from_the_whole(mixer: Block) -> None:
    model, read = model_of(mixer)
    slopes = []
    for segment in (None, 7):
        model.zero_grad()
        model(read, segment=segment).sin().sum().backward()
        slopes.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert slopes[0].keys() == slopes[1].keys() == dict(model.named_parameters()).keys()
    for name, slope in slopes[0].items():
        torch.testing.assert_close(slopes[1][name], slope, rtol=1e-7, atol=1e-9 * float(slope.abs().max()))


ILLEGAL: list[tuple[Block, str]] = [
    (Retention(state_dim=3), "state_dim"),
    (Retention(head_dim=1), "head_dim"),
    (DeltaNet(num_heads=0), "num_heads"),
    (GatedDeltaNet(conv_kernel=0), "conv_kernel"),
    (MLSTM(forget_gate="relu"), "forget_gate"),
    (MLSTM(head_dim=1), "head_dim"),
    (SLSTM(forget_gate="tanh"), "forget_gate"),
    (SLSTM(head_dim=1), "head_dim"),
    (RWKV6(head_dim=1), "head_dim"),
    (RWKV6(state_dim=-1), "state_dim"),
    (RWKVChannelMix(expansion=-1), "expansion"),
    (RWKVChannelMix(expansion=0.001), "expansion"),
]


@pytest.mark.parametrize(("spec", "word"), ILLEGAL, ids=str)
def test_illegal_values_are_refused_by_name(spec: Block, word: str) -> None:
    with pytest.raises(IllegalArchitecture, match=word):
        spec.check(20)
