"""Rings and caches against Python lists, and attention over a cache against attention over all tokens."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.ops import attention, block_sparse, cache, ring
from tests.ops.recurrences import normal

CPU = torch.device("cpu")

segments = st.lists(st.integers(1, 9), min_size=1, max_size=5)
"""Numbers of tokens that are written one after the other."""


def rows(first: int, count: int) -> Tensor:
    """Rows [1, 2, T, 3] that say which token they are."""
    token = torch.arange(first, first + count, dtype=torch.float64)
    return token[:, None] + torch.tensor([0.0, 0.25, 0.5]) + torch.zeros(1, 2, 1, 1)


@settings(max_examples=60, deadline=None)
@given(counts=segments, slots=st.integers(1, 12), on_device=st.booleans())
def test_a_ring_holds_the_latest_rows_in_their_slots(counts: list[int], slots: int, on_device: bool) -> None:
    kept, position = torch.full((1, 2, slots, 3), -1.0, dtype=torch.float64), 0
    for count in counts:
        at = torch.tensor(position) if on_device else position
        kept = cache.write(kept, rows(position, count), at)
        position += count
        held = cache.slot_positions(slots, position, CPU)
        for slot, token in enumerate(held.tolist()):
            expected = rows(token, 1)[..., 0, :] if token >= 0 else torch.full((1, 2, 3), -1.0).double()
            assert torch.equal(kept[..., slot, :], expected)
            assert token < 0 or token % slots == slot
        assert sorted(token for token in held.tolist() if token >= 0) == list(
            range(max(0, position - slots), position)
        )


@settings(max_examples=60, deadline=None)
@given(counts=segments, slots=st.integers(1, 12), on_device=st.booleans())
def test_first_rows_are_kept_and_never_overwritten(counts: list[int], slots: int, on_device: bool) -> None:
    kept, position = torch.full((1, 2, slots, 3), -1.0, dtype=torch.float64), 0
    for count in counts:
        at = torch.tensor(position) if on_device else position
        kept = cache.write_first(kept, rows(position, count), at)
        position += count
        full = min(position, slots)
        assert torch.equal(kept[..., :full, :], rows(0, full))
        assert (kept[..., full:, :] == -1).all()


@settings(max_examples=60, deadline=None)
@given(counts=segments, slots=st.integers(1, 12))
def test_a_ring_of_entries_is_read_oldest_first(counts: list[int], slots: int) -> None:
    held, position = torch.zeros(1, slots, 3, dtype=torch.float64), 0
    for count in counts:
        held = ring.ring_write(held, rows(position, count)[:, 0], position)
        position += count
        oldest = max(0, position - slots)
        assert torch.equal(ring.ring_read(held, position), rows(oldest, position - oldest)[:, 0])
    ages = ring.ring_ages(slots, position, CPU)
    for slot, age in enumerate(ages.tolist()):
        token = position - age
        if 0 <= token < position:
            assert torch.equal(held[:, slot], rows(token, 1)[:, 0, 0])
        else:  # at `position` itself, or never written
            assert age in (0, *range(position + 1, slots + 1))


@pytest.mark.parametrize("on_device", [False, True], ids=["int", "tensor"])
def test_ring_writes_at_positions_on_the_device_are_the_same(on_device: bool) -> None:
    for position in (0, 3, 7, 11):
        at = torch.tensor(position) if on_device else position
        held = ring.ring_write(torch.zeros(1, 5, 3, dtype=torch.float64), rows(position, 2)[:, 0], at)
        assert torch.equal(held[:, position % 5], rows(position, 1)[:, 0, 0])
        assert int((held != 0).any(-1).sum()) == (1 if position == 0 else 2) + (position == 0)


PATTERNS = {
    "all": (None, 1, 0),
    "window": (6, 1, 0),
    "dilated": (4, 3, 0),
    "global": (5, 1, 3),
    "dilated and global": (3, 2, 4),
}


@pytest.mark.parametrize("cut", [1, 3, 8, 29])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_attention_over_a_cache_is_attention_over_all_tokens(
    pattern: tuple[int | None, int, int], cut: int
) -> None:
    window, dilation, global_tokens = pattern
    rules = {"dilation": dilation, "global_tokens": global_tokens}
    q, k, v = normal(2, 4, 30, 6, seed=1), normal(2, 2, 30, 6, seed=2), normal(2, 2, 30, 6, seed=3)
    whole = attention.attend_plainly(q, k, v, window, **rules)
    reach = 30 if window is None else (window - 1) * dilation + 1
    held = {name: torch.zeros(2, 2, reach, 6, dtype=torch.float64) for name in ("k", "v")}
    if global_tokens:
        for name in ("k_global", "v_global"):
            held[name] = torch.zeros(2, 2, global_tokens, 6, dtype=torch.float64)
    held = cache.write_keys_values(held, k[:, :, :cut], v[:, :, :cut], 0)
    y, held = cache.attend_with_cache(
        q[:, :, cut:],
        k[:, :, cut:],
        v[:, :, cut:],
        held,
        cut,
        sees=partial(attention.sees, window=window, **rules),
        ring=window is not None,
    )
    torch.testing.assert_close(y, whole[:, :, cut:], rtol=1e-10, atol=1e-10)
    last = cache.slot_positions(reach, 30, CPU)
    written = last >= 0
    assert torch.equal(held["k"][:, :, written], k[:, :, last[written]])
    if global_tokens:
        assert torch.equal(held["v_global"], v[:, :, :global_tokens])


def test_a_long_text_behind_a_ring_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = normal(1, 2, 50, 4, seed=1), normal(1, 2, 50, 4, seed=2), normal(1, 2, 50, 4, seed=3)
    outputs = []
    for piece in (7, 1000):
        monkeypatch.setattr(cache, "PIECE", piece)
        held = {name: torch.zeros(1, 2, 5, 4, dtype=torch.float64) for name in ("k", "v")}
        sees = partial(attention.sees, window=5)
        outputs.append(cache.attend_with_cache(q, k, v, held, 0, sees=sees, ring=True)[0])
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(outputs[0], attention.attend_plainly(q, k, v, 5), rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4), groups=st.sampled_from([1, 2, 4]))
def test_one_query_over_parts_is_one_query_over_all_of_them(lengths: list[int], groups: int) -> None:
    q, parts = normal(2, 4, 6), []
    for seed, length in enumerate(lengths, start=1):
        seen = torch.arange(length) % 3 != 2
        parts.append(
            (normal(2, groups, length, 6, seed=seed), normal(2, groups, length, 6, seed=-seed), seen)
        )
    k, v = (torch.cat([part[place] for part in parts], dim=2) for place in (0, 1))
    seen = torch.cat([part[2] for part in parts])
    expected = attention.attend_to_cache(q[:, :, None], k, v, seen[None])[:, :, 0]
    torch.testing.assert_close(attention.attend_one_to_parts(q, parts), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(attention.attend_one(q, k, v, seen), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40),
    window=st.none() | st.integers(1, 20),
    dilation=st.integers(1, 4),
    global_tokens=st.integers(0, 6),
)
def test_a_pattern_is_its_definition(
    count: int, window: int | None, dilation: int, global_tokens: int
) -> None:
    token = torch.arange(count)
    seen = attention.sees(token[:, None], token, window, dilation=dilation, global_tokens=global_tokens)
    for t in range(count):
        steps = range(window) if window is not None else range(count)
        stride = dilation if window is not None else 1
        near = {t - step * stride for step in steps} | (set(range(global_tokens)) if window else set())
        assert set(seen[t].nonzero().flatten().tolist()) == {s for s in near if 0 <= s <= t}


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        block_sparse.BlockPattern, st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(0, 3)
    ),
    st.integers(1, 70),
)
def test_a_block_sees_whole_blocks_each_once_and_its_own_last(
    pattern: block_sparse.BlockPattern, count: int
) -> None:
    blocks = torch.arange(-(-count // pattern.block_size))
    listed = block_sparse.seen_blocks(blocks, pattern)
    assert listed.shape[-1] == pattern.width
    for block, seen in zip(blocks.tolist(), listed.tolist(), strict=True):
        real = [index for index in seen if index >= 0]
        assert len(set(real)) == len(real)
        assert max(real) == block
        window = set(range(max(0, block - pattern.window_blocks + 1), block + 1))
        assert window | set(range(min(pattern.global_blocks, block + 1))) <= set(real)
        if block < pattern.width:
            assert set(real) == set(range(block + 1))


@settings(max_examples=20, deadline=None)
@given(
    st.builds(
        block_sparse.BlockPattern, st.integers(1, 6), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2)
    ),
    st.sampled_from([1, 7, 63, 64, 65]),
    st.sampled_from([1, 2, 4]),
)
def test_gathered_blocks_are_the_masked_scores(
    pattern: block_sparse.BlockPattern, count: int, groups: int
) -> None:
    q, k, v = normal(1, 4, count, 4, seed=1), normal(1, groups, count, 4, seed=2), normal(1, groups, count, 4)
    plain = block_sparse.attend_in_blocks_plainly(q, k, v, pattern)
    for form in (block_sparse.attend_in_blocks, block_sparse.gather_and_attend):
        torch.testing.assert_close(form(q, k, v, pattern), plain, rtol=1e-10, atol=1e-10)
    late = q[:, :, count // 2 :]
    torch.testing.assert_close(
        block_sparse.attend_in_blocks(late, k, v, pattern),
        plain[:, :, count // 2 :],
        rtol=1e-10,
        atol=1e-10,
    )
