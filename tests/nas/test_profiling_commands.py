"""Devices and tables from the command line, several scenarios in one study, tables that may not be used."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import nas
from foundation.errors import ProfileError, SettingError, UnknownName
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.correction import Accuracy
from hw_profiles.latency.parts import parts_in
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS, Latency
from nas.cli import app
from nas.objectives.base import CostModel, objectives
from nas.progress import Progress
from nas.steps.measure import measure_trials
from nas.study.measuring import unreachable
from nas.study.plan import Plan
from nas.study.space_files import load_space
from nas.study.study import Study, open_study
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

SPACE = """
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.language.space import Space

mixer = one_of(Attention(num_heads=2, num_kv_heads=one_of(1, 2)), Mamba2(num_heads=2, state_dim=16))
layer = Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=one_of(2, 3)))
space = Space(Decoder(vocab=256, d_model=one_of(32, 64), layers=repeat(layer, (1, 2))), name="tiny")
"""
CHAT = Scenario.parse("chat=cpu,prompt=16,new_tokens=4")
BULK = Scenario.parse("bulk=cpu,batch=4,prompt=16,new_tokens=4")


class Heard(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.py").write_text(SPACE)
    monkeypatch.setenv("NAS_TABLES", str(tmp_path / "tables"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_table(
    folder: Path, scenario: Scenario = CHAT, *, mape: float = 0.05, scale: float = 1.0, **machine: Any
) -> LatencyTable:
    """A table with round numbers, of this machine except where `machine` says otherwise."""
    space = load_space(str(folder / "tiny.py"))
    entries = {
        part: {
            "prefill_ms": Latency((scale * i,) * 4),
            "decode_ms": Latency((scale * i / 10,) * 4),
        }
        for i, part in enumerate(parts_in(space), start=1)
    }
    return LatencyTable(
        space_name=space.name,
        space_digest=space.digest,
        scenario=scenario,
        fingerprint={**fingerprint(scenario), **machine},
        entries=entries,
        accuracies={reading: Accuracy(9, mape=mape, rms=mape, reach=2.0) for reading in READINGS},
    )


def saved(folder: Path, name: str, **made: Any) -> str:
    path = folder / f"{name}.json"
    made_table(folder, **made).save(path)
    return str(path)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def done(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.exception
    return result.stdout


def search(folder: Path, **settings: Any) -> Study:
    progress = settings.pop("progress", None)
    made = {
        "objectives": ["decode_ms", "params"],
        "trials": 8,
        "finalists": 0,
        "name": "s",
        "strategy": "random",
    }
    space = load_space(str(folder / "tiny.py"))
    return nas.search(space, store=folder / "s.db", progress=progress, **{**made, **settings})


def test_devices_lists_this_machine_and_every_card(home: Path) -> None:
    said = done("devices")
    assert "cpu: " in said
    assert "h100-sxm: " in said
    assert "nominal" in said
    assert "    plain PyTorch, since kernels are for CUDA: delta rule; " in said
    assert "    plain PyTorch, since FlexAttention is for CUDA: windowed attention" in said
    plain = json.loads(done("devices", "--json"))
    assert plain["here"][0]["device"] == "cpu"
    assert {"energy", "card", "memory_bytes", "cores"} <= set(plain["here"][0])
    assert {"kernel": False, "primitive": "diagonal scan", "reason": "kernels are for CUDA"} in plain["here"][
        0
    ]["forms"]
    assert len(plain["cards"]) >= 6


def test_a_probed_card_is_written_and_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hw_profiles.roofline.probe.COPY_BYTES", {"cpu": 2**22})
    monkeypatch.setattr("hw_profiles.roofline.probe.WIDTH", {"cpu": 128})
    assert "measured" in done("devices", "--measure-peaks", "cpu", "-o", "here.json")
    study = search(home, roofline=str(home / "here.json"), scenarios=[CHAT])
    assert {trial.values["decode_ms"].source for trial in study.complete()} == {"estimate"}


@pytest.mark.slow
def test_profile_measures_a_space_without_a_word_in_between(home: Path) -> None:
    said = done(
        "profile", "tiny.py", "--scenario", "prompt=8,new_tokens=2", "--profile-seconds", "0", "-o", "t.json"
    )
    assert "written to t.json" in said
    table = LatencyTable.load(home / "t.json", Scenario(prompt=8, new_tokens=2))
    assert table.covers(load_space("tiny.py"))
    assert not (home / "t.partial.json").exists()
    plain = json.loads((home / "t.json").read_text())
    assert plain["fingerprint"]["torch"]
    assert plain["scenario"]["prompt"] == 8


def test_options_may_stand_before_the_space_and_scenarios_need_names(home: Path) -> None:
    result = run("profile", "--scenario", "prompt=8", "--scenario", "prompt=9", "tiny.py")
    assert isinstance(result.exception, SettingError)
    assert "need names of their own" in str(result.exception)


def test_a_table_is_imported_listed_and_exported(home: Path) -> None:
    given = saved(home, "mine")
    assert "no table was imported" in done("profile", "list")
    assert "of this machine" in done("profile", "import", given)
    assert "another machine than this one: gpu was 'H800'" in done(
        "profile", "import", saved(home, "far", gpu="H800"), "--name", "there"
    )
    rows = {row["name"]: row for row in json.loads(done("profile", "list", "--json"))}
    assert set(rows) == {"mine", "there"}
    assert rows["mine"]["here"]
    assert not rows["there"]["here"]
    assert rows["there"]["decode_ms"] == 0.05
    assert "5.0 %" in done("profile", "list")
    done("profile", "export", "mine", "-o", "back.json")
    assert json.loads((home / "back.json").read_text()) == json.loads(Path(given).read_text())


def test_tables_are_imported_beside_the_store_that_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NAS_TABLES")
    beside = ("--store", "mine/s.db")
    done("profile", "import", saved(home, "given"), *beside)
    assert [path.name for path in (home / "mine" / "tables").iterdir()] == ["given.json"]
    assert not (home / "studies").exists()
    assert [row["name"] for row in json.loads(done("profile", "list", "--json", *beside))] == ["given"]
    (home / "given.json").unlink()
    for words in (("export", "given", "-o", "out.json"), ("diff", "given", "given")):
        assert "no table 'given' was imported" in str(run("profile", *words).exception)
        done("profile", *words, *beside)
    words = ("search", "tiny.py", "-o", "decode_ms", "-o", "params", "--trials", "2", "--finalists", "0")
    scenario = f"{CHAT.written()}"
    given = ("--scenario", scenario, "--latency-table", "given", "--strategy", "random")
    done(*words, *given, *beside)
    assert open_study("tiny", "mine/s.db").plan.latency_tables == (str(home / "mine/tables/given.json"),)
    monkeypatch.setenv("NAS_STORE", "yours/s.db")
    done("profile", "import", "out.json")
    assert (home / "yours" / "tables" / "out.json").exists()


def test_an_import_never_overwrites_another_table(home: Path) -> None:
    given = saved(home, "mine")
    done("profile", "import", given)
    done("profile", "import", given)  # the same again is fine
    saved(home, "mine", scale=2.0)
    result = run("profile", "import", given)
    assert isinstance(result.exception, ProfileError)
    assert "another table 'mine'" in str(result.exception)
    (home / "junk.json").write_text("{}")
    assert isinstance(run("profile", "import", "junk.json").exception, ProfileError)
    assert isinstance(run("profile", "export", "mien", "-o", "x.json").exception, UnknownName)


def test_diff_tells_ratios(home: Path) -> None:
    one, two = saved(home, "one"), saved(home, "two", scale=2.0, torch="1.0")
    said = done("profile", "diff", one, two)
    assert "second over first 2 on average" in said
    assert "is '1.0'" in said
    plain = json.loads(done("profile", "diff", one, two, "--json"))
    assert plain["mean_ratio"]["prefill_ms"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"torch": "1.0"}, "torch was"),
        ({"gpu": "A100"}, "gpu was None, is 'A100'"),
        ({"scenario": BULK}, "batch was 1, is 4"),
    ],
)
def test_tables_of_other_circumstances_are_not_merged(home: Path, other: dict[str, Any], why: str) -> None:
    one, two = saved(home, "one"), saved(home, "two", **other)
    result = run("profile", "merge", one, two, "-o", "both.json")
    assert isinstance(result.exception, ProfileError)
    assert "must not be mixed" in str(result.exception)
    assert why in str(result.exception)
    assert not (home / "both.json").exists()


def test_tables_of_one_machine_are_merged(home: Path) -> None:
    one, two = saved(home, "one"), saved(home, "two")
    done("profile", "merge", one, two, "-o", "both.json")
    assert LatencyTable.load(home / "both.json").covers(load_space("tiny.py"))
    assert isinstance(run("profile", "merge", one, "-o", "x.json").exception, ProfileError)


def test_several_scenarios_are_several_objectives(home: Path) -> None:
    tables = [saved(home, "chat"), saved(home, "bulk", scenario=BULK, scale=3.0)]
    study = search(home, scenarios=[CHAT, BULK], latency_tables=tables, constraints=["prefill_ms<1e9"])
    assert study.plan.objectives == ("decode_ms@chat", "decode_ms@bulk", "params")
    assert study.plan.constraints == ("prefill_ms@chat<1e9", "prefill_ms@bulk<1e9")
    assert [objective.unit for objective in study.objectives] == ["ms", "ms", ""]
    for trial in study.complete():
        values = trial.values
        assert values["decode_ms@bulk"].value == pytest.approx(3 * values["decode_ms@chat"].value)
        assert values["state_bytes@bulk"].value == 4 * values["state_bytes@chat"].value
        assert "decode_ms" not in values
        assert "params" in values
    assert set(study.facts["tables"]) == {"chat", "bulk"}
    assert Plan.from_plain(study.plan.to_plain()) == study.plan


def test_one_of_several_scenarios_can_be_asked_for(home: Path) -> None:
    tables = [saved(home, "chat")]
    names = ["decode_ms@chat", "state_bytes@bulk"]
    study = search(
        home,
        scenarios=[CHAT, BULK],
        latency_tables=tables,
        objectives=names,
        constraints=["decode_ms@chat<1e9"],
    )
    assert study.plan.objectives == tuple(names)
    values = study.complete()[0].values
    assert "decode_ms@chat" in values
    assert "decode_ms@bulk" not in values  # nobody asked, and there is no table
    assert set(study.facts["tables"]) == {"chat"}


def test_a_single_scenario_keeps_its_plain_names(home: Path) -> None:
    study = search(home, scenarios=[CHAT], latency_tables=[saved(home, "chat")])
    assert study.plan.objectives == ("decode_ms", "params")
    assert not any("@" in name for trial in study.complete() for name in trial.values)
    assert study.facts["table"] == study.facts["tables"]["chat"]


def test_reports_of_several_scenarios_are_written(home: Path) -> None:
    from dashboards.report import write_report

    tables = [saved(home, "chat"), saved(home, "bulk", scenario=BULK)]
    study = search(home, scenarios=[CHAT, BULK], latency_tables=tables)
    html = write_report(study).read_text()
    assert "decode latency per token, bulk" in html
    estimated = search(home, name="e", scenarios=[CHAT], roofline="phone-cpu-4-big-cores")
    html = write_report(estimated).read_text()
    assert "estimates: a roofline" in html
    assert "nothing was timed" in html


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scenarios": [CHAT, replace(BULK, name="")]}, "need names of their own"),
        ({"scenarios": [CHAT, replace(BULK, name="chat")]}, "need names of their own"),
        ({"scenarios": [CHAT, BULK], "objectives": ["decode_ms@chta"]}, "did you mean 'chat'"),
        ({"objectives": ["decode_ms@chat"]}, "no scenario 'chat'"),
        ({"objectives": ["params@chat"]}, "the same in every scenario"),
        ({"roofline": "phone-cpu"}, "unknown device card"),
        ({"roofline": "h100-sxm"}, "the scenario asks for cpu"),
        ({"latency_tables": ["CHAT"], "scenarios": [BULK]}, "was measured for chat"),
    ],
)
def test_plans_that_make_no_sense_are_refused_at_once(
    home: Path, settings: dict[str, Any], said: str
) -> None:
    if settings.get("latency_tables"):
        settings = {**settings, "latency_tables": [saved(home, "chat")]}
    with pytest.raises((SettingError, ProfileError)) as caught:
        search(home, **settings)
    assert said in str(caught.value)


def test_a_rough_table_is_used_and_said_once_with_what_to_do(home: Path) -> None:
    rough, heard = saved(home, "rough", mape=0.123), Heard()
    study = search(home, scenarios=[CHAT], latency_tables=[rough], progress=heard)
    (warning,) = (line for line in heard.lines if "WARNING" in line)
    assert "decode_ms by 12.3 %: what it predicts is marked ?" in warning
    (advice,) = (line for line in heard.lines if "quiet machine" in line)
    assert "profile_seconds" in advice
    assert "strict_table=True" in advice
    assert "WARNING" in study.facts["table"]["notes"][0]


def test_a_strict_study_refuses_a_rough_table_where_it_needs_one(home: Path) -> None:
    rough = saved(home, "rough", mape=0.123)
    with pytest.raises(ProfileError, match=r"decode_ms by 12.3 %, more than 10 %.*strict_table=False"):
        search(home, scenarios=[CHAT], latency_tables=[rough], strict_table=True)
    objectives = ["params", "state_bytes"]
    search(
        home, name="paper", scenarios=[CHAT], latency_tables=[rough], objectives=objectives, strict_table=True
    )


def test_numbers_of_a_rough_table_are_marked_wherever_they_are_printed(home: Path) -> None:
    from dashboards.app.live_store import LiveStore
    from dashboards.app.panels import network_panel
    from dashboards.report import write_report

    rough, store = saved(home, "rough", mape=0.123), str(home / "s.db")
    study = search(home, scenarios=[CHAT], latency_tables=[rough])
    trial = study.front()[0]
    assert {trial.values[reading].source for reading in READINGS} == {"predicted, rough"}
    assert str(trial.values["decode_ms"]).endswith(" ?")
    assert not trial.values["params"].rough
    why = "? rough: predicted by a latency table that errs on whole networks, decode_ms by 12.3 %"
    for said in (done("front", "s", "--store", store), done("show", "s", trial.digest, "--store", store)):
        assert re.search(r"± \S+ \?|\d \?", said)
        assert said.count("? rough: ") == 1
        assert "decode_ms by 12.3 %" in said
    assert why in done("front", "s", "--store", store)
    html = write_report(study).read_text()
    assert '<span class="rough" title="predicted, rough"> ?</span>' in html
    assert "decode latency per token by 12.3 %" in html  # the report names numbers by their labels
    assert "Note: WARNING" not in html
    panel = str(network_panel(LiveStore(study.store).study("s"), trial))
    assert "rough" in panel
    assert "? rough: " in panel


def test_numbers_of_a_good_table_are_not_marked(home: Path) -> None:
    from dashboards.report import write_report

    study = search(home, scenarios=[CHAT], latency_tables=[saved(home, "good")])
    assert "?" not in done("front", "s", "--store", str(home / "s.db"))
    assert 'class="rough"' not in write_report(study).read_text()


def test_strictness_may_change_when_a_study_goes_on(home: Path) -> None:
    good = saved(home, "good")
    search(home, scenarios=[CHAT], latency_tables=[good])
    study = search(home, scenarios=[CHAT], latency_tables=[good], strict_table=True, trials=10)
    assert study.plan.strict_table
    with pytest.raises(SettingError, match="started with seed=0, not seed=5"):
        search(home, scenarios=[CHAT], latency_tables=[good], strict_table=True, seed=5)


@pytest.mark.slow
def test_strictness_may_change_on_the_command_line_when_a_study_is_resumed(home: Path) -> None:
    table, store = saved(home, "table"), str(home / "s.db")
    words = [
        "tiny.py",
        "--name",
        "s",
        "--scenario",
        "chat=cpu,prompt=16,new_tokens=4",
        "--latency-table",
        table,
    ]
    words += ["-o", "decode_ms", "-o", "params", "--finalists", "0", "--strategy", "random", "--trials", "4"]
    done("search", *words, "--strict-table", "--store", store)
    made_table(home, mape=0.123).save(Path(table))
    refused = run("resume", "s", "--store", store, "--trials", "6")
    assert "strict_table=False" in str(refused.exception)
    done("resume", "s", "--store", store, "--trials", "6", "--no-strict-table")
    done("resume", "s", "--store", store, "--trials", "7")  # what was said last holds
    study = open_study("s", store)
    assert not study.plan.strict_table
    assert [trial.values["decode_ms"].rough for trial in study.trials()] == [False] * 4 + [True] * 3


def test_a_table_of_another_machine_must_be_imported_and_the_front_is_not_timed_here(home: Path) -> None:
    far = saved(home, "far", cpu_model="a far CPU")
    with pytest.raises(ProfileError, match="profile import"):
        search(home, scenarios=[CHAT], latency_tables=[far])
    done("profile", "import", far)
    heard = Heard()
    study = search(home, scenarios=[CHAT], latency_tables=[str(home / "tables" / "far.json")], progress=heard)
    assert any("another machine" in line for line in heard.lines)
    assert "a far CPU" in unreachable(CHAT, study.facts["table"])
    measure_trials(study, study.front(), never, heard)
    assert any("skipped measuring the front" in line for line in heard.lines)


def never(study: Study, trial: Any) -> Any:
    raise AssertionError("nothing of another machine is measured here")


def test_peak_memory_is_an_objective_where_it_is_asked_for(home: Path) -> None:
    study = search(home, scenarios=[CHAT], objectives=["peak_bytes", "params"])
    for trial in study.complete():
        assert trial.values["peak_bytes"].source == "traced"
        assert trial.values["peak_bytes"].value > trial.values["weight_bytes"].value
    other = search(home, name="o", scenarios=[CHAT], objectives=["params"])
    assert "peak_bytes" not in other.complete()[0].values


@pytest.mark.slow
def test_members_of_the_front_are_measured_in_every_scenario(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives_ = ["peak_bytes", "params"]
    asked = ["latency", "energy"]
    study = search(home, scenarios=[CHAT, BULK], objectives=objectives_, trials=3, measure=asked)
    monkeypatch.setattr("nas.steps.measure.measure_networks", quick)
    trial = study.front()[0]
    calls = []

    def extracted(study: Study, trial: Any) -> Any:
        calls.append(trial.digest)
        return build(study.spec(trial))

    for _ in range(2):  # what is known is not measured twice
        measure_trials(study, [trial], extracted, Progress())
    assert len(calls) == 2
    found = {m.name: m for m in study.measurements(trial.digest)}
    for scenario in (CHAT, BULK):
        peak = found[f"peak_bytes@{scenario.name}_measured"]
        assert peak.scenario == scenario.to_json()
        predicted = trial.values[f"peak_bytes@{scenario.name}"].value
        assert peak.value.value == pytest.approx(predicted, rel=0.03)
        assert found[f"decode_ms@{scenario.name}_measured"].value.value == 2.0
    assert not any("joules" in name for name in found) or counted()


def quick(models: list[Any], scenario: Scenario, **how: Any) -> list[dict[str, Latency]]:
    return [{reading: Latency((2.0,) * 4) for reading in READINGS} for _ in models]


def counted() -> bool:
    from hw_profiles.energy_counters import counter_of

    return counter_of("cpu") is not None


def test_names_with_a_scenario_are_objectives_of_their_own() -> None:
    asked = objectives["decode_ms@chat"]
    assert asked.name == "decode_ms@chat"
    assert asked.scenario == "chat"
    assert asked.unit == "ms"
    assert "decode_ms@chat" in objectives
    assert "params@chat" not in objectives
    assert "decode_ms@" not in objectives
    assert "decode_msx@chat" not in objectives
    assert not any("@" in name for name in objectives)
    with pytest.raises(UnknownName, match="did you mean 'decode_ms'"):
        objectives["decode_mss@chat"]


def test_a_bench_answers_for_its_scenarios() -> None:
    cost_model = CostModel(CHAT, by_scenario={"chat": CostModel(CHAT), "bulk": CostModel(BULK)})
    assert cost_model.under("bulk").scenario is BULK
    assert CostModel(CHAT).under("chat").scenario is CHAT
    with pytest.raises(SettingError, match="did you mean 'bulk'"):
        cost_model.under("bukl")
    assert not cost_model.ready(objectives["decode_ms@bulk"])
    assert cost_model.ready(objectives["state_bytes@bulk"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "."], "is a folder"),
        (["-o", "/"], "is a folder"),
        (["--scenario", "cpux"], "unsupported device"),
        (["--scenario", "cpu,threads=100000"], "threads"),
        (["--scenario", "batch=1,batch=2"], "batch is given twice"),
        (["--scenario", "cpu,eager"], "device is given twice"),
        (["--profile-seconds", "inf"], "seconds must be finite, got inf"),
    ],
)
def test_a_profile_that_cannot_be_made_leaves_no_file(home: Path, words: list[str], message: str) -> None:
    before = set(home.iterdir())
    result = run("profile", "tiny.py", *words)
    assert isinstance(result.exception, (ProfileError, SettingError)), result.exception
    assert message in str(result.exception)
    assert {path for path in home.iterdir() if path.name != "__pycache__"} == before


@pytest.mark.slow
def test_the_time_of_a_profile_is_what_was_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def noted(*_: Any, seconds: float, **__: Any) -> LatencyTable:
        asked.append(seconds)
        return made_table(home)

    monkeypatch.setattr("nas.tables.study_tables.profile_space", noted)
    monkeypatch.setattr("nas.tables.study_tables.transfer_table", noted)
    known = saved(home, "known")
    for words in (
        [],
        ["--profile-seconds", "5"],
        ["--from", known],
        ["--from", known, "--profile-seconds", "7"],
    ):
        done("profile", "tiny.py", *words)
    assert asked == [30.0, 5.0, 12.0, 7.0]
    for nonsense in ("-1", "nan"):
        assert run("profile", "tiny.py", "--profile-seconds", nonsense).exit_code != 0


def test_a_profile_is_strict_where_that_is_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = made_table(home)
    assert table.trusted
    assert not table.restless
    (part, measured), *others = table.entries.items()
    loose = {r: replace(f, wall_ms=f.samples_ms, unsettled="the neighbours") for r, f in measured.items()}
    restless = replace(table, entries={part: loose, **dict(others)})
    carried = {r: replace(f, wall_ms=()) for r, f in loose.items()}
    assert replace(table, entries={part: carried, **dict(others)}).restless == 0
    monkeypatch.setattr("nas.tables.study_tables.profile_space", lambda *_, **__: table)
    done("profile", "tiny.py", "--strict")
    monkeypatch.setattr("nas.tables.study_tables.profile_space", lambda *_, **__: restless)
    done("profile", "tiny.py")
    result = run("profile", "tiny.py", "--strict")
    assert "2 latencies did not settle" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["-o", "card.json"], "say which device"), (["--measure-peaks", "cpu:3"], "one device, cpu")],
)
def test_a_probe_that_cannot_be_made_is_refused(home: Path, words: list[str], message: str) -> None:
    result = run("devices", *words)
    assert isinstance(result.exception, (ProfileError, SettingError))
    assert message in str(result.exception)
