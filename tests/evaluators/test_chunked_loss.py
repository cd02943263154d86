"""The loss of a large vocabulary is that of all logits at once, without holding them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from evaluators.scoring import windows
from evaluators.scoring.windows import window_losses
from evaluators.tasks.base import IGNORED
from evaluators.tasks.recall import Recall
from evaluators.training import chunked_loss as module
from evaluators.training import regions
from evaluators.training.chunked_loss import rows_at_once
from evaluators.training.execution import EAGER, TRACED, Execution
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import Recipe
from evaluators.training.regions import Regions, token_loss
from search_spaces.network.ends import Head
from search_spaces.network.model import build
from search_spaces.network.shell import Shell, ShellModule
from tests.evaluators import tiny

VOCAB, WIDTH = 37, 6
SHELLS = [Shell(VOCAB, WIDTH), Shell(VOCAB, WIDTH, head=Head(tied=False, softcap=3.0))]


def shell_and_text(shell: Shell, dtype: torch.dtype) -> tuple[ShellModule, Tensor, Tensor]:
    made, dice = ShellModule(shell), torch.Generator().manual_seed(0)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, generator=dice)
    x = torch.randn(3, 7, WIDTH, dtype=dtype, generator=dice).requires_grad_()
    targets = torch.randint(VOCAB, (3, 7), generator=dice)
    targets[1, 2:] = IGNORED
    return made.to(dtype), x, targets


def loss_and_gradients(made: ShellModule, x: Tensor, targets: Tensor, backend: str) -> list[Tensor]:
    inputs = [x, *made.parameters()]
    loss = 2 * Regions(backend, 1e9).text_loss(lambda parts: parts.head(made, x), targets, logits=False)
    return [loss.detach(), *torch.autograd.grad(loss, inputs, materialize_grads=True)]


@pytest.mark.parametrize("backend", [EAGER, TRACED])
@pytest.mark.parametrize("at_once", [1, 3 * VOCAB, 8 * VOCAB])
@pytest.mark.parametrize("shell", SHELLS, ids=["tied", "of its own"])
def test_loss_and_gradients_are_those_of_all_logits(
    backend: str, at_once: int, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = shell_and_text(shell, torch.float64)
    whole = loss_and_gradients(*inputs, EAGER)
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    chunked = loss_and_gradients(*inputs, backend)
    for one, other in zip(whole, chunked, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


class Largest(TorchDispatchMode):
    """The values of the largest tensor that is computed inside."""

    numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, Tensor):
                self.numel = max(self.numel, each.numel())
        return made


def test_logits_of_all_tokens_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x, targets = shell_and_text(SHELLS[0], torch.float32)
    with Largest() as whole:
        loss_and_gradients(made, x, targets, EAGER)
    monkeypatch.setattr(module, "AT_ONCE", 7 * VOCAB)
    with Largest() as chunked:
        loss_and_gradients(made, x, targets, EAGER)
    assert whole.numel == 21 * VOCAB
    assert chunked.numel == 7 * VOCAB


def test_without_gradients_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x, targets = shell_and_text(SHELLS[0], torch.float32)
    with torch.no_grad():
        wanted = token_loss(made.logits(x), targets)
        monkeypatch.setattr(module, "AT_ONCE", 7 * VOCAB)
        loss = Regions(EAGER, 1.0).text_loss(lambda parts: parts.head(made, x), targets, logits=False)
    torch.testing.assert_close(loss, wanted)
    assert not loss.requires_grad


def test_only_what_learns_has_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 7 * VOCAB)
    made, x, targets = shell_and_text(SHELLS[0], torch.float32)
    made.embedding.requires_grad_(False)
    loss = Regions(EAGER, 1.0).text_loss(lambda parts: parts.head(made, x), targets, logits=False)
    loss.backward()
    assert made.embedding.grad is None
    assert x.grad is not None
    x.requires_grad_(False)
    made.embedding.requires_grad_()
    Regions(EAGER, 1.0).text_loss(lambda parts: parts.head(made, x), targets, logits=False).backward()
    assert made.embedding.grad is not None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_learns_the_same(
    precision: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = tiny.task(tmp_path_factory.mktemp("text"))

    def trained() -> NetworkTraining:
        training = NetworkTraining(
            build(tiny.decoder(), seed=0),
            task,
            steps=5,
            seed=0,
            batch=4,
            recipe=Recipe(precision=precision),
            execution=Execution(compile=EAGER),
        )
        fit(training)
        return training

    whole = trained()
    monkeypatch.setattr(module, "AT_ONCE", 16 * 256)
    chunked = trained()
    tolerance = {"float32": 1e-5, "bfloat16": 3e-2}[precision]
    for name, weight in whole.parameters.items():
        torch.testing.assert_close(chunked.parameters[name], weight, rtol=tolerance, atol=tolerance)


def test_chunks_have_one_size_where_they_can() -> None:
    assert rows_at_once(2048, 256) == 2048
    assert rows_at_once(2048, 49_152) == 512
    assert rows_at_once(3 * 1024, 49_152) == 512  # five would do, and six are equal
    assert rows_at_once(2039, 49_152) == 680  # a prime: three, of which the last is smaller
    assert rows_at_once(5, 2**30) == 1
    assert all(rows_at_once(n, 49_152) * 49_152 <= 1.01 * module.AT_ONCE for n in range(1, 3000, 7))


def test_few_windows_of_a_large_vocabulary_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Recall(windows=40)
    model, seen = build(tiny.decoder(vocab=task.vocab), seed=0), list[int]()

    def network(tokens: Tensor, segment: int | None = None) -> Tensor:
        seen.append(tokens.shape[0])
        logits: Tensor = model(tokens, segment=segment)
        return logits

    whole = window_losses(network, task)
    assert seen == [32, 8]
    seen.clear()
    monkeypatch.setattr(windows, "AT_ONCE", 9 * task.length * task.vocab)
    torch.testing.assert_close(window_losses(network, task), whole)
    assert seen == [9, 9, 9, 9, 4]
    assert regions.token_loss is token_loss
