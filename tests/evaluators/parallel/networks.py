"""Networks and courses small enough that a step in two processes takes a few milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.training.parallel import losses_alone as losses_alone
from evaluators.tasks.base import Task, tasks
from evaluators.training.distributed import OnStep, train_distributed
from evaluators.training.parallel import run as runs
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.parallel import Parallel
from evaluators.training.process_group import ProcessGroup
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.serialization import to_json
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Embedding, Head
from search_spaces.network.model import build
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.quantization.bits import Bits

ATTENTION = Attention(num_heads=4, num_kv_heads=2, head_dim=8)
PLAIN = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2))
LOW = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2), bits=Bits(weight=4))

TRANSFORMER = Decoder(vocab=256, d_model=16, layers=(PLAIN, PLAIN))
ROUNDED = Decoder(vocab=256, d_model=16, layers=(LOW, PLAIN))
HYBRID = Decoder(
    vocab=256,
    d_model=16,
    layers=(
        Layer(
            sequence_mixer=Mamba2(num_heads=2, head_dim=8, state_dim=8),
            channel_mixer=MoE(num_experts=4, top_k=2, expansion=2),
        ),
        Layer(
            sequence_mixer=GatedDeltaNet(num_heads=2, head_dim=8, state_dim=8),
            channel_mixer=MoE(num_experts=2, top_k=1, expansion=1, z_loss=0.01),
        ),
    ),
    norm=RMSNorm(place="both", residual_scale=0.5),
    embedding=Embedding(scale=3.0),
    head=Head(tied=False, softcap=4.0),
)
"""Both layers have an auxiliary loss, and what stands around them is all unusual."""


def recall() -> Task:
    return tasks["recall"].make(data=None, length=None, windows=None)


def course(spec: Decoder, folder: Path, parallel: str = "", **settings: Any) -> Course:
    """A course in float64, its first checkpoint written."""
    given = {"steps": 3, "batch": 8, "origin": "here", "dtype": "F64", **settings}
    made = Course(
        spec=to_json(spec), task=recall(), folder=str(folder), parallel=Parallel.parse(parallel), **given
    )
    runs.begin(made, build(spec, seed=0).to(made.torch_dtype))
    return made


def losses_together(courses: Sequence[Course]) -> list[list[float]]:
    """The losses of several courses of one number of processes, one after the other: processes start once."""
    told: list[float] = []
    count = courses[0].parallel.count
    train = partial(_one_by_one, tuple(courses))
    train_distributed(train, count, on_step=lambda step, loss: told.append(loss), share_cpus=True)
    left, seen = iter(told), dict[str, int]()
    found = []
    for made in courses:  # one of the folder of an earlier one goes on with it
        found.append([next(left) for _ in range(made.steps - seen.get(made.folder, 0))])
        seen[made.folder] = made.steps
    return found


def _one_by_one(courses: Sequence[Course], on_step: OnStep | None, *, process_group: ProcessGroup) -> None:
    for made in courses:
        reached = runs.reached(made).step
        runs.train_here(made, reached, on_step, process_group=process_group)
