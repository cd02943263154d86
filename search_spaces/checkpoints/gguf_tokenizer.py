"""The tokenizer of a file in GGUF as a `tokenizer.json`, and back: byte-level BPE, its tokens and merges.

How text is cut into words before that is not in the file, only a name for it: `PATTERNS` has those that
published models use (the rules are those of their tokenizer.json). A file with another name is read without
its tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.checkpoints.byte_level import BPE

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of tokens: text does not become part of the second and the third."""

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
            **BPE,
            "ignore_merges": rule == "llama-bpe",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": merges,
        },
    }
    return json.dumps(plain, ensure_ascii=False).encode(), ""


@dataclass(frozen=True)
class GgufTokens:
    """A tokenizer as a file in GGUF has it: a text and a kind for every token, merges, and a rule's name."""

    rule: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]


def gguf_tokens(content: bytes | None, vocab: int) -> tuple[GgufTokens | None, str]:
    """What a tokenizer.json for so many tokens is in a file, or None and why it is nothing."""
    if content is None:
        return None, "the network has no tokenizer"
    plain = json.loads(content)
    model = plain.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return (
            None,
            f"its tokenizer is {model.get('type')!r}, and only byte-level BPE has a place in the file",
        )
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    if not merges:
        return None, "its tokenizer merges nothing, which llama.cpp does not read"
    rule = _rule_of(plain)
    if rule is None:
        return None, f"its tokenizer cuts words by none of the rules {', '.join(PATTERNS)}"
    texts = dict(enumerate(f"[PAD{index}]" for index in range(vocab)))
    kinds = dict.fromkeys(texts, UNUSED)
    for token, index in model["vocab"].items():
        texts[index], kinds[index] = token, NORMAL
    for added in plain.get("added_tokens") or []:
        texts[added["id"]], kinds[added["id"]] = (
            added["content"],
            CONTROL if added["special"] else USER_DEFINED,
        )
    order = range(vocab)
    return GgufTokens(rule, [texts[i] for i in order], [kinds[i] for i in order], merges), ""


def _rule_of(plain: Mapping[str, Any]) -> str | None:
    """The rule by which a tokenizer cuts words."""
    before = plain.get("pre_tokenizer") or {}
    parts: list[dict[str, Any]] = before.get("pretokenizers", [before])
    for rule, (normalizer, expected) in PATTERNS.items():
        alike = [_cutting(part) for part in parts] == [_cutting(part) for part in expected]
        if alike and plain.get("normalizer") == normalizer:
            return rule
    return None


def _cutting(part: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how a pre-tokenizer cuts."""
    return {key: value for key, value in part.items() if key != "trim_offsets"}
