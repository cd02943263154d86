"""The vocabulary that an exported model speaks in: that of the tokenizer beside its weights, or bytes."""

from __future__ import annotations

from pathlib import Path

from evaluators.tokens.tokenizer import Tokenizer
from evaluators.tokens.vocabulary import BYTES, ByteVocabulary, Vocabulary
from foundation.errors import FileError, SettingError
from search_spaces.network.model_files import TOKENIZER, read_tokenizer


def vocabulary_of(folder: Path, tokens: int) -> Vocabulary:
    """What the tokens of a model in a folder mean, which has so many of them.

    Raises:
        SettingError: it has no tokenizer and is none of bytes; its tokenizer is damaged or does not fit.
    """
    text = read_tokenizer(folder)
    if text is None:
        if tokens != BYTES:
            raise SettingError(
                f"{folder} has {tokens:,} tokens and no tokenizer: only a model of {BYTES} bytes writes text"
            )
        return ByteVocabulary()
    return tokenizer_of(text, str(folder / TOKENIZER), tokens)


def tokenizer_of(text: bytes, name: str, tokens: int) -> Tokenizer:
    """The tokenizer in the bytes of a file, for a model of so many tokens.

    Raises:
        SettingError: it is damaged or does not fit, or the library `tokenizers` is not installed.
    """
    try:
        tokenizer = Tokenizer(text.decode("utf-8", "replace"), name)
    except FileError as error:
        raise SettingError(str(error)) from None
    if tokenizer.size > tokens:
        raise SettingError(f"{name} has {tokenizer.size:,} tokens, and the model {tokens:,}")
    return tokenizer
