from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dashboards.facts import Facts, front_facts, read_facts
from dashboards.facts.composition import ABSENT, composition_facts
from dashboards.facts.finalists import finalist_facts
from dashboards.facts.networks import one_line_of, quantity
from dashboards.facts.quantities import Quantity
from dashboards.facts.records import read_tables, read_validation
from dashboards.facts.study import busy_seconds
from dashboards.figures import figures
from dashboards.figures.front import front_figure
from dashboards.figures.proxy import compared_steps
from dashboards.report.finalist_section import curves_caption, proxy_caption
from dashboards.report.front_section import caption
from dashboards.report.sources_section import SOURCES
from dashboards.report.study import report_html
from nas.store import Store
from nas.study.objective_records import ScoredTask, described_objectives
from nas.study.plan import Plan
from nas.study.significance import standardised_difference, tied
from nas.study.study import Study
from nas.study.task import length_of
from nas.study.trial import STAGES, Fidelity, Trial, TrialState, Value
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.genotype import Genotype
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits

X, Y = Quantity("decode_ms", "ms"), Quantity("bits_per_byte", "bits per byte", scored=True)
HARD = (1.0, 3.0, 2.0, 2.5)


def trial(number: int, x: float, y: float, *, off: tuple[float, ...] = (), **more: object) -> Trial:
    samples = tuple(hard + change for hard, change in zip(HARD, off, strict=False))
    values = {"decode_ms": Value(x, 0.1, "predicted"), "bits_per_byte": Value(y, 0.4, "supernet", samples)}
    settings = {
        "genotype": Genotype({"depth": number}),
        "fidelity": Fidelity(evaluator="supernet", steps=10),
        "seed": 0,
        "state": TrialState.COMPLETE,
        "values": values,
    }
    return Trial(number=number, **{**settings, **more})  # type: ignore[arg-type]


def plane(trials: list[Trial], x: Quantity = X, y: Quantity = Y, **more: object):
    return front_facts(trials, x, y, describe=lambda t: f"line {t.number}", **more)  # type: ignore[arg-type]


def test_the_staircase_runs_from_the_best_x_and_the_rest_is_beaten() -> None:
    facts = plane([trial(0, 3, 1), trial(1, 1, 3), trial(2, 2, 2), trial(3, 3, 3), trial(4, 2, 2)])
    assert [point.number for point in facts.front] == [1, 2, 0]
    assert facts.dominated.numbers == (3, 4)
    assert facts.front[0].one_line == "line 1"


def test_an_objective_of_ones_own_has_the_direction_that_is_on_record(full: Study) -> None:
    """Its source need not be there, and what is best must not turn round without it."""
    own = {"copies_per_s": {"unit": "1/s", "about": "", "maximise": True}}
    recorded = Study(full.store, replace(full.record, config={**full.record.config, "objectives": own}))
    assert quantity("copies_per_s", recorded) == Quantity("copies_per_s", "1/s", True)
    assert quantity("copies_per_s", full) == Quantity("copies_per_s")


def test_a_maximised_quantity_turns_the_front() -> None:
    facts = plane([trial(0, 3, 1), trial(1, 1, 3)], Quantity("decode_ms", "ms", maximise=True))
    assert [point.number for point in facts.front] == [0]


def test_members_of_the_study_front_are_kept_apart_from_the_beaten() -> None:
    facts = plane([trial(0, 1, 1), trial(1, 2, 2), trial(2, 3, 3)], members={0, 1})
    assert [point.number for point in facts.other_members] == [1]
    assert facts.dominated.numbers == (2,)


def test_a_tie_is_a_difference_within_the_noise_of_paired_windows() -> None:
    wide = Value(2.1, 0.5, samples=HARD)
    noisy = Value(2.1, 0.5, samples=tuple(h + d for h, d in zip(HARD, (0.3, -0.2, 0.1, -0.1), strict=True)))
    shifted = Value(2.2, 0.5, samples=tuple(h + d for h, d in zip(HARD, (0.1, 0.11, 0.09, 0.1), strict=True)))
    assert tied(wide, noisy)
    assert not tied(wide, shifted)  # though both errors are far larger than the difference
    assert standardised_difference(wide, noisy) == pytest.approx(
        0.025 / (math.sqrt(0.1475 / 3) / 2), rel=1e-6
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Value(1.0), Value(1.0), False),
        (Value(1.0, 0.1), Value(1.2, 0.1), True),
        (Value(1.0, 0.01), Value(1.2, 0.01), False),
        (Value(1.0, 0.0), Value(1.0, 0.0), True),
        (Value(1.0, 0.0), Value(1.1, 0.0), False),
        (Value(1.0, 0.1, samples=(1.0, 2.0)), Value(1.2, 0.1, samples=(1.0, 2.0, 3.0)), True),
    ],
    ids=["no errors", "within", "beyond", "equal and exact", "unequal and exact", "other windows"],
)
def test_without_paired_windows_errors_decide(one: Value, other: Value, expected: bool) -> None:
    assert tied(one, other) is expected


def test_the_better_of_a_tied_pair_carries_the_mark() -> None:
    better, worse = trial(0, 3, 2.1, off=(0.0, 0.1, 0.0, 0.1)), trial(1, 1, 2.15, off=(0.1, 0.0, 0.1, 0.1))
    marks = {point.number: point.tied for point in plane([better, worse]).front}
    assert marks == {0: True, 1: False}
    assert {p.number: p.tied for p in plane([better, worse], Y, X).front} == marks


def test_a_plane_without_quality_has_no_ties() -> None:
    facts = plane([trial(0, 3, 1), trial(1, 1, 3)], X, Quantity("params"))
    assert facts.front == ()
    costs = [
        replace(t, values={**t.values, "params": Value(9.0 - t.number)})
        for t in (trial(0, 1, 1), trial(1, 2, 1))
    ]
    assert plane(costs, X, Quantity("params")).ties == 0


def test_facts_of_a_whole_study(full: Study) -> None:
    facts = read_facts(full)
    assert [network.digest for network in facts.front] == [trial.digest for trial in full.predicted_front()]
    assert {n.digest for n in facts.front if not n.outdone} == {trial.digest for trial in full.front()}
    assert any(network.outdone for network in facts.front)
    outdone = {network.number for network in facts.front if network.outdone}
    for drawn in facts.fronts:
        assert not outdone & {point.number for point in (*drawn.front, *drawn.other_members)}
    assert "dominated as measured" in report_html(facts)
    assert facts.study.distinct == len(full.complete())
    assert facts.study.counts["complete"] + facts.study.counts["failed"] == facts.study.planned == 80
    assert facts.study.space_size == full.space.size()
    assert [(f.x.name, f.y.name) for f in facts.fronts] == [
        ("decode_ms", "bits_per_byte"),
        ("weight_bytes", "bits_per_byte"),
        ("decode_ms", "weight_bytes"),
    ]
    assert all(set(network.measured) == {"prefill_ms", "decode_ms"} for network in facts.front)
    for pair in facts.fronts:
        assert len(pair.members) + len(pair.dominated.numbers) == facts.study.distinct
    assert facts.hypervolume is not None
    assert facts.hypervolume.shares[-1] == 1.0
    assert list(facts.hypervolume.shares) == sorted(facts.hypervolume.shares)


def test_finalists_go_by_how_far_they_came(full: Study) -> None:
    finals = read_facts(full).finals
    assert finals is not None
    assert finals.rungs == (100, 300, 800)
    assert [len(f.rungs) for f in finals.finalists] == [3, 2, 2, *[1] * 6]
    first = finals.finalists[0]
    assert (first.best, first.finished, first.tied, first.outcome) == (True, True, True, "trained to the end")
    assert finals.finalists[-1].outcome == "not kept after 100 steps"
    assert first.proxy is not None
    assert first.proxy.source == "supernet"
    assert first.rungs[800].source == "scratch"


def test_a_finalist_that_failed_or_still_runs_says_so() -> None:
    def final(number: int, state: TrialState, **more: object) -> Trial:
        return trial(
            number, 1, 1, stage="final", state=state, fidelity=Fidelity(evaluator="scratch", steps=9), **more
        )

    facts = finalist_facts(
        [
            final(0, TrialState.FAILED, values={}, reason="loss is nan"),
            final(1, TrialState.RUNNING, values={}),
            final(2, TrialState.COMPLETE),
        ],
        {},
        {},
        {},
        "bits_per_byte",
    )
    assert facts is not None
    assert [f.outcome for f in facts.finalists] == [
        "trained to the end",
        "failed: loss is nan",
        "running to 9 steps",
    ]
    assert [f.best for f in facts.finalists] == [True, False, False]


def test_a_study_that_has_not_come_far_has_few_facts(all_facts: dict[str, Facts]) -> None:
    one, empty = all_facts["one"], all_facts["empty"]
    assert len(one.front) == 1
    assert one.hypervolume is one.finals is one.supernet is one.validation is one.corpus is None
    assert one.tables == ()
    assert empty.front == empty.fronts == ()
    assert empty.composition is None
    assert empty.study.counts == {}


def layer(mixer: Attention, weight: int = 16) -> Layer:
    return Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(), bits=Bits(weight=weight))


def test_makeup_counts_options_by_layer() -> None:
    long, short = Attention(), Attention(window=8)
    front = [Decoder(d_model=8, layers=(layer(long), layer(short, 4)))]
    rest = [*front, Decoder(d_model=8, layers=(layer(short),))]
    facts = composition_facts(front, rest)
    assert facts is not None
    mixers, bits = facts.panels
    assert mixers.options == ("Attention", "Attention window 8", ABSENT)
    assert mixers.front == ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0))
    assert mixers.everywhere == ((0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
    assert bits.options == ("4 bits", "16 bits")
    assert facts.places == ("layer 0", "layer 1")


def test_makeup_of_deep_networks_takes_runs_of_layers() -> None:
    deep = Decoder(d_model=8, layers=tuple(layer(Attention(window=1 + i % 2)) for i in range(18)))
    facts = composition_facts([deep], [deep])
    assert facts is not None
    assert facts.places == ("layers 0 to 2", "layers 3 to 5", *facts.places[2:])
    assert len(facts.places) == 6
    assert facts.panels[0].front[0][0] == pytest.approx(2 / 3)


def test_one_line_names_blocks_and_bits(full: Study) -> None:
    found = full.predicted_front()[0]
    text = one_line_of(full, found)
    spec = full.spec(found)
    assert text.startswith(f"{spec.d_model} wide: ")
    assert f"w{spec.layers[0].bits.weight}" in text


def test_a_space_of_unknown_parts_is_told_by_its_genes(full: Study) -> None:
    record = replace(full.record, space_json='{"part": "NobodyKnows", "values": {}}')
    lost = Study(full.store, record)
    found = full.predicted_front()[0]
    assert f"d_model={found.genotype.genes['d_model']}" in one_line_of(lost, found)
    assert read_facts(lost).composition is None


def test_evidence_with_gaps_is_read() -> None:
    accuracy = {"mape": None, "tau": None, "tau_interval": [None, None], "held_out": []}
    (table,) = read_tables({"table": {"prefill_ms": accuracy}})
    assert (table.accuracies[0].interval, table.seconds) == (None, None)
    validation = read_validation({"tau": 1.0, "interval": [float("nan"), 1.0], "pairs": [[1.0, 2.0, "ab"]]})
    assert validation is not None
    assert (validation.interval, validation.steps) == (None, None)


def test_a_quantity_of_the_users_own_is_known_by_its_name(tmp_path) -> None:
    assert quantity("my_cost").label == "my cost"
    with Store(tmp_path / "s.db") as store:
        assert store.studies() == []


@pytest.fixture
def of_own_task(full: Study, tmp_path: Path) -> Iterator[Study]:
    """The same study, as if its score were that of a task which only its source defines."""

    def renamed(trial: Trial) -> Trial:
        values = {OWN if name == "bits_per_byte" else name: value for name, value in trial.values.items()}
        return replace(trial, values=values)

    task = {"name": "keyed", "unit": "nats per value", "length": 48, "windows": 64}
    about = {"unit": "share of wrong values", "about": "wrong values", "maximise": False, "task": task}
    plan = replace(full.plan, objectives=(OWN, "decode_ms", "weight_bytes")).to_plain()
    config = {**full.record.config, "plan": plan, "objectives": {OWN: about}, "facts": full.facts}
    record = full.record
    with Store(tmp_path / "own.db") as store:
        made = store.create_study(
            record.name, space_digest=record.space_digest, space_json=record.space_json, config=config
        )
        for stage in STAGES:
            store.save(made, [renamed(trial) for trial in full.trials(stage)])
        store.add_measurements(made, full.measurements())
        yield Study(store, made)


OWN = "keyed_error"


def test_the_score_of_a_task_of_ones_own_is_on_record(of_own_task: Study) -> None:
    quality, task = of_own_task.quality, of_own_task.scored_task
    assert quality is not None
    assert (quality.name, quality.unit, quality.task) == (OWN, "share of wrong values", "keyed")
    assert task == ScoredTask("nats per value", 48, 64)
    assert length_of(of_own_task) == 48
    assert of_own_task.frame().attrs["units"][OWN] == "share of wrong values"


def test_a_report_of_a_task_of_ones_own_needs_no_source(of_own_task: Study) -> None:
    facts = read_facts(of_own_task)
    assert facts.study.quality == Quantity(OWN, "share of wrong values", scored=True)
    assert facts.next_steps.scored
    assert facts.next_steps.exportable
    assert facts.finals is not None
    assert all(finalist.rungs and finalist.proxy for finalist in facts.finals.finalists)
    text = report_html(facts)
    assert "Trained from scratch" in text
    assert "scored by" in text
    assert "nas validate" in text
    assert "Keyed error (share of wrong values) after training from scratch" in text
    assert "loss (nats per value)" in text
    shown = text.partition("<body>")[2].partition("<script>")[0]
    assert "no quality objective" not in shown
    assert "The training text" in text
    assert "compressors" not in text.partition("<body>")[2]
    assert "its per byte" not in shown


def test_a_record_of_objectives_without_a_task_stays_readable(full: Study) -> None:
    own = {"my_cost": {"unit": "", "about": "", "maximise": False}}
    plan = replace(full.plan, objectives=("my_cost",)).to_plain()
    config = {**full.record.config, "plan": plan, "objectives": own}
    study = Study(full.store, replace(full.record, config=config))
    assert study.quality is study.scored_task is length_of(study) is None


def test_a_search_records_the_tasks_of_its_scores() -> None:
    recorded = described_objectives(Plan(objectives=("recall_error", "params")))
    assert recorded["recall_error"]["task"]["unit"] == "nats per answer"
    assert recorded["recall_error"]["task"]["length"] == 32
    assert "task" not in recorded["params"]


def test_a_finalist_that_was_not_kept_is_not_tied_with_the_best() -> None:
    def final(number: int, digest: int, steps: int) -> Trial:
        fidelity = Fidelity(evaluator="scratch", steps=steps)
        return trial(number, 1, 1, stage="final", fidelity=fidelity, genotype=Genotype({"depth": digest}))

    trials = [final(0, 0, 5), final(1, 1, 5), final(2, 0, 10)]
    facts = finalist_facts(trials, {}, {}, {}, "bits_per_byte")
    assert facts is not None
    assert [(f.best, f.tied, f.outcome) for f in facts.finalists] == [
        (True, True, "trained to the end"),
        (False, False, "not kept after 5 steps"),
    ]
    assert facts.common_rung == 5
    shown = curves_caption(facts)
    assert "Grey: not trained to the end" in shown
    assert "Blue" not in shown


def test_the_proxy_is_compared_with_scores_after_equally_many_steps(all_facts: dict[str, Facts]) -> None:
    full = all_facts["full"]
    assert compared_steps(full) == 300
    alone = replace(full, validation=None)
    assert compared_steps(alone) == 100
    assert alone.finals is not None
    (drawn,) = figures["proxy"](alone).data
    assert list(drawn.y) == [finalist.rungs[100].value for finalist in alone.finals.finalists]
    assert "100 steps" in proxy_caption(alone)


def test_each_source_is_explained_by_itself() -> None:
    assert not [meaning for meaning in SOURCES.values() if "the same" in meaning]


def as_measured(number: int, x: float) -> dict[str, dict[str, Value]]:
    return {trial(number, 0, 0).digest: {"decode_ms": Value(x, 0.01, "measured")}}


def test_the_front_is_drawn_where_it_was_measured() -> None:
    found = [trial(0, 1, 3), trial(1, 2, 2), trial(2, 3, 3)]
    facts = plane(found, measured={**as_measured(0, 1.5), **as_measured(1, 1.4)}, objectives=(X, Y))
    (point,) = facts.front
    assert (point.number, point.x.value, point.values["decode_ms"].source) == (1, 1.4, "measured")
    assert [point.number for point in facts.outdone] == [0]
    assert facts.dominated.x == (3.0,)
    assert facts.dominated.predicted == (True, False)


def test_what_was_not_measured_is_not_compared_with_what_was() -> None:
    facts = plane([trial(0, 1, 3), trial(1, 2, 2)], measured=as_measured(1, 0.5))
    assert [point.number for point in facts.front] == [1, 0]
    assert [point.is_predicted for point in facts.front] == [False, True]


def test_the_plane_says_what_is_measured_and_what_predicted() -> None:
    facts = plane([trial(0, 1, 30), trial(1, 2, 2), trial(2, 3, 30)], measured=as_measured(0, 1.5))
    drawn = front_figure(facts)
    names = {trace.name for trace in drawn.data}
    assert {"front", "front, predicted", "dominated, predicted"} <= names
    assert drawn.layout.xaxis.title.text == "decode latency per token, partly measured (ms)"
    (predicted,) = (trace for trace in drawn.data if trace.name == "front, predicted")
    assert predicted.marker.symbol.startswith("diamond")
    (dominated,) = (trace for trace in drawn.data if trace.name == "dominated, predicted")
    assert "~%{x" in dominated.hovertemplate
    assert "~%{y" not in dominated.hovertemplate
    text = caption(facts)
    assert "Diamonds were not measured" in text
    assert "never built" in text


def test_the_report_draws_the_numbers_of_its_table(all_facts: dict[str, Facts]) -> None:
    full = all_facts["full"]
    known = {network.digest: network.best_known for network in full.front}
    points = [(pair, point) for pair in full.fronts for point in pair.members if point.digest in known]
    assert points
    for pair, point in points:
        assert point.x == known[point.digest][pair.x.name]
        assert point.y == known[point.digest][pair.y.name]


def test_the_time_between_two_sessions_is_no_time_of_the_search() -> None:
    spans = [(0.0, 4.0), (1.0, 3.0), (3.5, 6.0), (100.0, 102.0), (101.0, None)]
    trials = [trial(i, 1, 1, started=s, finished=f) for i, (s, f) in enumerate(spans)]
    assert busy_seconds(trials) == 8.0
    assert busy_seconds([]) == 0.0


def test_a_mouse_is_mentioned_where_there_is_one(all_facts: dict[str, Facts]) -> None:
    text = report_html(all_facts["full"])
    shown = text.partition("<body>")[2]
    assert shown.count("Drag to zoom") == shown.count('<span class="mouse"> Drag to zoom')
    assert "@media (hover:none),(max-width:600px),print{.mouse{display:none}}" in text
