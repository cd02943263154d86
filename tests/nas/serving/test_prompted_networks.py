"""Networks with a soft prompt: texts stand behind it in pages, slots, snapshots and drafts."""

from __future__ import annotations

import pytest
import torch

from evaluators.compression.soft_prompts import prompted
from nas.serving.drafts.layers import FirstLayers
from nas.serving.drafts.ngram import NGram
from nas.serving.engine import Engine
from nas.serving.requests import TooLong
from nas.serving.settings import EngineSettings
from search_spaces.network.model import Model
from search_spaces.network.soft_prompt import FORMS, SoftPrompt
from tests.nas.serving.networks import Answers, greedy, network, prompt
from tests.nas.serving.test_engine import nothing_held

NAMES = ["caches", "recurrent", "hybrid"]


def with_prompt(name: str, form: str) -> Model:
    base = network(name)
    model = prompted(base, SoftPrompt(tokens=7, form=form), torch.tensor([prompt(7, 99)])).double()
    for key, weight in base.named_parameters():
        assert torch.equal(dict(model.named_parameters())[key], weight)
    return model


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_network_alone(name: str, form: str) -> None:
    model = with_prompt(name, form)
    answers = Answers(Engine(model, EngineSettings(context=64, rows=3, page=4, chunk=13)))
    shared = prompt(12, 5)  # a beginning that is read once
    asked = [prompt(1), prompt(17, 1), *(shared + prompt(4, i) for i in range(3)), prompt(30, 2)]
    for tokens in asked:
        answers.ask(tokens, max_tokens=9)
    answers.run()
    for i, tokens in enumerate(asked):
        assert answers.tokens(i) == greedy(model, tokens, 9)
    assert answers.engine.tally.prefix_tokens > 0
    assert nothing_held(answers.engine)


@pytest.mark.parametrize("draft", [NGram(), FirstLayers(first=1)])
def test_drafts_propose_behind_the_prompt(draft: NGram | FirstLayers) -> None:
    for name, form in zip(NAMES, (*FORMS, FORMS[0]), strict=True):
        model = with_prompt(name, form)
        answers = Answers(Engine(model, EngineSettings(context=64, rows=2, draft_rows=2), draft=draft))
        tokens = prompt(6) * 3
        answers.ask(tokens, max_tokens=20)
        answers.run()
        assert answers.tokens(0) == greedy(model, tokens, 20)
        assert answers.engine.tally.passes > 0


def test_the_context_counts_the_text_alone() -> None:
    model = with_prompt("caches", FORMS[1])
    answers = Answers(Engine(model, EngineSettings(context=32, rows=1, page=4)))
    answers.ask(prompt(20), max_tokens=12)
    answers.run()
    assert answers.tokens(0) == greedy(model, prompt(20), 12)
    with pytest.raises(TooLong, match="more than the context of 32 tokens"):
        answers.ask(prompt(20), max_tokens=14)
