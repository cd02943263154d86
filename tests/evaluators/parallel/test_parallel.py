"""The words of a parallel training: they are printed back, and what cannot be is refused with what can."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.training.parallel.methods.base import methods
from evaluators.training.parallel.parallel import Parallel
from foundation.errors import SettingError, UnknownName
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.quantization.bits import Bits
from tests.evaluators.parallel.networks import HYBRID, TRANSFORMER, course

FORMS = (
    ("dp",),
    ("fsdp",),
    ("tp",),
    ("pp",),
    ("dp", "tp"),
    ("dp", "pp"),
    ("fsdp", "tp"),
    ("dp", "fsdp"),
    ("pp", "tp"),
    ("dp", "pp", "tp"),
)


@given(
    form=st.sampled_from(FORMS),
    degrees=st.lists(st.integers(1, 12), min_size=3, max_size=3),
    flag=st.booleans(),
)
def test_what_is_parsed_is_printed_back(form: tuple[str, ...], degrees: list[int], flag: bool) -> None:
    words = [f"{name}={degree}" for name, degree in zip(form, degrees, strict=False)]
    own = {"fsdp": "fsdp.reshard=false", "tp": "tp.whole=true", "pp": "pp.schedule=gpipe"}
    words += [own[name] for name in form if flag and name in own]
    parallel = Parallel.parse(",".join(words))
    assert Parallel.parse(str(parallel)) == parallel
    assert Parallel.from_plain(parallel.to_plain()) == parallel
    assert parallel.count == prod(method.degree for method in parallel.methods)
    assert prod(parallel.sizes.values()) == parallel.count


@given(rank=st.integers(0, 23))
def test_every_rank_has_a_place(rank: int) -> None:
    parallel = Parallel.parse("dp=3,pp=2,tp=4")
    indices = parallel.indices(rank)
    flat = 0
    for name, size in parallel.sizes.items():
        assert 0 <= indices[name] < size
        flat = flat * size + indices[name]
    assert flat == rank


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pp=2,fsdp=2", "pp and fsdp do not work together: pp x dp"),
        ("dp=2,dp.zero=1,fsdp=2", "fsdp shares the optimizer state already"),
        ("dp=2,dp.zero=1,pp=2", "dp.zero=1 and pp do not work together"),
        ("dp=0", "parallel='dp=0': dp must be at least 1"),
        ("dp=two", "dp must be a whole number, got 'two'"),
        ("dp", "write dp=PROCESSES"),
        ("dp=2,dp=4", "dp is given twice"),
        ("dp.zero=1", "dp.zero needs dp=PROCESSES"),
        ("dp=2,dp.zero=3", "dp.zero must be at most 1"),
        ("dp=60000,tp=60000", "at most 65,536"),
    ],
)
def test_what_cannot_be_is_refused(text: str, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Parallel.parse(text)


def test_a_word_alone_is_told_the_methods() -> None:
    with pytest.raises(
        SettingError, match="'zebra': write METHOD=PROCESSES; methods are dp, fsdp, pp and tp"
    ):
        Parallel.parse("zebra, tp=2")


@pytest.mark.parametrize(("text", "near"), [("ddp=2", "dp"), ("tp=2,tp.hole=true", "whole")])
def test_unknown_words_name_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{near}'"):
        Parallel.parse(text)


@pytest.mark.parametrize(
    ("parallel", "told"),
    [
        ("tp=3", "parallel='tp=3': layers.0.sequence_mixer: .* which 3 does not divide"),
        ("pp=3", "each stage needs a layer, and this network has 2"),
        ("dp=3", "a batch of 8 rows does not fall into 3 equal pieces"),
        ("dp=16", "choose a multiple of 16"),
        ("pp=2", "parallel='pp=2' needs a batch in at least 2 pieces, got accumulate=1"),
    ],
)
def test_what_a_network_cannot_is_refused_before_it_begins(parallel: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=told):
        course(TRANSFORMER, tmp_path, parallel)
    assert not list(tmp_path.iterdir())


def test_layers_that_share_their_weights_are_refused() -> None:
    layer = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=2, head_dim=8), shared="a")
    spec = Decoder(vocab=256, d_model=16, layers=(layer, layer))
    for text in ("pp=2", "fsdp=2"):
        with pytest.raises(SettingError, match="layers that share their weights"):
            Parallel.parse(text).check(spec)
    Parallel.parse("dp=2,tp=2").check(spec)


def test_blocks_that_cannot_be_split_may_stay_whole() -> None:
    spec = Decoder(vocab=256, d_model=16, layers=(Layer(sequence_mixer=ShortConv(kernel=3)),))
    with pytest.raises(SettingError, match=r"ShortConv cannot be split.*tp.whole=true"):
        Parallel.parse("tp=2").check(spec)
    Parallel.parse("tp=2,tp.whole=true").check(spec)


def test_leading_bits_of_a_part_of_a_row_are_refused() -> None:
    layer = Layer(
        sequence_mixer=Attention(num_heads=2, num_kv_heads=2, head_dim=8),
        channel_mixer=SwiGLU(expansion=2),
        bits=Bits(weight=8),
        precision=AdaptivePrecision(),
    )
    spec = Decoder(vocab=256, d_model=16, layers=(layer, layer))
    with pytest.raises(
        SettingError, match=r"parallel='tp=2': layers\.0: leading bits are those of whole rows"
    ):
        Parallel.parse("tp=2").check(spec)
    for text in ("tp=1", "fsdp=2", "dp=2,pp=2"):
        Parallel.parse(text).check(spec)


@pytest.mark.parametrize("name", list(methods))
def test_every_method_says_what_it_is(name: str) -> None:
    kind = methods[name]
    assert kind.summary.endswith(".")
    assert all(other in methods for other in kind.beside)
    assert str(kind(degree=2)) == f"{name}=2"
    for spec in (TRANSFORMER, HYBRID):
        kind(degree=2).check(spec)
