"""Tokenizers of bytes, which are spelled in letters as GPT-2 does (Radford et al. 2019, section 2.2)."""

from __future__ import annotations

from typing import Any

BPE: dict[str, Any] = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
}
"""The `model` of a tokenizer.json, but for its vocabulary and merges."""


def byte_letters() -> dict[str, int]:
    """The byte of each letter: what prints stands for itself, characters from 256 on for the others."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}
