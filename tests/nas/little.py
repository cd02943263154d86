"""A study for tests of engines: the little space of the latency tests, a supernet trained for three steps."""

from __future__ import annotations

from pathlib import Path

from evaluators.supernet.evaluator import FromSupernet
from evaluators.tasks.recall import Recall
from nas.engines.base import Setup
from nas.objectives.base import CostModel
from nas.study.plan import Plan
from search_spaces.language.serialization import to_json
from tests.hw_profiles.tiny import SCENARIO, round_table, small_space

TASK = Recall(tokens=16, length=9, pairs=2, sequences=200, windows=8)


def little_setup(folder: Path, engine: str, objectives: tuple[str, ...], trials: int) -> Setup:
    """What an engine is given; the blocks of the space must be registered."""
    space = small_space()
    plan = Plan(objectives=objectives, engine=engine, train_steps=3, train_batch=4, trials=trials)
    evaluator = FromSupernet(TASK, to_json(space.root), str(folder / "supernet"), 3, 0, 4)
    evaluator.train()
    return Setup(
        space=space,
        plan=plan,
        goals=[(name, False) for name in plan.objectives],
        cost_model=CostModel(SCENARIO, table=round_table()),
        folder=folder / engine,
        quality="recall_error",
        task=TASK,
        evaluator=evaluator,
    )
