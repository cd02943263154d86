"""The tokenizer of a file in GGUF as a `tokenizer.json`: byte-level BPE, whose tokens and merges it holds.

How text is cut into words before that is not in the file, only a name for it: `PATTERNS` has those that
published models use (the rules are those of their tokenizer.json). A file with another name is read without
its tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CONTROL, USER_DEFINED = 3, 4
"""Kinds of tokens that text does not become part of."""

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}

DIGITS = {"type": "Digits", "individual_digits": True}

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def _split(pattern: str) -> list[dict[str, Any]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, {**BYTE_LEVEL, "use_regex": False}]


PATTERNS: Mapping[str, tuple[Any, list[dict[str, Any]]]] = {
    "gpt-2": (None, [BYTE_LEVEL]),
    "smollm": (None, [DIGITS, BYTE_LEVEL]),
    "llama-bpe": (None, _split(LLAMA_3)),
    "qwen2": ({"type": "NFC"}, _split(QWEN_2)),
}
"""The normalizer and the pre-tokenizers, by the name of the rule."""


def tokenizer_of(metadata: Mapping[str, Any]) -> tuple[bytes | None, str]:
    """The content of a tokenizer.json, or None and why there is none."""
    kind, rule = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    if kind != "gpt2" or not isinstance(tokens, list) or not isinstance(merges, list):
        return None, f"its tokenizer is {kind!r}: only byte-level BPE ('gpt2') becomes a tokenizer.json"
    if rule not in PATTERNS:
        return None, f"its tokenizer cuts words by {rule!r}: known rules are {', '.join(PATTERNS)}"
    normalizer, before = PATTERNS[rule]
    kinds = metadata.get("tokenizer.ggml.token_type") or []
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == CONTROL,
        }
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind in (CONTROL, USER_DEFINED)
    ]
    plain = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": before},
        "post_processor": {**BYTE_LEVEL, "trim_offsets": False},
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": rule == "llama-bpe",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": merges,
        },
    }
    return json.dumps(plain, ensure_ascii=False).encode(), ""
