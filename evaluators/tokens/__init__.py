"""Text as tokens: tokenizers, corpora that one was run over, and sources of documents."""
