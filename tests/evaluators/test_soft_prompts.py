"""Prompt and prefix tuning: what is read before a text, by every mixer, whole or token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from evaluators.compression.soft_prompts import PromptTraining, prompted, prompted_spec
from evaluators.tasks.recall import Recall
from evaluators.training.recipe import DEFAULT
from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.hyena import Hyena
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.parallel import Parallel
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.soft_prompt import FORMS, STATES, VECTORS, SoftPrompt
from search_spaces.network.sublayers import decoders_in
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

TASK = Recall.make(data=None, length=None, windows=None)
P = 5
MIXERS = [name for name, kind in blocks.items() if kind.mixes == "sequence"]


def network(block: Block, **layer: object) -> Model:
    made = Layer(sequence_mixer=block, channel_mixer=SwiGLU(), **layer)  # type: ignore[arg-type]
    return build(Decoder(vocab=TASK.vocab, d_model=16, layers=(made, made)), seed=1).eval()


def tokens(count: int, seed: int = 0, rows: int = 2) -> Tensor:
    return torch.randint(TASK.vocab, (rows, count), generator=torch.Generator().manual_seed(seed))


def moved(model: Model) -> Model:
    """With a prompt that no text says."""
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("soft_prompt"):
                weight += 0.05 * torch.randn(weight.shape, generator=dice)
    return model


def refused(spec: Decoder) -> bool:
    try:
        spec.check()
    except IllegalArchitecture:
        return True
    return False


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MIXERS)
def test_a_text_is_read_behind_the_prompt_whole_and_token_by_token(name: str, form: str) -> None:
    for block in blocks[name].examples()[:3]:
        base = network(block)
        prompt = SoftPrompt(tokens=P, form=form)
        if refused(prompted_spec(base.spec, prompt)):
            assert (name, form) == ("Hyena", STATES)
            continue
        text, first = tokens(9), tokens(P, seed=7, rows=1)
        begun = prompted(base, prompt, first)
        with torch.no_grad():
            # before anything is learned, the prompt says what its tokens would say
            expected = base(torch.cat([first.expand(2, -1), text], dim=1))[:, P:]
            torch.testing.assert_close(begun(text), expected, rtol=2e-4, atol=2e-4)
            model = moved(begun)
            whole = model(text)
            assert not torch.allclose(whole, expected, atol=1e-3) or not model.virtual_tokens
            torch.testing.assert_close(model(text, segment=4), whole, rtol=2e-4, atol=2e-4)
            logits, state = model.prefill(text[:, :4])
            steps = [logits]
            for token in text[:, 4:].T:
                one, state = model.step(token, state)
                steps.append(one[:, None])
            assert state.position == 9
            torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_learns_what_it_begins_with(name: str, form: str) -> None:
    block = blocks[name].examples()[0]
    base, prompt = network(block), SoftPrompt(tokens=P, form=form)
    if refused(prompted_spec(base.spec, prompt)) or not (form == VECTORS or block.state(16)):
        assert name in ("Hyena", "Skip")
        return
    model = moved(prompted(base, prompt, tokens(P)))
    training = PromptTraining(model, TASK, steps=3, seed=0, batch=2, recipe=DEFAULT)
    law = prompt.params(16, base.spec.layers)
    assert sum(weight.numel() for weight in training.parameters.values()) == law
    said = functional_call(model, training.merged(), (tokens(9),))
    F.cross_entropy(said.flatten(0, 1), tokens(9, seed=1).flatten()).backward()
    for path, weight in training.parameters.items():
        if name == "SLSTM" and path.endswith("peak"):  # scales cell and normaliser, which learn themselves
            continue
        assert weight.grad is not None, path
        assert weight.grad.isfinite().all(), path
        assert weight.grad.count_nonzero(), path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bits", [Bits(), Bits(weight=4, group=32)])
def test_merging_changes_no_logit(form: str, bits: Bits) -> None:
    model = moved(prompted(network(Mamba2(), bits=bits), SoftPrompt(tokens=P, form=form), tokens(P)))
    training = PromptTraining(model, TASK, steps=3, seed=0, batch=2, recipe=DEFAULT)
    losses = [training.learn()[0] for _ in range(3)]
    assert len(set(losses)) == 3
    text = tokens(9)
    with torch.no_grad():
        beside = functional_call(model, training.merged(), (text,), tie_weights=False)
        assert torch.equal(training.merge()(text), beside)


def test_states_of_few_bits_hold_what_vectors_say() -> None:
    model = moved(prompted(network(Mamba2(), bits=Bits(state=8)), SoftPrompt(tokens=P), tokens(P)))
    text = tokens(9)
    with torch.no_grad():
        logits, state = model.prefill(text[:, :4])
        again = model(text, segment=4)
        torch.testing.assert_close(again[:, :4], logits)
        torch.testing.assert_close(model(text), again, rtol=0.1, atol=0.1)
    assert state.layers[0]["sequence_mixer"]["memory"].dtype is torch.int8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", [None, 3])
def test_costs_are_those_of_a_text_behind_the_prompt(form: str, window: int | None) -> None:
    base = network(Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=window))
    spec = prompted_spec(base.spec, SoftPrompt(tokens=P, form=form))
    before, after = base.spec.cost(Scenario()), spec.cost(Scenario())
    rows = P if window is None else min(P, window)
    law = P * 16 if form == VECTORS else 2 * 2 * rows * 8
    assert after.params - before.params == law
    assert after.params == sum(weight.numel() for weight in Model(spec).parameters())
    assert spec.sizes()[0] == after.params
    assert after.weight_bytes - before.weight_bytes == 4 * law
    more = 0 if window else 2 * 2 * 8 * P  # two bytes a value
    assert after.state_bytes - before.state_bytes == more * 2
    assert (after.prefill_flops > before.prefill_flops) is (window is None)
    assert "soft_prompt" in str(spec)


@pytest.mark.parametrize(
    ("layer", "form", "message"),
    [
        (Layer(sequence_mixer=Hyena()), STATES, "layers.1 has Hyena, whose state holds what follows"),
        (
            Layer(sequence_mixer=Parallel(mixers=(Mamba2(), Hyena()))),
            STATES,
            "layers.1 has Parallel, whose state holds what follows",
        ),
        (
            Layer(sequence_mixer=Mamba2(), bits=Bits(state=8)),
            STATES,
            "layers.1 keeps its decode state at 8 bits",
        ),
        (
            Layer(sequence_mixer=Mamba2(), routing=MixtureOfDepths()),
            STATES,
            "layers.1 learns from whole sequences",
        ),
        (Layer(sequence_mixer=Mamba2(), exit=EarlyExit()), VECTORS, "layers.1 lets tokens leave the network"),
    ],
)
def test_what_cannot_begin_so_is_named(layer: Layer, form: str, message: str) -> None:
    spec = Decoder(vocab=32, d_model=16, layers=(Layer(sequence_mixer=Attention()), layer))
    with pytest.raises(IllegalArchitecture, match=message):
        prompted_spec(spec, SoftPrompt(form=form)).check()


def test_malformed_prompts_are_refused() -> None:
    spec = network(Mamba2()).spec
    for prompt, message in (
        (SoftPrompt(tokens=0), "tokens must be a positive integer, got 0"),
        (SoftPrompt(form="words"), "form must be vectors or states, got 'words'"),
        (Bits(), "soft_prompt must be a SoftPrompt"),
    ):
        with pytest.raises(IllegalArchitecture, match=message):
            replace(spec, soft_prompt=prompt).check()  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="a space has no soft_prompt"):
        list(decoders_in(prompted_spec(spec, SoftPrompt())))


def test_prompts_are_repeated_for_short_texts_and_pass_with_routers() -> None:
    base = network(Mamba2(), routing=MixtureOfDepths(capacity=0.5))
    model = prompted(base, SoftPrompt(tokens=7), tokens(3, rows=1))
    expected = base.embed(tokens(3, rows=1)[0]).repeat(3, 1)[:7]
    assert torch.equal(dict(model.named_parameters())["soft_prompt.vectors"], expected)
    text = tokens(9)
    with torch.no_grad():
        logits, _ = model.prefill(text)
        torch.testing.assert_close(model(text), logits)
    model.train()(text).sum().backward()
