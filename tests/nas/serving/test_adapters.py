"""Adapters: rows of a batch have each their own, and answer as the base with that adapter alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluators.compression.adapters import FILE, Adapter, Factors, read_adapter, write_adapter
from evaluators.compression.low_rank import PLACES, matrices
from evaluators.training.trainable import weights_digest
from foundation.errors import SettingError, UnknownName
from nas.serving.adapters.folders import adapters_in
from nas.serving.adapters.trial import mixable
from nas.serving.drafts.ngram import NGram
from nas.serving.engine import Engine
from nas.serving.requests import Request, Sampling
from nas.serving.settings import EngineSettings
from search_spaces.blocks.base import blocks
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.quantization.bits import Bits
from tests.nas.serving.networks import FULL, MLP, Answers, greedy, network, prompt
from tests.nas.serving.test_engine import nothing_held

INSIDE = {("LatentAttention", "wk"), ("LatentAttention", "wv"), ("SLSTM", "recurrent")}
"""What is multiplied in a way that no adapter can change from outside."""


def adapter(model: Model, seed: int, *, scaled: bool = False, places: tuple[str, ...] = PLACES) -> Adapter:
    """Random factors, large enough to change what is written."""
    dice, found = torch.Generator().manual_seed(seed), {}
    for name, shape in matrices(model, places).items():
        rank = 1 + (seed + len(name)) % min(3, shape.rows, shape.inputs)
        down = torch.randn(shape.stacked, rank, shape.inputs, generator=dice).double()
        up = torch.randn(shape.stacked, shape.rows, rank, generator=dice).double() * 0.2
        scale = 0.5 + torch.rand(shape.stacked, shape.rows, 1, generator=dice).double()
        found[name] = Factors(down, up, scale if scaled else None)
    return Adapter(found, weights_digest(dict(model.named_parameters())))


def merged(model: Model, own: Adapter) -> Model:
    """The network with an adapter in its weights."""
    new = build(model.spec).double().eval()
    weights = dict(model.state_dict())
    for name, (down, up, scale) in own.factors.items():
        base = weights[name].reshape(*up.shape[:2], down.shape[-1]) + up @ down
        weights[name] = (base if scale is None else scale * base).view_as(weights[name])
    new.load_state_dict(weights)
    return new


def served(name: str, count: int = 3, **settings: int) -> tuple[Answers, dict[str, Adapter]]:
    model = network(name)
    own = {f"a{seed}": adapter(model, seed, scaled=seed % 2 == 1) for seed in range(count)}
    asked = EngineSettings(**{"context": 64, "rows": 8, **settings})
    return Answers(Engine(model, asked, adapters=own)), own


def ask(answers: Answers, which: str | None, tokens: list[int], count: int) -> None:
    answers.ask(tokens, max_tokens=count)
    answers.engine.waiting[-1].adapter = which


@pytest.mark.parametrize("name", ["caches", "recurrent", "hybrid", "options"])
def test_rows_of_a_batch_have_each_their_own(name: str) -> None:
    answers, own = served(name)
    assert answers.engine.adapters.mixed == (name in ("caches", "recurrent"))  # without experts or routers
    asked = [None, "a0", "a1", "a2", "a1"]
    for i, which in enumerate(asked):
        ask(answers, which, prompt(5 + 4 * i, i), 6)
    answers.run()
    alone = {which: merged(answers.engine.model, each) for which, each in own.items()}
    texts = []
    for i, which in enumerate(asked):
        expected = greedy(alone[which] if which else answers.engine.model, prompt(5 + 4 * i, i), 6)
        assert answers.tokens(i) == expected
        texts.append(greedy(answers.engine.model, prompt(5 + 4 * i, i), 6))
    assert [answers.tokens(i) for i in range(5)] != texts, "adapters change something"
    assert answers.engine.tally.stepped_rows > 2 * answers.engine.tally.steps
    assert nothing_held(answers.engine)


def test_adapters_take_turns_in_little_memory() -> None:
    answers, own = served("recurrent", count=6)
    pool = answers.engine.adapters
    small = type(pool)(answers.engine.model, own, 2 * pool.slot_bytes)
    answers.engine.adapters = small
    order = [0, 1, 2, 3, 4, 5, 0, 5]
    for i, which in enumerate(order):
        ask(answers, f"a{which}", prompt(6, i), 5)
    for _ in range(1000):
        assert len(small._slots) <= 2
        if not answers.engine.iterate():
            break
    for i, which in enumerate(order):
        assert answers.tokens(i) == greedy(merged(answers.engine.model, own[f"a{which}"]), prompt(6, i), 5)
    assert small.loads > len(own)
    assert not any(small._rows)
    with pytest.raises(SettingError, match="adapter_memory=0 MiB cannot hold an adapter"):
        type(pool)(answers.engine.model, own, pool.slot_bytes - 1)


def test_a_beginning_that_another_adapter_has_read_is_not_taken() -> None:
    answers, own = served("hybrid", count=2)
    begin = prompt(20)
    for i in range(6):
        ask(answers, f"a{i % 2}", [*begin, *prompt(4, i)], 4)
        answers.run()
    assert answers.engine.tally.prefix_tokens == 40, "the third prompt of each takes what two have read"
    for i in range(6):
        expected = greedy(merged(answers.engine.model, own[f"a{i % 2}"]), [*begin, *prompt(4, i)], 4)
        assert answers.tokens(i) == expected


def test_a_draft_is_verified_by_the_row_s_own_adapter() -> None:
    model = network("caches")
    own = adapter(model, 1)
    answers = Answers(Engine(model, EngineSettings(context=64), adapters={"a": own}, draft=NGram()))
    ask(answers, "a", prompt(9) * 2, 20)
    answers.run()
    assert answers.tokens(0) == greedy(merged(model, own), prompt(9) * 2, 20)
    assert answers.engine.tally.proposed > 0


def test_an_adapter_that_is_not_there_is_refused() -> None:
    answers, _ = served("caches")
    with pytest.raises(UnknownName, match="no adapter 'b'"):
        answers.engine.submit(Request([1], Sampling(), print, "b"))


@pytest.mark.parametrize("name", blocks)
def test_the_products_of_every_block_can_be_adapted(name: str) -> None:
    kind = blocks[name]
    block = kind.examples()[0]
    if kind.mixes == "sequence":
        layer = Layer(sequence_mixer=block, channel_mixer=MLP)
    else:
        layer = Layer(sequence_mixer=FULL, channel_mixer=block)
    model = build(Decoder(vocab=32, d_model=32, layers=(layer,)), seed=1).eval()
    for matrix in matrices(model, PLACES):
        if (name, matrix.rpartition(".")[2]) in INSIDE:
            with pytest.raises(SettingError, match="takes part in a product that no adapter can"):
                mixable(model, [matrix])
        else:
            assert mixable(model, [matrix]) or ".channel_mixer." in matrix


def test_no_adapter_follows_tokens_to_two_precisions() -> None:
    layer = Layer(sequence_mixer=FULL, channel_mixer=MLP, bits=Bits(weight=8), precision=AdaptivePrecision())
    model = build(Decoder(vocab=32, d_model=32, layers=(layer,)), seed=1).eval()
    every = set(matrices(model, PLACES))
    within = {name for name in every if ".channel_mixer." in name}
    assert within
    assert mixable(model, every - within)
    with pytest.raises(SettingError, match=r"layers\.0 sends tokens to one of two precisions"):
        mixable(model, every)


def test_what_is_no_adapter_of_the_network_is_refused(tmp_path: Path) -> None:
    model = network("caches").float()
    own = adapter(model, 1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_adapter(tmp_path / name, own)
    digest = own.base
    read = read_adapter(tmp_path / "a", model, digest)
    assert all(torch.equal(read.factors[n].up, own.factors[n].up.float()) for n in own.factors)
    assert list(adapters_in([tmp_path], model, "base")) == ["a", "b"]
    for folders, base, reason in (
        ([tmp_path / "a", tmp_path], "base", "two networks would have the name 'a'"),
        ([tmp_path / "a"], "a", "two networks would have the name 'a'"),
        ([tmp_path / "no"], "base", "there is no folder .*no: "),
    ):
        with pytest.raises(SettingError, match=reason):
            adapters_in(folders, model, base)
    with pytest.raises(SettingError, match="belongs to other weights"):
        adapters_in([tmp_path], network("caches", seed=3).float(), "base")
    path, first = tmp_path / "a" / FILE, min(own.factors)
    tensors, told = load_file(path), {"format": "1", "base": digest}

    def refused(changed: dict[str, torch.Tensor], reason: str) -> None:
        save_file(changed, path, told)
        with pytest.raises(SettingError, match=reason):
            read_adapter(tmp_path / "a", model, digest)

    refused({**tensors, f"{first}.up": tensors[f"{first}.up"][:, :1].clone()}, "where a matrix of")
    refused({**tensors, f"{first}.up": tensors[f"{first}.up"] * torch.inf}, "not finite")
    refused({**tensors, "layers.9.x.down": torch.zeros(1, 1, 1)}, "no matrix 'layers.9.x'")
    refused({**tensors, "other": torch.zeros(1)}, "other is no part of an adapter")
    refused({**tensors, f"{first}.down": torch.zeros(1, 99, 16)}, "rank 99 is larger")
    refused({n: t for n, t in tensors.items() if n != f"{first}.up"}, "is missing")
    path.write_bytes(b"junk" * 9)
    with pytest.raises(SettingError, match="damaged"):
        read_adapter(tmp_path / "a", model, digest)
