"""Shared weights for all architectures of a space: every parameter at its largest shape, filled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from foundation.errors import SpaceError
from search_spaces.blocks.base import Block
from search_spaces.network.adaptive_depth import Exit, Router
from search_spaces.network.decoder import parameter_shapes
from search_spaces.network.embedding_reader import EmbeddingReader
from search_spaces.network.initialization import dice_at
from search_spaces.supernet.inventory import buildable, inventory
from search_spaces.supernet.weights import SharedWeights, leading


def allocate(shared: SharedWeights, root: Any, seed: int) -> None:
    """Add every parameter that an architecture of the open decoder `root` may have.

    Raises:
        SpaceError: the root is no decoder, or no block of some place can be built.
    """
    parts = inventory(root)
    d_model, vocab = max(parts.widths), max(parts.vocabularies)
    dice = dice_at(seed, "embedding", shared.device)
    embedding = torch.empty(vocab, d_model, device=shared.device)
    shared.add("embedding", embedding.normal_(std=d_model**-0.5, generator=dice), Block.learning_rate)
    shared.add("norm", torch.ones(d_model, device=shared.device), Block.learning_rate)
    for (place, kind), blocks in parts.variants.items():
        variants = [variant for variant in blocks if buildable(*variant)]
        if not variants:
            raise SpaceError(f"{place}:{kind}: no variant of this block can be built")
        _allocate_kind(shared, f"{place}:{kind}", place, variants, seed)
    for path, option in parts.options.items():
        with torch.device(shared.device), torch.no_grad():
            module = _option_module(path, option, d_model, vocab)
            module.reset_parameters(dice_at(seed, path, shared.device))
        for name, values in module.named_parameters():
            shared.add(f"{path}.{name}", values.detach(), Block.learning_rate)


def _allocate_kind(
    shared: SharedWeights, prefix: str, place: str, variants: list[tuple[Block, int]], seed: int
) -> None:
    """Parameters of one kind of block at one place, filled from the largest variants."""
    shapes: dict[str, tuple[int, ...]] = {}
    for block, d_model in variants:
        for name, shape in parameter_shapes(block, d_model).items():
            shapes[name] = tuple(map(max, shape, shapes.get(name, shape)))
    large = {name: torch.zeros(shape, device=shared.device) for name, shape in shapes.items()}
    for block, d_model in _covering(variants):
        with torch.device(shared.device), torch.no_grad():
            module = block.build(d_model)
            module.reset_parameters(dice_at(seed, place, shared.device))
            for name, values in module.named_parameters():
                large[name][leading(values.shape)] = values
    rate = variants[0][0].learning_rate
    widest = max(d_model for _, d_model in variants)
    shared.add(f"{prefix}.norm", torch.ones(widest, device=shared.device), rate)
    for name, filled in large.items():
        shared.add(f"{prefix}.mixer.{name}", filled, rate)


def option_kind(path: str) -> type[Router | Exit | EmbeddingReader]:
    """The module of the option of a layer at a path."""
    name = path.rpartition(".")[2]
    return {"routing": Router, "exit": Exit, "reads_embedding": EmbeddingReader}[name]


def _option_module(path: str, option: Any, d_model: int, vocab: int) -> Router | Exit | EmbeddingReader:
    kind = option_kind(path)
    if kind is EmbeddingReader:
        return EmbeddingReader(d_model)
    return Router(option, d_model) if kind is Router else Exit(option, d_model, vocab)


def _covering(variants: list[tuple[Block, int]]) -> list[tuple[Block, int]]:
    """The variants that no other one covers in every axis of every parameter, small ones first."""
    kept: list[tuple[Block, int]] = []
    by_size = sorted(variants, key=lambda v: -sum(map(_numel, parameter_shapes(*v).values())))
    for variant in by_size:
        if not any(_covers(larger, variant) for larger in kept):
            kept.append(variant)
    return kept[::-1]


def _covers(larger: tuple[Block, int], smaller: tuple[Block, int]) -> bool:
    large, small = parameter_shapes(*larger), parameter_shapes(*smaller)
    return all(name in large and all(map(int.__ge__, large[name], shape)) for name, shape in small.items())


def _numel(shape: Iterable[int]) -> int:
    return torch.Size(tuple(shape)).numel()
