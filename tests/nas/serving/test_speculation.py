"""Speculative decoding: answers are those without a draft, whatever it proposes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2

from foundation.errors import SettingError, UnknownName
from nas.serving.drafts.base import Begin, Draft, Pick, drafts
from nas.serving.drafts.layers import FirstLayers
from nas.serving.drafts.network import SmallerNetwork
from nas.serving.drafts.ngram import Lookup, NGram
from nas.serving.engine import Engine
from nas.serving.settings import EngineSettings
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import save_model
from tests.nas.serving.networks import NETWORKS, Answers, greedy, network, prompt
from tests.nas.serving.test_engine import nothing_held

SMALL = 5
NAMES = [name for name in NETWORKS if name != "rounded"]


@dataclass(frozen=True, kw_only=True)
class Told(Draft):
    """A draft for tests: the right tokens, each wrong with a chance."""

    name = "told"
    right: Sequence[int] = ()
    wrong: float = 0.3

    def begun(self, network: Model) -> Begin:
        dice = torch.Generator().manual_seed(0)

        class Teller:
            def propose(inner, text: Sequence[int], count: int, pick: Pick) -> list[int]:
                after = self.right[len(text) :][:count]
                return [t ^ int(torch.rand(1, generator=dice) < self.wrong) for t in after]

        return Teller


def answered(name: str, draft: Draft | None, *, rows: int = 4, count: int = 1, **asked: Any) -> Answers:
    settings = EngineSettings(context=96, rows=rows, page=4, draft_rows=2)
    answers = Answers(Engine(network(name), settings, draft=draft))
    for i in range(count):
        answers.ask(prompt(9, i), **{"max_tokens": 40, "seed": i, **asked})
    answers.run()
    assert nothing_held(answers.engine)
    return answers


@pytest.mark.parametrize("name", NAMES)
def test_greedy_answers_are_exactly_those_of_the_network(name: str) -> None:
    right = greedy(network(name), prompt(9), 40)
    told = answered(name, Told(right=[*prompt(9), *right]))
    assert told.tokens(0) == right
    tally = told.engine.tally
    assert 0.4 < tally.acceptance < 0.9
    assert tally.tokens_per_pass > 1.5
    assert tally.passed_tokens == 39  # the first one comes with the prompt
    for draft in (FirstLayers(first=1), NGram(shortest=1)):
        assert answered(name, draft).tokens(0) == right


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_those_without_a_draft(name: str) -> None:
    asked: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9}
    alone = answered(name, None, **asked)
    with_draft = answered(name, FirstLayers(first=1, tokens=3), **asked)
    assert with_draft.tokens(0) == alone.tokens(0)
    assert with_draft.engine.tally.proposed > 0


@pytest.mark.parametrize("name", ["hybrid", "recurrent", "caches"])
def test_rows_go_between_batch_and_draft(name: str) -> None:
    """Five requests of different lengths: batches at first, the draft for the last two."""
    answers = Answers(
        Engine(network(name), EngineSettings(context=96, page=4, draft_rows=2), draft=FirstLayers(first=1))
    )
    for i in range(4):
        answers.ask(prompt(5 + i, i), max_tokens=6 + 9 * i)
    for _ in range(30):
        answers.engine.iterate()
    answers.ask(prompt(7, 9), max_tokens=5)  # two join while the draft proposes
    answers.ask(prompt(3, 8), max_tokens=4)
    answers.run()
    lengths = [(5 + i, i, 6 + 9 * i) for i in range(4)] + [(7, 9, 5), (3, 8, 4)]
    for index, (length, seed, count) in enumerate(lengths):
        assert answers.tokens(index) == greedy(answers.engine.model, prompt(length, seed), count)
    assert answers.engine.tally.passes > 0
    assert answers.engine.tally.steps > 0
    assert nothing_held(answers.engine)


def test_a_row_gives_way_where_pages_run_out() -> None:
    answers = Answers(
        Engine(network("caches"), EngineSettings(context=64, page=2, draft_rows=4), draft=NGram(shortest=1))
    )
    pages = answers.engine.pool.pages[None]
    del pages.free[pages.needed(48) :]
    for i in range(3):
        answers.ask(prompt(10, i), max_tokens=25)
    answers.run()
    assert answers.engine.tally.preempted > 0
    for i in range(3):
        assert answers.tokens(i) == greedy(answers.engine.model, prompt(10, i), 25)


def test_an_end_token_and_a_cancel_end_a_pass() -> None:
    model = network("caches")
    expected = greedy(model, prompt(5), 20)
    told = Told(right=[*prompt(5), *expected], wrong=0.0)
    answers = Answers(Engine(model, EngineSettings(context=64), ends=[expected[7]], draft=told))
    answers.ask(prompt(5), max_tokens=20)
    answers.run()
    assert answers.tokens(0) == expected[: expected.index(expected[7])]
    request = answers.ask(prompt(6), max_tokens=40)
    answers.engine.iterate()
    request.cancelled = True
    answers.run()
    assert answers.finish(1) == "cancelled"
    assert nothing_held(answers.engine)


def small() -> Model:
    """A recurrent network of five tokens."""
    torch.manual_seed(0)
    spec = replace(network("recurrent").spec, vocab=SMALL)
    model = build(spec, seed=3).double().eval()
    with torch.no_grad():
        model.embedding.mul_(3)
    return model


def chance_of(samples: int, draft: Draft) -> float:
    """The p-value of a chi-squared test: three tokens of each sample, by a draft, against the network.

    The first comes with the prompt, the second is verified, the third is drawn in the same pass or the next.
    """
    model, text, hot = small(), [1, 3, 0, 2, 2, 4], 1.3
    answers = Answers(Engine(model, EngineSettings(context=64, rows=1, queue=10**6), draft=draft))
    for seed in range(samples):
        answers.ask(text, temperature=hot, seed=seed, max_tokens=3)
    while answers.engine.iterate():
        pass
    triples = list(product(range(SMALL), repeat=3))
    counts = Counter(tuple(answers.tokens(i)) for i in range(samples))
    with torch.no_grad():
        logs = model(torch.tensor([[*text, *triple] for triple in triples])).div(hot).log_softmax(-1)
    at = torch.tensor(triples)
    after = logs[:, len(text) - 1 : -1].gather(-1, at[..., None])[..., 0].sum(-1).exp()
    expected, seen = samples * after, torch.tensor([float(counts[triple]) for triple in triples])
    assert float(expected.sum()) == pytest.approx(samples)
    usual = expected >= 5
    rest = (seen[~usual].sum() - expected[~usual].sum()) ** 2 / expected[~usual].sum().clamp_min(1e-9)
    statistic = float(((seen - expected)[usual] ** 2 / expected[usual]).sum() + rest)
    assert 0 < answers.engine.tally.acceptance < 1
    return float(chi2.sf(statistic, int(usual.sum()) - (not bool((~usual).any()))))


def test_answers_have_the_distribution_of_the_network() -> None:
    """300 samples; it fails by chance in one of 10^5 runs."""
    assert chance_of(300, FirstLayers(first=1, tokens=2)) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("draft", [FirstLayers(first=1, tokens=2), NGram(shortest=1)])
def test_ten_thousand_answers_have_the_distribution_of_the_network(draft: Draft) -> None:
    """10,000 samples; it fails by chance in one of 10^5 runs."""
    assert chance_of(10_000, draft) > 1e-5


def test_an_ngram_is_looked_for_from_the_longest_on() -> None:
    lookup = Lookup(3, 2)
    text = [1, 2, 3, 9, 4, 2, 3, 8, 1, 2, 3]

    def never(logits: torch.Tensor, draws: int) -> int:
        raise AssertionError

    assert lookup.propose(text[:6], 4, never) == []
    assert lookup.propose(text, 2, never) == [9, 4]
    assert lookup.propose([*text, 9, 4], 9, never) == [2, 3, 8, 1, 2, 3, 9, 4]


def test_a_smaller_network_proposes_what_it_would_write(tmp_path: Path) -> None:
    save_model(network("caches").float(), tmp_path / "small", {})
    draft = Draft.from_line(f"network,folder={tmp_path / 'small'},tokens=5")
    answers = answered("caches", draft)
    assert answers.tokens(0) == greedy(network("caches"), prompt(9), 40)
    assert answers.engine.tally.acceptance > 0.95  # the same weights, but for float32
    other = build(replace(network("caches").spec, vocab=17), seed=0)
    save_model(other, tmp_path / "other", {})
    with pytest.raises(SettingError, match="has 17 tokens and the network 256"):
        SmallerNetwork(folder=str(tmp_path / "other")).begun(network("caches"))


def test_layers_share_their_weights_and_use_an_exit() -> None:
    model = network("options")
    short = FirstLayers(first=1).model(model)
    assert short.embedding is model.embedding
    assert len(short.decoder_layers) == 1
    with torch.no_grad():
        x = torch.randn(2, 16, dtype=torch.float64)
        exit = model.decoder_layers[0].exit
        assert exit is not None
        torch.testing.assert_close(short.logits(x), exit(x))
    assert [draft.first for draft in FirstLayers.choices(model) if isinstance(draft, FirstLayers)] == [1]


def test_wrong_drafts_are_refused() -> None:
    model = network("caches")
    with pytest.raises(UnknownName, match="did you mean 'ngram'"):
        Draft.from_line("ngramm")
    with pytest.raises(SettingError, match="tokens must be at most 32"):
        Draft.from_line("ngram,tokens=99")
    with pytest.raises(SettingError, match="first=2 must be less than the 2 layers"):
        Engine(model, draft=FirstLayers(first=2))
    with pytest.raises(SettingError, match="folder=DIR is missing"):
        Engine(model, draft=SmallerNetwork())
    with pytest.raises(SettingError, match="layer 0 rounds its decode state"):
        Engine(network("rounded"), draft=NGram())
    assert set(drafts) >= {"ngram", "network", "layers"}
