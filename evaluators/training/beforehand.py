"""Regions compiled beforehand, by several processes at once, into the files where a training finds them.

One process compiles one region after the other. Others, which each compile some networks of one layer, fill
the compiler's files (`evaluators.training.regions`) side by side; the training then reads instead of
compiling. Nothing depends on them: what a process did not compile, the training compiles when it meets it.

    python -m evaluators.training.beforehand < job.json         # what such a process is
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor
from torch.func import functional_call

from evaluators.training.half_layer import HalfLayer
from evaluators.training.precision import autocast, computing_in
from evaluators.training.regions import Regions, files_of_compiler
from search_spaces.blocks.skip import Skip
from search_spaces.devices import usable_cpus
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.layer import Parts
from search_spaces.network.model import build
from search_spaces.network.sublayers import PLAIN, Sublayer, decoders_in, sublayers_in

FEWEST = 4
"""Networks of one layer: fewer are compiled as soon by the training itself."""

MOST_PROCESSES = 12
OURS = "search_spaces."
"""Where blocks come from that a fresh process knows."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Networks of one layer, as JSON, that read `batch` windows of `length` tokens on a device.

    What can be is compiled once for all `widths`.
    """

    specs: tuple[str, ...]
    batch: int
    length: int
    device: str
    precision: str
    backend: str
    seconds: float
    widths: tuple[int, ...] = ()

    @property
    def mark(self) -> Path:
        """A file that says that all of it was compiled here before."""
        about = asdict(self) | {"seconds": 0, "torch": torch.__version__, "on": _device_name(self.device)}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return files_of_compiler() / "beforehand" / digest

    def compile(self) -> None:
        """All regions of the networks, forwards and backwards, in this process."""
        regions = Regions(self.backend, self.seconds, widths=self.widths)
        for text in self.specs:
            spec: Decoder = from_json(text)
            model = build(spec, device=self.device)
            leaves = {name: w.detach().requires_grad_() for name, w in model.named_parameters()}
            tokens = torch.zeros(self.batch, self.length, dtype=torch.long, device=self.device)

            call = partial(functional_call, model, leaves, (tokens, []), tie_weights=False)
            with computing_in(self.precision), autocast(self.precision, self.device):
                regions.text_loss(partial(_with_parts, call), tokens, logits=False)


def _with_parts(call: Callable[..., Tensor], parts: Parts) -> Tensor:
    return call(kwargs={"parts": parts})


def compile_beforehand(job: Job) -> float:
    """Share a job among processes, for at most its seconds; the time it took.

    Nothing is done for a job that was done before, or that is not worth it.
    """
    if len(job.specs) < FEWEST or job.mark.exists():
        return 0.0
    began = monotonic()
    count = min(MOST_PROCESSES, max(2, usable_cpus() * 3 // 4), len(job.specs))
    shares = [replace(job, specs=job.specs[i::count]) for i in range(count)]
    processes = [_started(share) for share in shares]
    try:
        done = [_ended(process, began + job.seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if all(done):
        job.mark.parent.mkdir(parents=True, exist_ok=True)
        job.mark.touch()
    _log.info("compiled %d networks of one layer beforehand in %.0f s", sum(done), monotonic() - began)
    return monotonic() - began


def networks_of(space: Space, vocab: int) -> tuple[str, ...]:
    """Networks of one layer that have every region of a space, of blocks that a fresh process knows.

    What is one function for all widths is there once, at the largest.
    """
    widths, regions = widths_of(space), dict[HalfLayer, dict[int, Sublayer]]()
    for sublayer in sublayers_in(space):
        block = sublayer.block
        if block is not None and type(block).__module__.startswith(OURS):
            bits = replace(PLAIN, activation=sublayer.bits.activation, numbers=sublayer.bits.numbers)
            half = HalfLayer(block, bits, sublayer.norm, sublayer.reads_embedding, adds=False)
            regions.setdefault(half, {})[sublayer.d_model] = sublayer
    of_place: dict[tuple[int, str], list[Sublayer]] = {}
    for half, forms in regions.items():
        for width in forms if half.axes(widths) is None else [max(forms)]:
            of_place.setdefault((width, forms[width].place), []).append(forms[width])
    every = (around for decoder in decoders_in(space.root) for around, _ in decoder.around())
    ends = cycle(dict.fromkeys((around.embedding, around.head) for around in every))
    found = []
    for width in widths:
        first, second = (of_place.get((width, place), []) for place in PLACES)
        made = [_network(a, b, width, vocab) for a, b in _paired(first, second)]
        found += [replace(spec, embedding=e, head=h) for spec, (e, h) in zip(made, ends, strict=False)]
    return tuple(map(to_json, found))


def widths_of(space: Space) -> tuple[int, ...]:
    """The widths that the networks of a space have, the smallest first."""
    return tuple(
        sorted({each.value for root in decoders_in(space.root) for each in root.closings("d_model")})
    )


def _paired(
    first: Sequence[Sublayer], second: Sequence[Sublayer]
) -> Iterable[tuple[Sublayer | None, Sublayer | None]]:
    """Every sublayer of both, with one of the other place."""
    if not first or not second:
        return [*((a, None) for a in first), *((None, b) for b in second)]
    pairs = zip(cycle(first), cycle(second), strict=False)
    return islice(pairs, max(len(first), len(second)))


def _network(first: Sublayer | None, second: Sublayer | None, width: int, vocab: int) -> Decoder:
    like = first or second
    assert like is not None
    mixer = None if first is None else first.block
    layer = Layer(
        sequence_mixer=mixer or Skip(),
        channel_mixer=None if second is None else second.block,
        bits=like.bits,
        reads_embedding=first is not None and first.reads_embedding,
    )
    return Decoder(vocab=vocab, d_model=width, layers=(layer,), norm=like.norm)


def _started(job: Job) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", __name__]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(job)).encode())
    process.stdin.close()
    return process


def _ended(process: subprocess.Popen[bytes], until: float) -> bool:
    """Whether a process compiled all of its share in time."""
    try:
        return process.wait(timeout=max(0.0, until - monotonic())) == 0
    except subprocess.TimeoutExpired:
        return False


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


if __name__ == "__main__":
    given = json.load(sys.stdin)
    Job(**{**given, "specs": tuple(given["specs"]), "widths": tuple(given["widths"])}).compile()
