"""Settings that a space names: a study has them where none are given, as values of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nas
from foundation.errors import SettingError, SpaceError, UnknownName
from nas.cli import run
from nas.study.plan import Plan, plan_of
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.spaces import spaces

ROOT = Decoder(d_model=one_of(8, 16), layers=(Layer(sequence_mixer=ShortConv()),))
OWN = Space(ROOT, name="own", defaults={"trials": 3, "objectives": ["params", "decode_flops"], "seed": 5})


@pytest.mark.parametrize("name", list(spaces))
def test_ready_made_spaces_name_settings_that_make_a_plan(name: str) -> None:
    space = spaces[name]()
    plan = plan_of(space, {})
    assert Plan.from_plain(plan.to_plain()) == plan
    assert plan.baselines
    assert plan_of(space, {"baselines": ()}).baselines == ()


def test_what_is_given_counts_before_what_the_space_names() -> None:
    plan = plan_of(spaces["gpu"](), {"trials": 7, "train_on": "cpu"})
    assert (plan.trials, plan.train_on, plan.window) == (7, "cpu", 512)
    assert plan.scenarios[0].device == "cuda:0"


@pytest.mark.parametrize(
    ("defaults", "error", "says"),
    [
        ({"trails": 3}, UnknownName, "defaults of the space odd: .*did you mean 'trials'"),
        ({"trials": -3}, SettingError, "defaults of the space odd: trials must be at least 0, got -3"),
    ],
)
def test_defaults_that_are_no_settings_are_refused(
    defaults: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan_of(Space(ROOT, name="odd", defaults=defaults), {})


def test_defaults_are_a_mapping_and_do_not_name_the_space() -> None:
    assert OWN.digest == Space(ROOT, name="own").digest
    assert "where a study is given none, trials: 3" in str(OWN)
    with pytest.raises(SpaceError, match="defaults are settings by name"):
        Space(ROOT, defaults=["trials"])  # type: ignore[arg-type]


def test_a_study_from_python_and_one_from_the_command_line_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = nas.search(OWN, name="python", store="s.db", progress=False)
    assert (study.plan.trials, study.plan.seed) == (3, 5)
    assert study.plan.objectives == ("params", "decode_flops")
    given = nas.search(OWN, name="given", objectives=["params", "state_bytes"], store="s.db", progress=False)
    assert given.plan.objectives == ("params", "state_bytes")
    Path("own.py").write_text(
        "from search_spaces import Decoder, Layer, Space, one_of\n"
        "from search_spaces.blocks.short_conv import ShortConv\n"
        "root = Decoder(d_model=one_of(8, 16), layers=(Layer(sequence_mixer=ShortConv()),))\n"
        "space = Space(root, name='own', defaults={'objectives': ['params', 'state_bytes'], 'trials': 2})\n"
    )
    assert run(["search", "own.py", "--name", "file", "--store", "s.db"]) == 0
    found = nas.open("file", store="s.db")
    assert (found.plan.trials, found.plan.objectives) == (2, ("params", "state_bytes"))
