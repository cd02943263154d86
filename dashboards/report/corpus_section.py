"""The report's part about the training text, and how networks compare with general-purpose compressors."""

from __future__ import annotations

from dashboards.facts import CorpusFacts, Facts
from dashboards.facts.quantities import QUALITY, Quantity
from dashboards.figures import figures
from dashboards.report.html import Html, code, figure, p, section
from foundation.text import listed, with_error
from nas.study.significance import SIGNIFICANT
from nas.study.trial import Value

BYTES = Quantity("bytes", "bytes")


def corpus_section(facts: Facts) -> Html | None:
    """Name and sizes of the corpus, and the compressors' bits per byte beside those of the networks."""
    corpus = facts.corpus
    if corpus is None:
        return None
    sizes = f"{BYTES.text(corpus.train_bytes)} for training, {BYTES.text(corpus.valid_bytes)} for validation"
    comparable = " Scores are comparable only under the digest "
    read = (
        ""
        if corpus.vocab is None
        else f", read as tokens of a vocabulary of {corpus.vocab:,}, {corpus.bytes_per_token:.2f} bytes each"
    )
    about = p(f"{corpus.name}: {sizes}{read}.", comparable, code(corpus.digest), ".")
    if facts.study.quality is None or facts.study.quality.name != QUALITY:
        return section("The training text", about)
    verdict = compressor_verdict(facts, corpus)
    note = p(verdict, kind="note") if verdict else None
    drawn = figure(figures["compressors"](facts), _caption(facts, corpus))
    return section("The training text, and compressors for comparison", about, note, drawn)


def _caption(facts: Facts, corpus: CorpusFacts) -> str:
    assert facts.study.length is not None, "a study that reads a text reads it in windows"
    tokens = "bytes" if corpus.vocab is None else "tokens"
    return (
        "Compressors read the validation part as one stream (at most its first MiB); networks read windows of"
        f" {facts.study.length:,} {tokens} without the text before them, which is a disadvantage."
    )


def compressor_verdict(facts: Facts, corpus: CorpusFacts) -> str | None:
    """How the best network compares with general-purpose compressors."""
    best = _best_quality(facts)
    if best is None or not corpus.reference:
        return None
    groups: dict[str, list[str]] = {"worse than": [], "level with": [], "better than": []}
    for name, value in sorted(corpus.reference.items(), key=lambda item: item[1]):
        groups[_relation(best, value)].append(f"{name} ({value:.3f})")
    relations = listed(f"{relation} {listed(names)}" for relation, names in groups.items() if names)
    text = (
        "At this training budget the best network here, at"
        f" {with_error(best.value, best.error or 0.0)} bits per byte, is {relations}."
    )
    if not groups["worse than"]:
        return text
    return f"{text} Read the scores as a ranking of architectures, not as the quality of usable models."


def _relation(best: Value, compressor: float) -> str:
    if abs(best.value - compressor) < SIGNIFICANT * (best.error or 0.0):
        return "level with"
    return "worse than" if compressor < best.value else "better than"


def _best_quality(facts: Facts) -> Value | None:
    scores = [network.values[QUALITY] for network in facts.front if QUALITY in network.values]
    scores += [last[1] for f in (facts.finals.finalists if facts.finals else ()) if (last := f.last)]
    return min(scores, key=lambda value: value.value, default=None)
