"""The values of every block: which are refused and why, how they are stored and printed, what they cost."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import IllegalArchitecture
from search_spaces.blocks import checks
from search_spaces.blocks.base import Block, Cost, Mixer, StateShape, blocks
from search_spaces.language.printing import brief
from search_spaces.language.serialization import from_json, parts, to_json
from search_spaces.language.walk import closed_values, open_values
from search_spaces.scenario import Scenario

KINDS = pytest.mark.parametrize("kind", blocks.values(), ids=list(blocks))
EXAMPLES = [
    pytest.param(spec, id=f"{name}-{place}")
    for name, kind in blocks.items()
    for place, spec in enumerate(kind.examples())
]
EVERY = pytest.mark.parametrize("spec", EXAMPLES)
WIDTH = 20

ILLEGAL_BY_TYPE: dict[str, tuple[Any, ...]] = {
    "int": (-1, 1.5, True, "3", None),
    "int | None": (-1, 0, 1.5, True, "3"),
    "float": (-1.0, float("nan"), float("inf"), "3", None),
    "str": ("nonsense", "", 1),
}
"""By the annotation of a field: values that no block accepts in such a field."""

REFUSED = [
    pytest.param(kind, field.name, value, id=f"{name}-{field.name}-{value!r}")
    for name, kind in blocks.items()
    for field in fields(kind)
    for value in ILLEGAL_BY_TYPE.get(str(field.type), ())
]


@pytest.mark.parametrize(("kind", "field", "value"), REFUSED)
def test_illegal_values_are_refused_with_block_field_and_value(
    kind: type[Block], field: str, value: Any
) -> None:
    spec = replace(kind.examples()[0], **{field: value})
    with pytest.raises(IllegalArchitecture) as refusal:
        spec.check(WIDTH)
    reason = str(refusal.value)
    assert field in reason
    assert repr(value) in reason or str(value) in reason
    assert kind.__name__ in reason or "Attention" in reason  # a window of Based is checked as attention


@dataclass(frozen=True, kw_only=True)
class Values(Block):
    """A block of values alone, which nothing but the shared checks constrains."""

    mixes: ClassVar[Any] = "channels"
    count: Any = 2
    rate: Any = 0.5
    word: Any = "yes"
    num_heads: Any = 4
    num_kv_heads: Any = 2
    expansion: Any = 1.0

    def build(self, d_model: int) -> Mixer:
        raise NotImplementedError

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        raise NotImplementedError

    def hidden(self, d_model: int) -> int:
        return round(self.expansion * d_model)


Check = Callable[[Values], None]
CHECKS: list[tuple[str, Check, dict[str, Any], str]] = [
    ("not whole", lambda b: checks.check_whole_numbers(b, "count"), {"count": 0.5}, "positive whole number"),
    ("zero", lambda b: checks.check_whole_numbers(b, "count"), {"count": 0}, "positive whole number, got 0"),
    (
        "too small",
        lambda b: checks.check_whole_numbers(b, "count", at_least=3),
        {"count": 2},
        "a whole number of at least 3, got 2",
    ),
    ("odd", lambda b: checks.check_even_numbers(b, "count"), {"count": 3}, "must be even, because channels"),
    ("no number", lambda b: checks.check_positive_number(b, "rate"), {"rate": "1"}, "a positive number"),
    ("rate of zero", lambda b: checks.check_positive_number(b, "rate"), {"rate": 0}, "got 0"),
    (
        "other word",
        lambda b: checks.check_word(b, "word", ("yes", "no")),
        {"word": "maybe"},
        "must be one of yes, no, got 'maybe'",
    ),
    ("groups", checks.check_equal_groups, {"num_kv_heads": 3}, "num_heads=4 must be a multiple of"),
    ("narrow", lambda b: checks.check_hidden(b, 8), {"expansion": 0.01}, "at least one hidden channel"),
]


@pytest.mark.parametrize(
    ("check", "changes", "reason"), [case[1:] for case in CHECKS], ids=[c[0] for c in CHECKS]
)
def test_each_check_has_its_reason(check: Check, changes: dict[str, Any], reason: str) -> None:
    check(replace(Values(), count=4))
    with pytest.raises(IllegalArchitecture, match=f"^Values: .*{reason}"):
        check(replace(Values(), **changes))


@given(st.integers(-3, 9), st.integers(1, 4))
def test_whole_numbers_are_legal_from_the_least_on(value: int, least: int) -> None:
    legal = value >= least
    try:
        checks.check_whole_numbers(Values(count=value), "count", at_least=least)
    except IllegalArchitecture:
        assert not legal
    else:
        assert legal


def test_several_fields_are_checked_and_the_first_bad_one_is_named() -> None:
    checks.check_whole_numbers(Values(), "count", "num_heads")
    with pytest.raises(IllegalArchitecture, match="num_heads must"):
        checks.check_whole_numbers(Values(num_heads=0, num_kv_heads=0), "count", "num_heads", "num_kv_heads")


@EVERY
def test_examples_are_closed_legal_and_different(spec: Block) -> None:
    assert next(open_values(spec), None) is None
    spec.check(WIDTH)
    assert spec.mixes in ("sequence", "channels")
    assert sum(spec == example for example in type(spec).examples()) == 1
    assert 1e-4 < spec.learning_rate < 1e-1


@EVERY
def test_blocks_survive_json_pickles_and_hashing(spec: Block) -> None:
    assert from_json(to_json(spec)) == spec
    assert to_json(from_json(to_json(spec))) == to_json(spec)
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec
    assert hash(copy) == hash(spec)
    with pytest.raises(FrozenInstanceError):
        setattr(spec, fields(spec)[0].name, 1)


@KINDS
def test_open_forms_survive_json(kind: type[Block]) -> None:
    for form in kind.open_forms():
        again = from_json(to_json(form))
        assert again == form
        assert set(closed_values(again)) == set(closed_values(form))


@EVERY
def test_a_block_prints_as_the_call_that_makes_it(spec: Block) -> None:
    kind = type(spec)
    shown = brief(spec)
    if not any(isinstance(getattr(spec, field.name), str) for field in fields(spec)):
        call = shown if shown.endswith(")") else f"{shown}()"
        assert eval(call, {name: kinds[name] for kinds in (blocks, parts) for name in kinds}) == spec
    assert shown.startswith(kind.__name__)
    assert brief(kind()) == kind.__name__
    inside = shown.partition("(")[2].removesuffix(")")
    while "(" in inside:  # values of parts inside are their own
        inside = re.sub(r"\([^()]*\)", "", inside)
    named = {part.partition("=")[0] for part in inside.split(", ")} - {""}
    assert named == {field.name for field in fields(spec) if getattr(spec, field.name) != field.default}


def parameters(spec: Block, d_model: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in spec.build(d_model).parameters())


@EVERY
@settings(max_examples=8, deadline=None)
@given(d_model=st.integers(4, 300))
def test_parameters_on_paper_are_those_of_the_module_at_every_width(spec: Block, d_model: int) -> None:
    cost = spec.cost(d_model, Scenario())
    assert cost.params == parameters(spec, d_model)
    assert cost.params == spec.cost(d_model, Scenario(batch=3, prompt=5, new_tokens=2)).params


@EVERY
def test_costs_grow_with_the_width(spec: Block) -> None:
    costs = [spec.cost(width, Scenario(prompt=96, batch=2)) for width in (16, 32, 64, 128)]
    for narrow, wide in pairwise(costs):
        assert narrow.params < wide.params <= 4.5 * narrow.params
        assert narrow.prefill_flops < wide.prefill_flops <= 4.5 * narrow.prefill_flops
        assert narrow.decode_flops < wide.decode_flops <= 4.5 * narrow.decode_flops


@EVERY
def test_a_cost_is_of_whole_numbers_and_a_batch_costs_no_more_than_its_rows(spec: Block) -> None:
    single, batch = (spec.cost(WIDTH, Scenario(batch=rows, prompt=70)) for rows in (1, 5))
    assert {type(value) for value in vars(batch).values()} == {int}
    assert single.prefill_flops < batch.prefill_flops <= 5 * single.prefill_flops
    assert single.decode_flops < batch.decode_flops <= 5 * single.decode_flops


def test_costs_add_up() -> None:
    assert Cost(1, 20, 300) + Cost(5, 60, 700) == Cost(6, 80, 1000)
    assert Cost() + Cost(1, 2, 3) == Cost(1, 2, 3)


@given(st.integers(1, 5), st.integers(1, 40), st.none() | st.integers(1, 40))
def test_shapes_of_states_follow_their_layout(batch: int, capacity: int, limit: int | None) -> None:
    rows = StateShape((2, 7), per_token=True, limit=limit)
    assert rows.allocated(batch, capacity) == (batch, 2, min(capacity, limit or capacity), 7)
    assert StateShape((2, 7)).allocated(batch, capacity) == (batch, 2, 7)


@EVERY
def test_a_state_on_paper_is_what_the_module_allocates(spec: Block) -> None:
    module = spec.build(WIDTH)
    shapes = spec.state(WIDTH)
    assert module.state_shapes == shapes
    for batch, capacity in ((1, 1), (2, 7), (3, 200)):
        state = module.init_state(batch, capacity)
        assert {name: tuple(part.shape) for name, part in state.items()} == {
            name: shape.allocated(batch, capacity) for name, shape in shapes.items()
        }
        assert not any(part.any() for part in state.values())
