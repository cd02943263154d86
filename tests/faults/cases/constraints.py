"""Constraints that nothing keeps, or hardly anything: refused with the least value there is, or met."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import Case
from tests.forks import Ended

EIGHT = """
from search_spaces import Decoder, Layer, Space, one_of
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU

layer = Layer(sequence_mixer=RGLRU(), channel_mixer=SwiGLU(expansion=one_of(1, 2, 3, 4)))
space = Space(Decoder(d_model=32, layers=(layer,) * 8), name="eight"{})
"""
"""65,536 networks with 205,344 to 279,072 parameters."""

TWO = """
from search_spaces import Decoder, Layer, Space, one_of
from search_spaces.blocks.short_conv import ShortConv

space = Space(Decoder(d_model=one_of(8, 16), layers=(Layer(sequence_mixer=ShortConv()),)), name="two"{})
"""

FILES = {
    "eight.py": EIGHT.format(""),
    "only.py": """
ONLY = [3, 1, 4, 1, 2, 2, 3, 4]

def only(spec):
    return [layer.channel_mixer.expansion for layer in spec.layers] == ONLY
"""
    + EIGHT.format(", constraints=[only]"),
    "never.py": EIGHT.format(", constraints=[lambda spec: False]"),
    "two.py": TWO.format(""),
    "neither.py": TWO.format(", constraints=[lambda spec: spec.d_model > 99]"),
    "rule.py": TWO.format(", constraints=[lambda spec: spec.d_model > 9]"),
}

COUNTED = "--name a -o params -o decode_flops --finalists 0"


def scored(folder: Path, ended: Ended) -> None:
    """Every trial that was scored keeps the constraints, and there are few others."""
    from nas.objectives.base import CostModel
    from nas.study.constraints import first_violation, parsed_constraints
    from nas.study.study import open_study

    study = open_study("a", folder / "studies" / "studies.db")
    complete = study.complete()
    assert complete
    assert len(study.trials()) <= 11 * study.plan.trials
    for trial in complete:
        model, constraints = CostModel.of(study.plan.scenarios), parsed_constraints(study.plan)
        assert first_violation(constraints, study.spec(trial), model) is None


def search(space: str, *constraints: str, more: str = "") -> list[str]:
    wanted = [word for constraint in constraints for word in ("--constraint", constraint)]
    return ["search", f"{space}.py", *COUNTED.split(), *wanted, *more.split()]


REFUSED = (
    ("eight", ["params<1e3"], "params<1000: the smallest network of this space has 205,344"),
    ("eight", ["params<205344"], "the smallest network of this space has 205,344"),
    ("eight", ["params<=205343"], "the smallest network of this space has 205,344"),
    ("eight", ["params>279072"], "the largest network of this space has 279,072"),
    ("eight", ["params>=1e12"], "the largest network of this space has 279,072"),
    ("eight", ["weight_bytes<1"], "weight_bytes<1: the smallest network of this space has [0-9,]+ bytes"),
    ("eight", ["decode_flops<1"], "decode_flops<1: the smallest network of this space has"),
    ("eight", ["state_bytes<=0"], "state_bytes<=0: the smallest network of this space has"),
    ("eight", ["params<300e3", "weight_bytes<1"], "weight_bytes<1: the smallest network"),
    ("eight", ["params<-1"], "params<-1: it is never below 0"),
    ("eight", ["params<0"], "params<0: it is never below 0"),
    ("eight", ["decode_ms<0"], "decode_ms<0: it is never below 0"),
    ("eight", ["decode_ms<=0"], "nothing takes no time"),
    ("eight", ["prefill_ms<=0"], "nothing takes no time"),
    ("eight", ["decode_ms<5", "decode_ms>6"], "exclude each other"),
    ("eight", ["params<206e3", "params>206e3"], "exclude each other"),
    ("eight", ["params<1e999"], "finite number"),
    ("eight", ["params<nan"], "write it like decode_ms<5"),
    ("eight", ["params<inf"], "write it like decode_ms<5"),
    ("eight", ["params"], "write it like decode_ms<5"),
    ("eight", ["params=5"], "write it like decode_ms<5"),
    ("eight", ["params<5<6"], "write it like decode_ms<5"),
    ("eight", ["<5"], "write it like decode_ms<5"),
    ("eight", [""], "must not be empty"),
    ("eight", ["parms<5"], "did you mean 'params'"),
    ("eight", ["params@chat<5"], "params"),
    ("two", ["params<1e3"], "the smallest network of this space has 2,"),
    ("two", ["params>1e5"], "the largest network of this space has 5,200"),
)

MET = (
    ("eight", ["params<209e3"], ""),
    ("eight", ["params<209e3"], "--strategy random"),
    ("eight", ["params<209e3"], "--engine random"),
    ("eight", ["params<209e3"], "--seed 7"),
    ("eight", ["params<=205344"], "--seed 3"),
    ("eight", ["params>=279072"], ""),
    ("eight", ["params<209e3", "params>206e3"], ""),
    ("eight", ["params<215e3", "weight_bytes>425e3"], ""),
    ("two", ["params<3e3"], ""),
)

CASES = [
    *(
        Case(
            f"{space} with {' and '.join(constraints) or 'nothing'}",
            search(space, *constraints),
            says=says,
            files=FILES,
            seconds=10,
        )
        for space, constraints, says in REFUSED
    ),
    *(
        Case(
            f"the large space with {constraint}",
            ["search", "hybrid_lm", *COUNTED.split(), "--constraint", constraint],
            says=says,
            seconds=10,
        )
        for constraint, says in (
            ("params<10", "params<10: the smallest network of this space has 37,056"),
            ("weight_bytes<10", "weight_bytes<10: the smallest network of this space has 39,488 bytes"),
            ("peak_bytes<10", "the weight_bytes alone are at least 39,488 in every network of this space"),
            ("decode_ms<0", "decode_ms<0: it is never below 0"),
        )
    ),
    *(
        Case(
            f"{space} with {' and '.join(constraints)} {more}".strip(),
            search(space, *constraints, more=f"--trials 6 {more}"),
            code=0,
            says="distinct architecture",
            files=FILES,
            check=scored,
            lines=20,
            seconds=15,
        )
        for space, constraints, more in MET
    ),
    Case(
        "a rule in code that nothing keeps",
        search("never", more="--trials 3"),
        says="eight: none of its 65,536 architectures is allowed; the nearest: violates the constraint"
        r" lambda at never\.py:\d+",
        files=FILES,
        seconds=60,
        slow=True,
    ),
    Case(
        "a rule in code that neither of two networks keeps",
        search("neither", more="--trials 3"),
        says="two: none of its 2 architectures is allowed",
        files=FILES,
    ),
    Case(
        "a rule in code and a bound that nothing keeps together",
        search("rule", "params<3e3", more="--trials 3"),
        says="params<3000: the smallest network of this space has 5,200",
        files=FILES,
    ),
    Case(
        "a rule in code that one network of 65,536 keeps",
        search("only", more="--trials 3 --strategy random"),
        code=0,
        says="1 distinct architecture",
        files=FILES,
        check=scored,
        lines=20,
        seconds=60,
        slow=True,
    ),
    Case(
        "more trials than architectures",
        search("two", more="--trials 1000"),
        code=0,
        says="every architecture of two was tried, 2 in all",
        files=FILES,
        lines=20,
        seconds=15,
    ),
]
