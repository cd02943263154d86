"""Random records for property tests: values, trials and architectures, without a store."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.genotype import Genotype
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits

GRID = st.integers(1, 6).map(float)
"""Few distinct numbers, so that equal and dominated points are frequent."""

WINDOWS = 4


def made_trial(number: int, values: dict[str, Value], **changes: object) -> Trial:
    """A complete trial of an architecture of its own."""
    settings: dict[str, object] = {
        "genotype": Genotype({"depth": number}),
        "fidelity": Fidelity(evaluator="supernet", steps=10),
        "seed": 0,
        "state": TrialState.COMPLETE,
        "values": values,
    }
    return Trial(number=number, **{**settings, **changes})  # type: ignore[arg-type]


def quality(mean: float, offsets: Sequence[float]) -> Value:
    """Bits per byte with one sample per window around `mean`."""
    samples = tuple(mean + offset for offset in offsets)
    return Value(sum(samples) / len(samples), 0.2, "supernet", samples)


OFFSETS = st.tuples(*[st.integers(-8, 8).map(lambda sixteenths: sixteenths / 16)] * WINDOWS)
QUALITIES = st.builds(quality, GRID, OFFSETS)
LATENCIES = st.builds(lambda value: Value(value, 0.1, "predicted"), GRID)


@st.composite
def trials(draw: st.DrawFn, *, min_size: int = 0, max_size: int = 9) -> list[Trial]:
    """Trials of distinct architectures with a latency and a quality."""
    pairs = draw(st.lists(st.tuples(LATENCIES, QUALITIES), min_size=min_size, max_size=max_size))
    return [made_trial(i, {"decode_ms": x, "bits_per_byte": y}) for i, (x, y) in enumerate(pairs)]


@st.composite
def final_trials(draw: st.DrawFn, rungs: Sequence[int] = (10, 30, 90)) -> list[Trial]:
    """Trials of finalists: each reaches some rung, and its last trial may have failed or still run."""
    reached = draw(st.lists(st.tuples(st.integers(1, len(rungs)), st.sampled_from(TrialState)), max_size=5))
    made: list[Trial] = []
    for network, (last, state) in enumerate(reached):
        for index, steps in enumerate(rungs[:last]):
            final = state if index == last - 1 else TrialState.COMPLETE
            scored = {"bits_per_byte": draw(QUALITIES)} if final is TrialState.COMPLETE else {}
            made.append(
                made_trial(
                    len(made),
                    scored,
                    genotype=Genotype({"depth": network}),
                    stage="final",
                    state=final,
                    fidelity=Fidelity(evaluator="scratch", steps=steps),
                )
            )
    return made


LAYERS = st.builds(
    lambda mixer, weight, state: Layer(
        sequence_mixer=mixer, channel_mixer=SwiGLU(), bits=Bits(weight=weight, state=state)
    ),
    st.sampled_from((Attention(), Attention(window=8), Mamba2())),
    st.sampled_from((4, 8, 16)),
    st.sampled_from((8, 16)),
)
DECODERS = st.lists(LAYERS, min_size=1, max_size=10).map(
    lambda layers: Decoder(d_model=8, layers=tuple(layers))
)
