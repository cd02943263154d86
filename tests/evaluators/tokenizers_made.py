"""Tokenizers of each family, small enough to be made for a test."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from search_spaces.checkpoints.byte_level import byte_letters

BLOCK = "\N{LOWER ONE EIGHTH BLOCK}"


def bytes_only() -> str:
    """A byte-level tokenizer whose token of each byte is the byte."""
    vocab = dict(byte_letters())
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made.to_str()


def byte_level(*, normalizer: object = None, prefix_space: bool = False) -> str:
    """One with some merges and a special end, like GPT-2's."""
    vocab = dict(byte_letters()) | {
        "th": 256,
        "the": 257,
        "Ġthe": 258,
    }
    made = Tokenizer(models.BPE(vocab=vocab, merges=[("t", "h"), ("th", "e"), ("Ġ", "the")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    made.decoder = decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    made.add_special_tokens(["<|endoftext|>"])
    return made.to_str()


def sentence_piece() -> str:
    """A BPE of SentencePiece's kind with byte fallback and a token before each document, like Llama's."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for token in (BLOCK, "t", "h", "e", "a", "th", "the", f"{BLOCK}the"):
        vocab[token] = len(vocab)
    merges = [("t", "h"), ("th", "e"), (BLOCK, "the")]
    made = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend(BLOCK), normalizers.Replace(" ", BLOCK)])
    made.decoder = decoders.Sequence(
        [decoders.Replace(BLOCK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made.to_str()


def word_piece() -> str:
    """One that lowers case, drops blanks and knows few words, like BERT's."""
    made = Tokenizer(
        models.WordPiece({"[UNK]": 0, "the": 1, "##s": 2, "cat": 3, "[SEP]": 4, ".": 5}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(["[UNK]", "[SEP]"])
    return made.to_str()


MADE = {
    "bytes": bytes_only,
    "byte_level": byte_level,
    "sentence_piece": sentence_piece,
    "word_piece": word_piece,
}
