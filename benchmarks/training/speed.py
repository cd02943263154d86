"""How fast networks and supernets are trained here, beside a plain PyTorch loop in the same run.

    python -m benchmarks.training.speed --device cuda
    python -m benchmarks.training.speed --device cuda --section supernet
    python -m benchmarks.training.speed --device cuda --section supernet --space gpu --compile none --batch 32
    python -m benchmarks.training.speed --small                       # a rehearsal on a CPU

Sections: `network`, tokens a second of one network by a plain loop under autocast, the same compiled, and by
ours; `kinds`, a network of each recurrent kind, beside a float32 step that runs as it is and waits for its
loss; `supernet`, a step of four networks, and the seconds of compiling, without and with what an earlier
process compiled (`--space gpu`: of a ready-made space; `--no-graphs`: regions are not recorded; `--compile
none`: nor compiled). Times are medians of three stretches of steps, which a GPU ends at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.common import keep, show_plainly
from benchmarks.training.plain_gpt import PlainGPT
from evaluators.corpus import load_corpus
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training.execution import INDUCTOR, Execution
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import Recipe
from evaluators.training.regions import token_loss
from evaluators.training.trainable import Trainable
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.rwkv6 import RWKV6
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.slstm import SLSTM
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.quantization.bits import Bits
from search_spaces.spaces import spaces

SECTIONS = ("network", "kinds", "supernet")
STRETCHES = 3
STEPS = 100_000
"""Of a training that is timed in its first ones."""


@dataclass(frozen=True)
class Size:
    """Width, layers, tokens of a window, batches, and steps of a stretch."""

    width: int = 512
    layers: int = 8
    length: int = 512
    batches: tuple[int, ...] = (16, 64)
    steps: int = 20
    supernet_steps: int = 40


SMALL = Size(64, 2, 64, (2,), 2, 4)


def main() -> None:
    """Run the sections, print and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--section", action="append", choices=(*SECTIONS, "one-supernet"))
    parser.add_argument("--kind", action="append", help="only these kinds of blocks")
    parser.add_argument("--compile", default="", help="how regions are compiled")
    parser.add_argument("--no-graphs", action="store_true", help="nothing is recorded as a CUDA graph")
    parser.add_argument("--space", default="", help="a ready-made space for the supernet")
    parser.add_argument("--batch", type=int, default=0, help="windows of a network in a supernet's step")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/training_speed.json")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bench = Bench(given.device, SMALL if given.small else Size(), given.compile, graphs=not given.no_graphs)
    if given.section == ["one-supernet"]:
        print(json.dumps(bench.supernet(given.space, given.batch)), flush=True)
        return
    found: dict[str, Any] = {}
    for section in given.section or SECTIONS:
        about = {"kinds": (given.kind,), "supernet": (given.space, given.batch)}.get(section, ())
        rows = list(getattr(bench, f"{section}_rows")(*about))
        show_plainly(section, rows)
        found[section] = rows
    if given.keep:
        gpu = torch.cuda.get_device_name() if given.device.startswith("cuda") else ""
        keep(
            "training_speed",
            " ".join(["python -m benchmarks.training.speed", *sys.argv[1:]]),
            [],
            gpu=gpu,
            **found,
        )


class Bench:
    """The sections on a device."""

    def __init__(self, device: str, size: Size, compile: str, *, graphs: bool = True) -> None:
        self.device, self.size, self.compile, self.graphs = device, size, compile, graphs
        self.task = LanguageModelling(load_corpus().folder, length=size.length)
        settings: dict[str, Any] = {"compile": compile} if compile else {}
        settings |= {} if graphs else {"graphs": False}
        self.fast = Execution.for_device(device, **settings)
        self.recipe = Recipe(precision="bfloat16")

    def network_rows(self) -> Iterator[dict[str, Any]]:
        """A plain loop, the same compiled, and ours: tokens a second at each batch."""
        spec = self.spec(Attention(num_heads=8, num_kv_heads=2, head_dim=self.size.width // 8))
        for batch in self.size.batches:
            compiled = self.plain(batch, compiled=True)
            rows = {
                "plain": self.plain(batch, compiled=False),
                "plain, compiled": compiled,
                "ours": self.ours(spec, batch),
            }
            for name, row in rows.items():
                rate = row["tokens_per_s"]
                found = {"batch": batch, "loop": name, "step_ms": row["step_ms"], "tokens_per_s": rate}
                found |= {"of_compiled": rate / compiled["tokens_per_s"], "first_s": row["first_s"]}
                print(found, flush=True)
                yield found

    def kinds_rows(self, only: list[str] | None) -> Iterator[dict[str, Any]]:
        """Ours beside the step in float32 that runs as it is, for networks of one kind."""
        batch = self.size.batches[0]
        for block in kinds(self.size.width):
            kind = type(block).__name__
            if only and kind not in only:
                continue
            spec = self.spec(block)
            before = self.ours(spec, batch, Recipe(), Execution(device=self.device), waits=True)
            now = self.ours(spec, batch)
            row = {
                "kind": kind,
                "before_ms": before["step_ms"],
                "now_ms": now["step_ms"],
                "times": before["step_ms"] / now["step_ms"],
                "compiling_s": now["compiling_s"],
                "loss_before": before["loss"],
                "loss_now": now["loss"],
            }
            print(row, flush=True)
            yield row

    def supernet_rows(self, name: str, batch: int) -> Iterator[dict[str, Any]]:
        """A step of a supernet in fresh processes: without and with files of compiled regions."""
        words = [sys.executable, "-m", "benchmarks.training.speed", "--section", "one-supernet"]
        words += ["--device", self.device, "--space", name, "--batch", str(batch)]
        words += ["--small"] * (self.size is SMALL) + ["--no-graphs"] * (not self.graphs)
        words += ["--compile", self.compile] if self.compile else []
        with tempfile.TemporaryDirectory() as folder:
            for files in ("none", "cached") if self.fast.compile == INDUCTOR else ("none",):
                variables = os.environ | {
                    "TORCHINDUCTOR_CACHE_DIR": folder,
                    "TRITON_CACHE_DIR": f"{folder}/triton",
                }
                began = time.perf_counter()
                done = subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True, check=True)
                row = json.loads(done.stdout.splitlines()[-1])
                row = {"files": files, **row, "process_s": time.perf_counter() - began}
                print(row, flush=True)
                yield row

    def supernet(self, name: str, batch: int) -> dict[str, Any]:
        """Steps of a supernet: the last ones timed, and the seconds until all regions were compiled."""
        recipe = replace(self.recipe, supernet=SupernetRecipe(networks=4))
        execution = replace(self.fast, compile_seconds=600.0)
        training = SupernetTraining(
            spaces[name]() if name else space(self.size),
            self.task,
            steps=STEPS,
            seed=0,
            batch=batch or self.size.batches[0],
            recipe=recipe,
            execution=execution,
        )
        began = time.perf_counter()
        for step in range(self.size.supernet_steps):
            training.advance()
            if step in (0, 1, 3, 7, 15):
                self.wait()
                passed = time.perf_counter() - began
                print(f"step {step}: {passed:.1f} s, compiling {training.regions.spent:.1f} s", flush=True)
        step_ms, recorder = self.timed(training), training.regions.recorder
        return {
            "space": training.space.name,
            "batch": training.batch,
            "compile": execution.compile,
            "step_ms": step_ms,
            "tokens_per_s": 1e3 * training.pace.tokens / step_ms,
            "compiling_s": training.regions.spent,
            "recorded": recorder and recorder.count,
            "recording_s": recorder and recorder.spent,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if self.device.startswith("cuda") else 0.0,
        }

    def spec(self, block: Block) -> Decoder:
        """The network of layers of one kind."""
        layer = Layer(sequence_mixer=block, channel_mixer=SwiGLU(expansion=3))
        if block.mixes == "channels":
            attention = Attention(num_heads=8, num_kv_heads=2, head_dim=self.size.width // 8)
            layer = Layer(sequence_mixer=attention, channel_mixer=block)
        return Decoder(vocab=256, d_model=self.size.width, layers=(layer,) * self.size.layers)

    def plain(self, batch: int, *, compiled: bool) -> dict[str, Any]:
        """The loop that everybody writes: autocast, fused AdamW, clipping, batches on the device."""
        size = self.size
        model = PlainGPT(256, size.width, size.layers, length=size.length).to(self.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
        run: Any = torch.compile(model, dynamic=False) if compiled else model
        batches = [self.task.train_batch_on(self.device, step, 0, batch) for step in range(8)]
        kind, count = torch.device(self.device).type, [0]

        def step() -> torch.Tensor:
            tokens, targets = batches[count[0] % len(batches)]
            count[0] += 1
            optimizer.zero_grad()
            with torch.autocast(kind, torch.bfloat16):
                logits = run(tokens)
            loss = token_loss(logits.float(), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss

        began = time.perf_counter()
        step()
        self.wait()
        return self.row(step, batch, first_s=time.perf_counter() - began)

    def ours(
        self,
        spec: Decoder,
        batch: int,
        recipe: Recipe | None = None,
        execution: Execution | None = None,
        *,
        waits: bool = False,
    ) -> dict[str, Any]:
        """A training of ours; one that `waits` reads every loss."""
        training = NetworkTraining(
            build(spec, seed=0, device=self.device),
            self.task,
            steps=STEPS,
            seed=0,
            batch=batch,
            recipe=recipe or self.recipe,
            execution=execution or self.fast,
        )
        began = time.perf_counter()
        training.learn()
        row = self.row(
            training.learn if waits else training.advance, batch, first_s=time.perf_counter() - began
        )
        return row | {"compiling_s": training.regions.spent, "loss": training.learn()[0]}

    def row(self, step: Callable[[], object], batch: int, *, first_s: float) -> dict[str, Any]:
        """Tokens a second of a step."""
        seconds = self.stretch(step)
        return {
            "step_ms": 1e3 * seconds,
            "tokens_per_s": batch * self.size.length / seconds,
            "first_s": first_s,
        }

    def timed(self, training: Trainable) -> float:
        """Milliseconds of a step."""
        return 1e3 * self.stretch(training.advance)

    def stretch(self, step: Callable[[], object]) -> float:
        """Seconds of a step, after some that warm up."""
        for _ in range(6):
            step()
        seconds = []
        for _ in range(STRETCHES):
            self.wait()
            began = time.perf_counter()
            for _ in range(self.size.steps):
                step()
            self.wait()
            seconds.append((time.perf_counter() - began) / self.size.steps)
        return statistics.median(seconds)

    def wait(self) -> None:
        """Until the device has done all that it was asked."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def kinds(width: int) -> list[Block]:
    """One block of each kind, with about `width` channels; the recurrent ones first."""
    heads: dict[str, Any] = {"num_heads": 8, "head_dim": width // 8}
    return [
        GatedDeltaNet(**heads, state_dim=width // 8),
        Mamba2(**heads, state_dim=64),
        RGLRU(**heads),
        RWKV6(**heads, state_dim=width // 8),
        MLSTM(**heads, state_dim=width // 8),
        Mamba(channels=width, state_dim=16, dt_rank=width // 16),
        GatedLinearAttention(**heads, state_dim=width // 8),
        SLSTM(**heads),
        ShortConv(kernel=4),
        Attention(num_heads=8, num_kv_heads=2, head_dim=width // 8, window=128),
        MoE(num_experts=8, top_k=2, expansion=1),
    ]


def space(size: Size) -> Space:
    """Six kinds of mixers, two widths, three depths, two bits."""
    width = size.width
    heads: dict[str, Any] = {"num_heads": 8, "head_dim": width // 8}
    layer = Layer(
        sequence_mixer=one_of(
            Attention(**heads, num_kv_heads=2),
            Attention(**heads, num_kv_heads=2, window=128),
            GatedDeltaNet(**heads, state_dim=width // 8),
            Mamba2(**heads, state_dim=64),
            RGLRU(**heads),
            ShortConv(kernel=4),
        ),
        channel_mixer=SwiGLU(expansion=3),
        bits=Bits(weight=one_of(16, 8)),
    )
    depths = (size.layers - 2, size.layers, size.layers + 2) if size.layers > 2 else (1, 2)
    decoder = Decoder(vocab=256, d_model=one_of(width * 3 // 4, width), layers=repeat(layer, depths=depths))
    return Space(decoder, name="speed")


if __name__ == "__main__":
    main()
