"""What other libraries are told of an architecture is what a search of ours would say."""

from __future__ import annotations

from pathlib import Path

import nas
from nas.interop.judge import Judge
from nas.objectives.base import objectives
from tests.nas.toys import Toy, Wide, rich, small, toy_space


def test_declared_functions_are_scored(tmp_path: Path) -> None:
    things, added_by = dict(objectives._things), dict(objectives._added_by)
    try:
        declared = nas.objective(rich, name="declared", unit="m")
        settings = {"trials": 0, "finalists": 0, "progress": False, "store": tmp_path / "s.db"}
        study = nas.search(toy_space(), name="s", objectives=[small, declared], **settings)
        judge = Judge.of(study)
        spec = Toy((Wide(2, 1),), 0)
        assert {n: v.value for n, v in judge.score(spec, 1).items()} == {
            "small": small(spec),
            "declared": rich(spec),
        }
    finally:
        objectives._things, objectives._added_by = things, added_by
