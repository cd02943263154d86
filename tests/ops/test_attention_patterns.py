"""Patterns of attention: the fast forms are their masks, states are small, and known cases fall together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Mixer
from search_spaces.blocks.based import Based
from search_spaces.blocks.block_sparse_attention import BlockSparseAttention
from search_spaces.blocks.differential_attention import DifferentialAttention
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.performer import Performer
from search_spaces.ops import attention, block_sparse, cache
from search_spaces.ops.block_sparse import BlockPattern
from search_spaces.ops.features import elu_features, normalised, taylor_features, taylor_size
from search_spaces.scenario import Scenario

LENGTHS = (1, 2, 7, 16, 17, 63, 64, 65, 130)
D_MODEL = 20


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def gradients(outputs: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad((outputs * draw(*outputs.shape, seed=9)).sum(), leaves))


def built(spec: Block, seed: int = 0) -> Mixer:
    spec.check(D_MODEL)
    module = spec.build(D_MODEL)
    with torch.no_grad():
        module.reset_parameters(torch.Generator().manual_seed(seed))
    return module.double()


PATTERNS: list[dict[str, Any]] = [
    {"window": 5, "dilation": 2},
    {"window": 3, "dilation": 7},
    {"window": 1, "dilation": 3},
    {"window": 100, "dilation": 2},
    {"window": 5, "global_tokens": 1},
    {"window": 5, "global_tokens": 12},
    {"window": 64, "global_tokens": 3},
    {"window": 200, "global_tokens": 20},
    {"window": 4, "dilation": 3, "global_tokens": 5},
    {"window": 6, "dilation": 16, "global_tokens": 40},
]


class TestWindows:
    @pytest.mark.parametrize("count", LENGTHS)
    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    def test_fast_is_plain(self, count: int, pattern: dict[str, Any]) -> None:
        q = draw(2, 4, count, 6).requires_grad_()
        k, v = (draw(2, 2, count, 6, seed=s).requires_grad_() for s in (1, 2))
        fast, plain = (form(q, k, v, **pattern) for form in (attention.attend, attention.attend_plainly))
        assert_near(fast, plain)
        for slope, expected_slope in zip(
            gradients(fast, [q, k, v]), gradients(plain, [q, k, v]), strict=True
        ):
            assert_near(slope, expected_slope)

    def test_the_mask_is_longformers(self) -> None:
        """Window 2, dilation 3 and one global token, written out by hand."""
        token = torch.arange(7)
        seen = attention.sees(token[:, None], token, 2, dilation=3, global_tokens=1)
        expected = [{0}, {0, 1}, {0, 2}, {0, 3}, {0, 1, 4}, {0, 2, 5}, {0, 3, 6}]
        assert [set(row.nonzero()[:, 0].tolist()) for row in seen] == expected

    @pytest.mark.parametrize("count", [9, 64])
    def test_dilation_one_without_globals_is_the_plain_window(self, count: int) -> None:
        q, k, v = draw(2, 4, count, 6), draw(2, 2, count, 6, seed=1), draw(2, 2, count, 6, seed=2)
        token = torch.arange(count)
        age = token[:, None] - token
        scores = (q @ k.repeat_interleave(2, 1).mT / 6**0.5).masked_fill((age < 0) | (age >= 5), -torch.inf)
        expected = scores.softmax(-1) @ v.repeat_interleave(2, 1)
        assert_near(attention.attend(q, k, v, 5, dilation=1, global_tokens=0), expected)

    @pytest.mark.parametrize(
        "pattern", [{"window": 65}, {"window": 1000}, {"window": 2, "global_tokens": 65}], ids=str
    )
    def test_a_pattern_that_sees_all_is_full_attention(self, pattern: dict[str, Any]) -> None:
        spec, x = Attention(num_heads=4, num_kv_heads=2, head_dim=8), draw(2, 65, D_MODEL)
        full, seeing = built(spec), built(replace(spec, **pattern))
        assert_near(full(x).y, seeing(x).y)

    def test_cost_is_linear_in_tokens(self) -> None:
        for pattern in ({"dilation": 4}, {"global_tokens": 7}, {"dilation": 4, "global_tokens": 7}):
            short, long = (attention.pairs(count, 10, **pattern) for count in (400, 3200))
            assert long == 8 * short

    @pytest.mark.parametrize("pattern", [{}, {"dilation": 4}, {"global_tokens": 9}], ids=str)
    def test_a_thousand_tokens_behind_a_state(self, pattern: dict[str, Any]) -> None:
        """More than one piece, a ring that wraps around, and tokens of every residue."""
        spec = Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=9, **pattern)
        module, x = built(spec), draw(1, 1000, D_MODEL)
        whole = module(x).y
        for first in (1, 3, 300):
            head = module(x[:, :first], module.init_state(1, 1000), 0)
            tail = module(x[:, first:], head.state, first)
            assert_near(torch.cat((head.y, tail.y), dim=1), whole)

    def test_the_state_is_as_small_as_the_pattern(self) -> None:
        spec = Attention(num_heads=4, num_kv_heads=2, head_dim=8, window=5, dilation=3, global_tokens=4)
        state = built(spec).init_state(1, 1000)
        assert sum(tensor.numel() for tensor in state.values()) == 2 * 2 * 8 * ((5 - 1) * 3 + 1 + 4)

    def test_without_positions_order_does_not_matter(self) -> None:
        spec = Attention(num_heads=2, num_kv_heads=2, head_dim=7, rotary=False)
        x = draw(1, 20, D_MODEL)
        shuffled = torch.cat((x[:, torch.randperm(19)], x[:, 19:]), dim=1)
        assert_near(built(spec)(x).y[:, -1], built(spec)(shuffled).y[:, -1])
        turned = replace(spec, head_dim=8, rotary=True)
        assert not torch.allclose(built(turned)(x).y[:, -1], built(turned)(shuffled).y[:, -1])

    def test_one_kv_head_is_multi_query_attention(self) -> None:
        """Shazeer 2019, section 3: the heads share keys and values of one head."""
        spec, x = Attention(num_heads=3, num_kv_heads=1, head_dim=6, rotary=False), draw(2, 11, D_MODEL)
        module = built(spec)
        p = dict(module.named_parameters())
        q = torch.einsum("bnd,hkd->bhnk", x, p["wq"])
        k, v = x @ p["wk"][0].T, x @ p["wv"][0].T
        logits = torch.einsum("bhnk,bmk->bhnm", q, k) / 6**0.5
        logits = logits + torch.full((11, 11), -torch.inf).triu(1)
        o = torch.einsum("bhnm,bmv->bhnv", logits.softmax(-1), v)
        assert_near(module(x).y, torch.einsum("bhnv,dhv->bnd", o, p["wo"]))

    @pytest.mark.parametrize("pattern", [{"dilation": 2}, {"global_tokens": 1}], ids=str)
    def test_a_pattern_without_a_window_is_refused(self, pattern: dict[str, Any]) -> None:
        with pytest.raises(IllegalArchitecture, match="need a window"):
            Attention(**pattern).check(D_MODEL)

    def test_decode_cost_follows_the_pattern(self) -> None:
        near = Attention(window=16)
        for pattern, more in (({"dilation": 4}, 0), ({"global_tokens": 7}, 7)):
            spec = replace(near, **pattern)
            scenario = Scenario(prompt=500)
            extra = spec.cost(64, scenario).decode_flops - near.cost(64, scenario).decode_flops
            assert extra == 4 * 4 * 32 * more


class TestCaches:
    @pytest.mark.parametrize("slots", [1, 5, 8])
    def test_a_ring_holds_the_latest_tokens(self, slots: int) -> None:
        ring, position = torch.full((1, 2, slots, 1), -1.0), 0
        for count in (1, 2, 13, 3, 1):
            rows = torch.arange(position, position + count).double()[:, None].expand(1, 2, -1, -1).float()
            here: int | Tensor = torch.tensor(position) if count == 2 else position
            ring = cache.write(ring, rows, here)
            position += count
            where = cache.slot_positions(slots, position, ring.device)
            latest = torch.arange(max(0, position - slots), position)
            assert torch.equal(where[where >= 0].sort().values, latest)
            assert torch.equal(ring[0, 0, where >= 0, 0].long(), where[where >= 0])

    @pytest.mark.parametrize("on_device", [False, True])
    def test_the_first_tokens_stay(self, on_device: bool) -> None:
        kept, position = torch.zeros(1, 5, 1), 0
        for count in (1, 2, 4, 3):
            rows = torch.arange(position + 1, position + count + 1.0)[None, :, None]
            kept = cache.write_first(kept, rows, torch.tensor(position) if on_device else position)
            position += count
        assert kept.flatten().tolist() == [1, 2, 3, 4, 5]


BLOCK_PATTERNS = [
    BlockPattern(4, 1, 0, 0),
    BlockPattern(4, 2, 1, 1),
    BlockPattern(5, 3, 0, 2),
    BlockPattern(1, 2, 3, 4),
    BlockPattern(7, 1, 2, 0),
    BlockPattern(64, 1, 1, 1),
]


class TestBlocks:
    @pytest.mark.parametrize("count", LENGTHS)
    @pytest.mark.parametrize("pattern", BLOCK_PATTERNS, ids=str)
    def test_fast_is_plain(self, count: int, pattern: BlockPattern) -> None:
        q = draw(2, 4, count, 6).requires_grad_()
        k, v = (draw(2, 2, count, 6, seed=s).requires_grad_() for s in (1, 2))
        plain = block_sparse.attend_in_blocks_plainly(q, k, v, pattern)
        for form in (block_sparse.attend_in_blocks, block_sparse.gather_and_attend):
            fast = form(q, k, v, pattern)
            assert_near(fast, plain)
            for slope, expected_slope in zip(
                gradients(fast, [q, k, v]), gradients(plain, [q, k, v]), strict=True
            ):
                assert_near(slope, expected_slope)
            plain = block_sparse.attend_in_blocks_plainly(q, k, v, pattern)

    @pytest.mark.parametrize("pattern", BLOCK_PATTERNS, ids=str)
    @pytest.mark.parametrize("count", [1, 3, 40])
    def test_late_queries_alone(self, count: int, pattern: BlockPattern) -> None:
        q, k, v = draw(2, 4, 90, 6), draw(2, 2, 90, 6, seed=1), draw(2, 2, 90, 6, seed=2)
        all_of_them = block_sparse.attend_in_blocks(q, k, v, pattern)
        late = block_sparse.attend_in_blocks(q[:, :, -count:], k, v, pattern)
        assert_near(late, all_of_them[:, :, -count:])

    @pytest.mark.parametrize("count", [17, 65])
    def test_all_blocks_global_is_full_attention(self, count: int) -> None:
        q, k, v = draw(2, 4, count, 6), draw(2, 2, count, 6, seed=1), draw(2, 2, count, 6, seed=2)
        for pattern in (BlockPattern(4, 1, 17, 0), BlockPattern(4, 17, 0, 0), BlockPattern(4, 1, 0, 16)):
            gathered = block_sparse.gather_and_attend(q, k, v, pattern)
            assert_near(gathered, attention.attend_plainly(q, k, v))

    def test_a_block_with_all_blocks_global_is_attention(self) -> None:
        sizes, x = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 8}, draw(2, 65, D_MODEL)
        sparse = BlockSparseAttention(**sizes, block_size=4, global_blocks=20)
        assert_near(built(sparse)(x).y, built(Attention(**sizes))(x).y)

    def test_blocks_of_one_token_are_a_window_with_global_tokens(self) -> None:
        sizes, x = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 8}, draw(2, 65, D_MODEL)
        sparse = BlockSparseAttention(
            **sizes, block_size=1, window_blocks=7, global_blocks=3, random_blocks=0
        )
        assert_near(built(sparse)(x).y, built(Attention(**sizes, window=7, global_tokens=3))(x).y)

    @pytest.mark.parametrize("pattern", BLOCK_PATTERNS, ids=str)
    def test_the_mask_is_bigbirds(self, pattern: BlockPattern) -> None:
        size, window, first, drawn = pattern
        count = 30
        token = torch.arange(count * size)
        seen = block_sparse.sees(token[:, None], token, pattern)
        inside = torch.arange(size)
        for i in range(count):
            rows = seen[i * size : (i + 1) * size]
            assert torch.equal(rows[:, i * size : (i + 1) * size], inside[:, None] >= inside)
            assert not rows[:, (i + 1) * size :].any()
            blocks = rows.unflatten(1, (count, size))
            whole = blocks.all(-1).all(0)[:i]
            assert torch.equal(whole, blocks.any(-1).any(0)[:i])
            must = {j for j in range(i) if j < first or j > i - window}
            others = set(whole.nonzero()[:, 0].tolist())
            assert must <= others
            assert len(others - must) == min(drawn, i - len(must))

    def test_draws_reach_all_earlier_blocks_alike(self) -> None:
        pattern, last = BlockPattern(1, 1, 0, 3), 4000
        blocks = torch.arange(301, last)
        drawn = block_sparse.seen_blocks(blocks, pattern)[:, :3]
        place = drawn.double() / blocks[:, None]
        counts = torch.histc(place, bins=30, min=0, max=1)
        expected = place.numel() / 30
        assert ((counts - expected).square() / expected).sum() < 60  # chi-square, 29 degrees of freedom
        left, right = place[:-1, 0], place[1:, 0]
        assert torch.corrcoef(torch.stack((left, right)))[0, 1].abs() < 0.06
        left, right = place[:, 0], place[:, 1]
        assert torch.corrcoef(torch.stack((left, right)))[0, 1].abs() < 0.06

    def test_draws_are_the_same_on_every_machine(self) -> None:
        drawn = block_sparse.seen_blocks(torch.tensor([5, 50, 5000]), BlockPattern(16, 3, 1, 2))
        assert drawn[:, 1:3].tolist() == [[1, 2], [2, 37], [1229, 3299]]

    def test_cost_is_linear_in_tokens(self) -> None:
        pattern = BlockPattern(16, 3, 1, 2)
        assert block_sparse.block_pairs(6400, pattern) == 8 * block_sparse.block_pairs(800, pattern)
        assert block_sparse.block_pairs(96, pattern) == 96 * 97 // 2

    def test_the_state_is_a_ring_where_nothing_is_drawn(self) -> None:
        spec = BlockSparseAttention(num_kv_heads=2, head_dim=8, block_size=4, random_blocks=0)
        state = built(spec).init_state(1, 1000)
        assert sum(tensor.numel() for tensor in state.values()) == 2 * 2 * 8 * (3 + 1) * 4
        everything = built(replace(spec, random_blocks=1)).init_state(1, 1000)
        assert sum(tensor.numel() for tensor in everything.values()) == 2 * 2 * 8 * 1000

    @pytest.mark.parametrize("random_blocks", [0, 2])
    def test_a_thousand_tokens_behind_a_state(self, random_blocks: int) -> None:
        spec = BlockSparseAttention(
            num_heads=2, num_kv_heads=1, head_dim=8, block_size=6, random_blocks=random_blocks
        )
        module, x = built(spec), draw(1, 1000, D_MODEL)
        whole = module(x).y
        for first in (1, 3, 300):
            head = module(x[:, :first], module.init_state(1, 1000), 0)
            tail = module(x[:, first:], head.state, first)
            assert_near(torch.cat((head.y, tail.y), dim=1), whole)


class TestFeatures:
    def test_taylor_features_multiply_to_the_second_order(self) -> None:
        q, k = draw(9, 5), draw(9, 5, seed=1)
        z = q @ k.T
        expected = 1 + z + z.square() / 2
        assert taylor_features(q).shape[-1] == taylor_size(5)
        torch.testing.assert_close(taylor_features(q) @ taylor_features(k).T, expected)

    def test_elu_features_are_positive_where_elu_plus_one_is_not(self) -> None:
        x = torch.linspace(-60, 60, 241)
        assert (elu_features(x) > 0).all()
        torch.testing.assert_close(elu_features(x), F.elu(x) + 1)
        assert (F.elu(x) + 1 == 0).any()

    def test_no_common_feature_is_no_output(self) -> None:
        y = torch.zeros(2, 4).requires_grad_()
        normalised(y).sum().backward()
        assert torch.equal(normalised(y), torch.zeros(2, 3))
        assert y.grad is not None
        assert y.grad.isfinite().all()


ILLEGAL: list[tuple[Block, dict[str, Any], str]] = [
    (Attention(window=4), {"dilation": 0}, "dilation"),
    (Attention(window=4), {"global_tokens": -1}, "global_tokens"),
    (BlockSparseAttention(), {"num_kv_heads": 3}, "multiple of num_kv_heads"),
    (BlockSparseAttention(), {"head_dim": 7}, "even"),
    (BlockSparseAttention(), {"window_blocks": 0}, "window_blocks"),
    (BlockSparseAttention(), {"random_blocks": -1}, "random_blocks"),
    (BlockSparseAttention(), {"global_blocks": 1.5}, "global_blocks"),
    (DifferentialAttention(), {"num_heads": 3}, "multiple of num_kv_heads"),
    (DifferentialAttention(), {"head_dim": 5}, "even"),
    (DifferentialAttention(), {"lambda_init": 1.0}, "below 1"),
    (DifferentialAttention(), {"lambda_init": -0.5}, "lambda_init"),
    (LatentAttention(), {"rope_dim": 3}, "even"),
    (LatentAttention(), {"kv_rank": 0}, "kv_rank"),
    (LinearAttention(), {"state_dim": None}, "state_dim"),
    (Performer(), {"num_features": 0}, "num_features"),
    (Performer(), {"head_dim": 7}, "even"),
    (Based(), {"window": None}, "window"),
    (Based(), {"head_dim": 7}, "even"),
]


@pytest.mark.parametrize(("spec", "changes", "word"), ILLEGAL, ids=lambda part: str(part))
def test_illegal_values_are_refused_by_name(spec: Block, changes: dict[str, Any], word: str) -> None:
    spec.check(D_MODEL)
    with pytest.raises(IllegalArchitecture, match=word):
        replace(spec, **changes).check(D_MODEL)
