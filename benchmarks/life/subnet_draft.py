"""A network speculates with its own subnet: a supernet is trained, and its best draft is chosen.

    python -m benchmarks.life.subnet_draft FOLDER [--device cuda:0] [--width 640] [--steps 400]

The space has depth and channels open, its largest network 30 million parameters or more. Each step visits
the largest, which reads text, and smaller ones, which learn from the largest one's predictions on the way
(in-place distillation), so that a draft comes at no training of its own. Then the largest and all subnets of
the smallest depths are written to FOLDER, and the table of drafts is made of them: how often each is right,
what it costs, which one with how many tokens is fastest (the exact engine's choice), and what that measures;
beside it the bits per byte of each.
FOLDER keeps the networks, so that a second call only measures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import keep, show
from benchmarks.life.speculative import TEMPERATURES, best_of, rows_of
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training.execution import Execution
from evaluators.training.recipe import Recipe
from nas.modification import figures_of
from nas.serving.draft_settings import DraftSettings
from nas.serving.draft_table import draft_table
from nas.serving.drafts.network import SmallerNetwork
from nas.study.model_code import load
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Label
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model_files import save_model

COMMAND = "python -m benchmarks.life.subnet_draft"
DEPTHS, WIDTHS, LARGEST, SEED = (1, 3, 7), (2, 4), "largest", 0
NAMES = ("draft", "best")


def space_of(width: int) -> Space:
    """One kind of layer; depth and channels are open."""
    attention = Attention(num_heads=width // 64, num_kv_heads=1, head_dim=64)
    layer = Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=one_of(*WIDTHS)))
    decoder = Decoder(vocab=256, d_model=width, layers=repeat(layer, DEPTHS))
    return Space(decoder, name="drafts")


def networks(width: int) -> dict[str, Decoder]:
    """The largest network, and its drafts by the names of their folders."""
    space = space_of(width)
    found: dict[str, Decoder] = {}
    for depth in DEPTHS:
        for expansion in WIDTHS:
            if depth < DEPTHS[-1] or expansion == WIDTHS[-1]:
                name = f"{depth}-layers-{expansion}" if depth < DEPTHS[-1] else LARGEST
                found[name] = space.draw(partial(_answer, (depth, expansion)))[1]
    return found


def _answer(wanted: tuple[int, int], path: str, labels: tuple[Label, ...]) -> Label:
    return next(label for label in labels if label in wanted)


def train(folder: Path, task: LanguageModelling, given: argparse.Namespace) -> None:
    """Train the supernet, and write its networks."""
    recipe = Recipe(supernet=SupernetRecipe(networks=3, distill=0.7))
    execution = Execution(device=given.device)
    training = SupernetTraining(
        space_of(given.width),
        task,
        steps=given.steps,
        seed=SEED,
        batch=given.batch,
        recipe=recipe,
        execution=execution,
    )
    for step in range(given.steps):
        losses = training.learn()
        if step % 20 == 0 or step + 1 == given.steps:
            print(f"step {step}: {[round(loss, 3) for loss in losses]}", flush=True)
    for name, spec in networks(given.width).items():
        save_model(training.supernet.subnet(spec).extract().to("cpu"), folder / name, {})


def measure(folder: Path, task: LanguageModelling, given: argparse.Namespace) -> None:
    """The table of drafts."""
    network = load(folder / LARGEST).to(given.device).eval()
    tokens = task.validation()[0]
    tried = [SmallerNetwork(folder=str(folder / name)) for name in networks(given.width) if name != LARGEST]
    rows: list[dict[str, Any]] = []
    best: list[dict[str, Any]] = []
    for temperature in TEMPERATURES:
        asked = DraftSettings(new_tokens=given.new_tokens, temperature=temperature)
        prompts = tokens[: asked.prompts, : asked.prompt_tokens].tolist()
        table = draft_table(network, prompts, tried, asked)
        told = [*rows_of(table, temperature), best_of(table, temperature)]
        plain = [
            {**row, key: row[key].replace(f"{folder}/", "")} for row in told for key in row if key in NAMES
        ]
        rows, best = [*rows, *plain[:-1]], [*best, plain[-1]]
    models = {name: load(folder / name).to(given.device).eval() for name in networks(given.width)}
    quality = {name: figures_of(model, task).score.value for name, model in models.items()}
    for row in rows:
        row["bits per byte"] = quality[row["draft"].rpartition("=")[2]]
    show("drafts", rows)
    show("the best", best)
    print(f"the network itself: {quality[LARGEST]:.3f} bits per byte")
    count = sum(weight.numel() for weight in network.parameters())
    command = f"{COMMAND} FOLDER --device {given.device} --width {given.width} --steps {given.steps}"
    device = torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu"
    name = f"subnet_draft_{given.device.partition(':')[0]}"
    keep(name, command, rows, best=best, parameters=count, device=device, quality=quality)


def main(arguments: Sequence[str]) -> None:
    """Train where nothing is trained yet, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64, help="of the windows that are learnt, in bytes")
    parser.add_argument("--new-tokens", type=int, default=64)
    given = parser.parse_args(arguments)
    task = LanguageModelling.make(data=None, length=given.length, windows=128)
    if not (given.folder / LARGEST).is_dir():
        train(given.folder, task, given)
    measure(given.folder, task, given)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
