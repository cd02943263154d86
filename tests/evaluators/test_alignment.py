"""Blockwise alignment: alternatives learn the parent's blocks, the parent stays, a killed run resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from evaluators.blockwise.alignment import Alignment, align, imitation_error
from evaluators.blockwise.parent import parents_by_width, recorded
from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from evaluators.supernet.weights import copy_of, digest_of
from evaluators.tasks.base import Task
from evaluators.training import checkpoints
from foundation.errors import IllegalArchitecture, SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.sublayers import Sublayer, sublayers_of
from search_spaces.quantization.bits import Bits
from search_spaces.supernet import Supernet
from tests.evaluators import tiny

ATTENTION = Attention(num_heads=2, num_kv_heads=2, head_dim=8)


def small_space(**more: object) -> Space:
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8),
            RGLRU(num_heads=2, head_dim=8),
            ShortConv(kernel=3),
        ),
        channel_mixer=one_of(
            SwiGLU(expansion=one_of(1, 2)), MoE(num_experts=2, top_k=one_of(1, 2), expansion=1), None
        ),
        bits=Bits(weight=one_of(4, 16), state=one_of(8, 16)),
        **more,
    )
    return Space(Decoder(d_model=one_of(16, 24), layers=repeat(layer, depths=(1, 2, 3))), name="small")


def parent_of(d_model: int = 24) -> Decoder:
    layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2))
    return Decoder(d_model=d_model, layers=(layer,) * 3)


def shaken(space: Space, seed: int = 0) -> Supernet:
    """A supernet of which every parameter is random, norms too."""
    supernet, dice = Supernet(space, seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in supernet.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=dice))
    return supernet


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return tiny.task(tmp_path_factory.mktemp("text"), length=21)


def test_a_borrowed_sublayer_computes_what_it_computes_in_a_subnet(task: Task) -> None:
    supernet, dice = shaken(small_space(reads_embedding=one_of(False, True))), Random(1)
    tokens = task.validation()[0][:2]
    for _ in range(12):
        spec = supernet.space.close(supernet.space.sample(dice))
        seen = recorded(supernet, spec, tokens)
        for sublayer in sublayers_of(spec):
            if sublayer.block is None:
                assert sublayer.path not in seen.sublayers
                continue
            x, added = seen.sublayers[sublayer.path]
            with torch.no_grad():
                assert torch.equal(BorrowedSublayer(supernet, sublayer)(x, seen.embedding).y - x, added)


@pytest.mark.parametrize("reads_embedding", [False, True])
def test_a_borrowed_sublayer_in_pieces_hands_over_its_state(reads_embedding: bool) -> None:
    supernet = shaken(small_space(reads_embedding=one_of(False, True)))
    dice = torch.Generator().manual_seed(0)
    x, embedding = torch.randn(2, 2, 13, 24, generator=dice)
    for block in (ATTENTION, RGLRU(num_heads=2, head_dim=8), ShortConv(kernel=3)):
        own = Sublayer("sequence_mixer", block, 24, reads_embedding=reads_embedding, site="layers.0")
        whole = BorrowedSublayer(supernet, own)
        rough = BorrowedSublayer(supernet, replace(own, bits=Bits(state=8)))
        with torch.no_grad():
            expected = whole(x, embedding).y
            pieces, rounded = whole(x, embedding, segment=5).y, rough(x, embedding, segment=5).y
        torch.testing.assert_close(pieces, expected, rtol=1e-4, atol=1e-5)
        assert not torch.equal(rounded, pieces)
        assert torch.equal(rounded[:, :5], pieces[:, :5]) or block is not ATTENTION
        torch.testing.assert_close(rounded, pieces, rtol=0.2, atol=0.2)


def test_the_parent_and_the_given_supernet_stay_bit_equal_and_the_others_learn(task: Task) -> None:
    supernet = shaken(small_space())
    parent, origin = parent_of(), digest_of(supernet)
    tokens = task.validation()[0]
    with torch.no_grad():
        before = {d: supernet.subnet(p)(tokens) for d, p in parents_by_width(supernet, parent).items()}
    aligned = align(supernet, parent, task, steps=60, seed=0, batch=4)
    assert digest_of(supernet) == origin
    assert sorted(before) == [16, 24]
    with torch.no_grad():
        for d_model, logits in before.items():
            assert torch.equal(aligned.supernet.subnet(replace(parent, d_model=d_model))(tokens), logits)
    kinds = ("sequence_mixer:RGLRU", "sequence_mixer:ShortConv", "channel_mixer:MoE")
    assert set(aligned.after) == {f"layers.{i}.{kind}" for i in range(3) for kind in kinds}
    assert all(aligned.after[kind] < aligned.before[kind] for kind in aligned.after)
    assert sum(aligned.after.values()) < 0.6 * sum(aligned.before.values())


def test_smaller_sizes_and_fewer_bits_learn_too(task: Task) -> None:
    supernet = shaken(small_space())
    aligned = align(supernet, parent_of(), task, steps=60, seed=0, batch=4).supernet
    tokens = task.validation()[0]
    for d_model in (16, 24):
        seen = recorded(supernet, parent_of(d_model), tokens)
        for block in (RGLRU(num_heads=2, head_dim=8), MoE(num_experts=2, top_k=1, expansion=1)):
            place = "sequence_mixer" if isinstance(block, RGLRU) else "channel_mixer"
            small = Sublayer(place, block, d_model, Bits(weight=4, state=8), site="layers.1")
            x, y = seen.sublayers[small.path]
            with torch.no_grad():
                old, new = (
                    imitation_error(BorrowedSublayer(s, small)(x).y - x, y) for s in (supernet, aligned)
                )
            assert new < old


def test_a_killed_alignment_resumes_to_the_same_weights(task: Task, tmp_path: Path) -> None:
    supernet, parent = shaken(small_space()), parent_of()
    whole = align(supernet, parent, task, steps=7, seed=3, batch=2).supernet

    unfinished = Alignment(supernet, parent, task, steps=7, seed=3, batch=2)
    for _ in range(4):
        unfinished.learn()

    checkpoints.save(unfinished, tmp_path)
    heard: list[int] = []
    rest = align(
        supernet,
        parent,
        task,
        steps=7,
        seed=3,
        batch=2,
        folder=tmp_path,
        on_step=lambda s, _: heard.append(s),
    )
    assert heard == [5, 6, 7]
    assert digest_of(rest.supernet) == digest_of(whole)
    heard.clear()
    again = align(
        supernet,
        parent,
        task,
        steps=7,
        seed=3,
        batch=2,
        folder=tmp_path,
        on_step=lambda s, _: heard.append(s),
    )
    assert heard == []
    assert digest_of(again.supernet) == digest_of(whole)
    other = shaken(small_space(), seed=1)
    align(
        other, parent, task, steps=7, seed=3, batch=2, folder=tmp_path, on_step=lambda s, _: heard.append(s)
    )
    assert heard[0] == 1, "an alignment of other weights must not be taken up"


def test_a_copy_is_equal_and_apart() -> None:
    supernet = shaken(small_space())
    other = copy_of(supernet)
    assert digest_of(other) == digest_of(supernet)
    with torch.no_grad():
        other.parameters()[0].add_(1.0)
    assert digest_of(other) != digest_of(supernet)


def test_a_parent_of_another_space_is_refused(task: Task) -> None:
    supernet = Supernet(small_space())
    stranger = replace(parent_of(), layers=(Layer(sequence_mixer=Attention(num_heads=4, num_kv_heads=4)),))
    with pytest.raises(IllegalArchitecture):
        align(supernet, stranger, task, steps=1, seed=0)
    with pytest.raises(SettingError, match="steps and batch"):
        align(supernet, parent_of(), task, steps=0, seed=0)
