"""Checks of published architectures: decode equals prefill, and the blocks equal their references.

`nas zoo --check` prints one line per architecture from this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foundation.errors import EvaluationFailed
from search_spaces.blocks.base import Block
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model, build
from search_spaces.parity import deviation
from search_spaces.references import reference_of
from search_spaces.scenario import Scenario

DECODE_TOLERANCE = 1e-9
READ, DECODED = 21, 20


@dataclass(frozen=True)
class Checked:
    """The results of the checks of one architecture.

    `decode` is the largest difference of logits between decode and prefill, over the largest logit, in
    float64. `parity` is the largest deviation of its blocks from their references, in float32; None where a
    reference is not installed. `sources` are the references, and `missing` the packages that are not
    installed.
    """

    params: int
    decode: float
    parity: float | None
    sources: tuple[str, ...]
    missing: tuple[str, ...] = ()


def check(spec: Decoder, seed: int = 0, device: str = "cpu") -> Checked:
    """Build and decode on a device, and compare every block with its reference on the CPU.

    Raises:
        IllegalArchitecture: it cannot be built.
        EvaluationFailed: it does not hold the parameters that its cost states.
    """
    model = build(spec, seed=seed, device=device)
    held, stated = sum(p.numel() for p in model.parameters()), spec.cost(Scenario()).params
    if held != stated:
        raise EvaluationFailed(f"it holds {held:,} parameters, and its cost states {stated:,}")
    kinds = {block: None for layer in spec.layers for block in layer.blocks.values()}
    checked = [_parity(block, spec.d_model) for block in kinds]
    missing = tuple(sorted({name for _, _, name in checked if name}))
    return Checked(
        held,
        _decode(model.double().eval(), seed),
        None if missing else max(deviation for deviation, _, _ in checked),
        tuple(dict.fromkeys(source for _, source, _ in checked)),
        missing,
    )


def _parity(block: Block, d_model: int) -> tuple[float, str, str | None]:
    reference = reference_of(type(block))
    if reference is None:
        return 0.0, f"{type(block).__name__} has no reference", None
    if not reference.installed:
        return 0.0, reference.source, reference.needs
    return deviation(block, d_model).worst, reference.source, None


@torch.no_grad()
def _decode(model: Model, seed: int) -> float:
    dice = torch.Generator().manual_seed(seed)
    tokens = torch.randint(model.spec.vocab, (2, READ + DECODED), generator=dice)
    tokens = tokens.to(model.embedding.device)
    whole = model(tokens)
    logits, state = model.prefill(tokens[:, :READ])
    pieces = [logits]
    for t in range(READ, READ + DECODED):
        logits, state = model.step(tokens[:, t], state)
        pieces.append(logits[:, None])
    return float((torch.cat(pieces, dim=1) - whole).abs().max() / whole.abs().max())
