"""Published architectures: all of them points of one space, and all of them work."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.base import blocks
from search_spaces.language.walk import closed_values
from search_spaces.network.model import build
from search_spaces.network.model_files import load_model, save_model
from search_spaces.parity import TOLERANCE
from search_spaces.scenario import Scenario
from search_spaces.spaces.hybrid_lm import hybrid_lm
from search_spaces.supernet import Supernet
from search_spaces.zoo import Published, zoo
from search_spaces.zoo_check import DECODE_TOLERANCE, check

NAMED = (
    *("transformer", "multi_query", "grouped_query", "mistral", "longformer", "bigbird", "performer"),
    *(
        "linear_transformer",
        "differential_transformer",
        "deepseek_v2",
        "based",
        "s4",
        "s4d",
        "mamba",
        "mamba2",
    ),
    *(
        "hyena",
        "rwkv6",
        "xlstm",
        "retnet",
        "gla",
        "delta_net",
        "gated_delta_net",
        "griffin",
        "jamba",
        "zamba",
    ),
    *("striped_hyena", "samba", "lfm2", "gshard", "switch", "mixtral", "deepseek_moe", "mixture_of_depths"),
    *("early_exit", "bitnet"),
)

points = pytest.mark.parametrize("point", zoo.values(), ids=lambda point: point.name)


def text(batch: int, count: int, seed: int) -> Tensor:
    """Tokens with something to learn: each is its predecessor plus one or two, among few."""
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(1, 3, (batch, count), generator=dice).cumsum(1).remainder(17)


def test_every_named_system_is_there() -> None:
    assert set(zoo) >= set(NAMED)


@points
def test_a_point_lies_in_the_large_space(point: Published) -> None:
    space = hybrid_lm()
    assert space.contains(point.spec)
    assert space.close(space.genotype_of(point.spec)) == point.spec


@points
def test_a_point_learns_decodes_and_survives_the_journey(point: Published, tmp_path: Path) -> None:
    model, losses = build(point.spec, seed=0), []
    optimizer = torch.optim.Adam(
        [{"params": [p], "lr": model.learning_rates()[name]} for name, p in model.named_parameters()]
    )
    for step in range(20):
        tokens, aside = text(4, 48, step), list[Tensor]()
        logits = model(tokens[:, :-1], aside)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        losses.append(loss.item())
        optimizer.zero_grad()
        (loss + sum(aside)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    save_model(model.eval(), tmp_path / "model")
    stored = load_model(tmp_path / "model")
    written = stored.generate(text(2, 9, 99), 6)
    assert written.shape == (2, 6)
    assert torch.equal(written, load_model(tmp_path / "model").generate(text(2, 9, 99), 6))


@points
def test_a_point_passes_its_check(point: Published) -> None:
    checked = check(point.spec)
    assert checked.decode <= DECODE_TOLERANCE
    if checked.missing:
        pytest.skip(f"not installed: {', '.join(checked.missing)}")
    assert checked.parity is not None
    assert checked.parity <= TOLERANCE


def test_the_large_space_holds_every_block_that_offers_open_forms() -> None:
    layer = max(hybrid_lm().root.layers.options, key=len)[0].options[0]
    held = {
        type(b).__name__
        for place in ("sequence_mixer", "channel_mixer")
        for b in closed_values(getattr(layer, place))
    }
    assert held - {"NoneType"} == {name for name, kind in blocks.items() if kind.open_forms()}


def test_the_size_of_the_large_space_is_exact() -> None:
    """Counted a second way: closed layers one by one, stacks and widths by arithmetic."""
    space = hybrid_lm()
    layer, shared = max(space.root.layers.options, key=len)[0].options
    plain = 1
    for name in ("sequence_mixer", "channel_mixer", "bits", "routing", "exit"):
        plain *= len(closed_values(getattr(layer, name)))
    each = plain + len(closed_values(shared))
    assert space.size() == 3 * sum(each**depth for depth in (2, 4, 6, 8))


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    made = Supernet(hybrid_lm(), seed=0)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn(weight.shape, generator=dice), alpha=0.05)
    return made


@torch.no_grad()
def test_a_slice_of_the_large_supernet_is_its_copy_bit_for_bit(supernet: Supernet) -> None:
    dice, space, tokens = Random(5), supernet.space, text(2, 70, 0)
    for _ in range(25):
        subnet = supernet.subnet(space.close(space.sample(dice)))
        subnet.module.eval()
        sliced, copied = subnet(tokens), subnet.extract().eval()(tokens)
        assert torch.equal(sliced, copied), subnet.spec
        assert sliced.isfinite().all(), subnet.spec


@points
@torch.no_grad()
def test_a_point_can_be_read_from_the_supernet(point: Published, supernet: Supernet) -> None:
    subnet = supernet.subnet(point.spec)
    assert subnet(text(1, 20, 0)).isfinite().all()
    held = sum(p.numel() for p in subnet.module.parameters())
    assert held == point.spec.cost(Scenario()).params
