"""Fronts of several studies, compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from dashboards import commands
from dashboards.app.live_store import LiveStore
from dashboards.facts import ComparisonFacts, read_comparison
from dashboards.facts.hypervolume import in_natural_units, share_errors
from dashboards.facts.quantities import Quantity
from dashboards.figures.comparison import MAX_BANDS, fronts_figure, progress_figure
from dashboards.pages.base import Place
from dashboards.pages.front import Front
from dashboards.report.comparison import comparison_html, lead, title, write_comparison
from dashboards.style.theme import MARKS, with_scheme
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError, UnknownName
from foundation.text import percent
from nas.pareto import Points, nondominated, reference_point
from nas.store import Store
from nas.study.facts import add_fact
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.tally import tally_of
from nas.validation.gain import scaled
from search_spaces.scenario import Scenario
from tests.dashboards.made import make_study
from tests.dashboards.test_report import HOSTILE, Reader

TWO = ("bits_per_byte", "decode_ms")


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two engines on the same weights, a copy of the first, and a shorter one of two objectives."""
    with Store(tmp_path_factory.mktemp("sides") / "studies.db") as store:
        make_study(store, "evolved", trials=24, complete=False)
        make_study(store, "again", trials=24, complete=False, engine="exact")
        make_study(store, "chance", trials=15, complete=False, engine="random", strategy="random", dice=9)
        make_study(store, "two", trials=12, complete=False, objectives=TWO)
        make_study(store, "turned", trials=10, complete=False, objectives=TWO[::-1], dice=9)
        make_study(store, "nothing", trials=0, complete=False)
        yield store


@pytest.fixture(scope="module")
def compared(sides: Store) -> ComparisonFacts:
    return read_comparison(opened(sides, "evolved", "chance"))


def opened(store: Store, *names: str) -> list[Study]:
    return [Study(store, store.study(name)) for name in names]


def test_shares_are_of_one_volume_below_one_point(compared: ComparisonFacts) -> None:
    evolved, chance = compared.studies
    assert (evolved.engine, chance.engine) == ("ofa (nsga2)", "random")
    for side in compared.studies:
        assert 0 < side.volume <= compared.volume
        assert side.share == pytest.approx(side.volume / compared.volume)
        assert list(side.trace) == sorted(side.trace)
        assert len(side.trace) == side.study.distinct
        assert side.error is not None
        assert 0 < side.error < 0.1
    worst = {
        what.name: max(n.values[what.name].value for side in compared.studies for n in side.front)
        for what in compared.objectives
    }
    assert all(r > worst[what.name] for what, r in zip(compared.objectives, compared.reference, strict=True))
    assert compared.uneven
    assert compared.fewest == chance.study.distinct


def test_the_joint_front_is_that_of_all_networks(compared: ComparisonFacts) -> None:
    names = [what.name for what in compared.objectives]
    networks = {n.digest: [n.values[name].value for name in names] for s in compared.studies for n in s.front}
    kept = nondominated(list(networks.values()))
    assert {m.network.digest for m in compared.joint} == {
        d for d, keep in zip(networks, kept, strict=True) if keep
    }
    assert sum(side.exclusive for side in compared.studies) <= len(compared.joint)
    for member in compared.joint:
        assert all(
            discovery.study == compared.studies[discovery.index].study.name
            for discovery in member.discoveries
        )


def test_what_two_studies_found_counts_for_both(sides: Store) -> None:
    facts = read_comparison(opened(sides, "evolved", "again"))
    assert [side.share for side in facts.studies] == [1.0, 1.0]
    assert [side.joint for side in facts.studies] == [len(facts.joint)] * 2
    assert [side.exclusive for side in facts.studies] == [0, 0]
    assert all([f.study for f in member.discoveries] == ["evolved", "again"] for member in facts.joint)
    assert f"{len(facts.joint)} scored by more than one study" in lead(facts)
    assert not facts.uneven


def test_the_order_of_objectives_does_not_matter(sides: Store) -> None:
    one, other = (read_comparison(opened(sides, *names)) for names in (("two", "turned"), ("turned", "two")))
    assert [side.volume for side in one.studies] == pytest.approx(
        [side.volume for side in other.studies[::-1]]
    )
    assert one.reference == pytest.approx(other.reference[::-1])
    assert {front.x.name for side in one.studies for front in side.fronts} == {"decode_ms"}


def test_errors_of_shares_come_from_windows_that_all_share() -> None:
    fronts = [[(1.0, 3.0), (2.0, 1.0)], [(1.5, 2.0)]]
    reference: Points = reference_point([p for front in fronts for p in front])
    windows = [[(2.9, 3.1), (0.9, 1.1)], [(1.9, 2.1)]]
    common = share_errors(fronts, windows, 1, reference)
    apart = share_errors(fronts, [windows[0], [(2.1, 1.9)]], 1, reference)
    assert common[0] is not None
    assert apart[0] is not None
    assert common[0] < apart[0]
    assert common == share_errors(fronts, windows, 1, reference)
    assert share_errors(fronts, [[(), ()], [()]], 1, reference) == [None, None]
    assert share_errors(fronts, [[(1.0, 2.0), ()], [()]], 1, reference) == [None, None]
    assert share_errors(fronts, windows, None, reference) == [None, None]


def test_a_point_in_its_own_units() -> None:
    more = Quantity("speed", maximise=True)
    raw = [(8.0, -8.0, -3.0), (2.0, -2.0, -4.0)]
    turned_point = np.array(scaled(raw, [True, True, False])[0])
    assert in_natural_units(
        turned_point, [True, True, False], [Quantity("cost"), more, more]
    ) == pytest.approx((8.0, 8.0, 3.0))


def refused(sides: Store, names: tuple[str, ...], match: str) -> None:
    with pytest.raises(SettingError, match=match):
        read_comparison(opened(sides, *names))


def test_what_cannot_be_compared_is_refused(sides: Store) -> None:
    refused(sides, ("evolved",), "2 to 6 studies, got 1")
    refused(sides, ("evolved", "evolved"), "named twice: evolved")
    refused(sides, ("evolved", "nothing"), "nothing has no scored trial: run `nas resume nothing`")
    refused(
        sides, ("evolved", "two"), r"objectives differ, bits_per_byte, decode_ms, weight_bytes in evolved and"
    )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Callable[..., list[Study]]]:
    """Makes two small studies, the second one with a plan and facts of its own."""
    with Store(tmp_path / "studies.db") as store:

        def make(
            mine: dict[str, Any] | None = None,
            theirs: dict[str, Any] | None = None,
            **plan: Any,
        ) -> list[Study]:
            made = [
                make_study(store, "a", trials=4, complete=False, objectives=TWO),
                make_study(store, "b", trials=4, complete=False, **{"objectives": TWO, **plan}),
            ]
            for study, facts in zip(made, (mine or {}, theirs or {}), strict=True):
                for name, fact in facts.items():
                    add_fact(study, name, fact)
            return opened(store, "a", "b")

        yield make


def test_fronts_of_two_runtimes_are_compared_and_their_winners_counted(
    pair: Callable[..., list[Study]], compared: ComparisonFacts
) -> None:
    notes = read_comparison(pair(scenarios=(Scenario(engine="onnxruntime"),))).notes
    assert any("decode_ms is that of eager in a and of onnxruntime in b" in note for note in notes)
    (winners,) = (note for note in notes if note.endswith("both."))
    assert re.fullmatch(
        r"Of \d networks? on the front of a and \d on that of b, \d (is|are) on both\.", winners
    )
    assert not any(note.endswith("both.") for note in compared.notes), "one runtime"


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (
            {"scenarios": (Scenario(batch=8),)},
            "scenarios of decode_ms differ, batch=1 in a and batch=8 in b",
        ),
        ({"evaluator": "scratch"}, "evaluators differ, supernet in a and scratch in b"),
        ({"train_steps": 99}, "training steps differ, 250 in a and 99 in b"),
        ({"train_batch": 4}, "batch sizes differ"),
        ({"recipe": Recipe(clip=2.0)}, r"recipes \(clip\) differ, 1.0 in a and 2.0 in b"),
        ({"window": 64}, "window lengths differ, 128 in a and 64 in b"),
        ({"validation_windows": 32}, "numbers of validation windows differ"),
        ({"data": "~/texts"}, "texts differ"),
        ({"seed": 1}, "shared weights differ, those of seed 0 in a and those of seed 1 in b"),
        ({"supernet": "/nets/s"}, "shared weights differ, those of seed 0 in a and those in /nets/s in b"),
        ({"roofline": "h100"}, "ways of predicting decode_ms differ, a measured table in a and the estimate"),
    ],
)
def test_a_difference_in_how_scores_came_about_is_refused(
    pair: Callable[..., list[Study]], plan: dict[str, Any], match: str
) -> None:
    with pytest.raises(SettingError, match=match):
        read_comparison(pair(**plan))


@pytest.mark.parametrize(
    ("name", "mine", "theirs", "match"),
    [
        ("corpus", {"digest": "aa"}, {"digest": "bb"}, "texts differ, aa in a and bb in b"),
        (
            "corpus",
            {"digest": "aa"},
            {"digest": "bb", "text": "aa", "tokenizer": "t", "lossless": False},
            "texts differ, aa in a and bb in b",
        ),
        ("table", {"machine": "left"}, {"machine": "right"}, "machines of decode_ms differ, left in a"),
    ],
)
def test_a_difference_on_record_is_refused(
    pair: Callable[..., list[Study]], name: str, mine: Any, theirs: Any, match: str
) -> None:
    with pytest.raises(SettingError, match=match):
        read_comparison(pair({name: mine}, {name: theirs}))


def test_one_text_is_compared_under_two_tokenizers(pair: Callable[..., list[Study]]) -> None:
    tokens = {"digest": "bb", "text": "aa", "tokenizer": "t", "lossless": True}
    studies = pair({"corpus": {"digest": "aa"}}, {"corpus": tokens}, window=32, validation_windows=500)
    [note] = read_comparison(studies).notes
    assert "a and b read one text with different tokenizers. Bits per byte can be compared" in note
    with pytest.raises(SettingError, match="window lengths differ"):
        read_comparison(pair({"corpus": tokens}, {"corpus": tokens}, window=32))


def test_one_training_is_one_whatever_was_asked(pair: Callable[..., list[Study]]) -> None:
    curve = {"supernet": {"steps": 250, "seconds": 1.0, "loss": [[1, 5.0, 5.5], [2, 4.0, 4.4]]}}
    assert read_comparison(pair(curve, curve, supernet="/nets/s", seed=1)).notes == ()


def test_notes_say_what_a_reader_must_know(pair: Callable[..., list[Study]]) -> None:
    curves = [{"steps": 250, "seconds": 1.0, "loss": [[1, loss, loss]]} for loss in (5.0, 6.0)]
    tables = [{"machine": "here", "seconds": seconds} for seconds in (1.0, 2.0)]
    engine = {"exact": {"warning": "scores do not add up"}}
    studies = pair(
        {"supernet": curves[0], "table": tables[0]},
        {"supernet": curves[1], "table": tables[1], **engine},
        engine="exact",
        constraints=("params<1e6",),
    )
    assert [tally_of(study).problems for study in studies] == [[], ["scores do not add up"]]
    page = Front(LiveStore(studies[1].store)).layout(Place(study="b"))
    assert "P('scores do not add up.')" in str(page)
    notes = read_comparison(studies).notes
    assert len(notes) == 4
    for note, words in zip(
        notes,
        (
            "their own latency table",
            "not identical",
            "a has none and b has params<1e6",
            "b: scores do not add up.",
        ),
        strict=True,
    ):
        assert words in note


def test_another_space_is_a_note_and_other_weights_come_with_it(
    pair: Callable[..., list[Study]],
) -> None:
    studies = pair(seed=1)
    studies[1].record = replace(studies[1].record, space_digest="0123456789ab")
    weights, spaces = read_comparison(studies).notes
    assert "each trained for its own space" in weights
    assert "different spaces: laptop (" in spaces
    assert "laptop (0123456789ab)" in spaces


def test_from_scratch_another_seed_is_a_note(pair: Callable[..., list[Study]]) -> None:
    studies = pair(seed=1, evaluator="scratch")
    studies[0].plan = replace(studies[0].plan, evaluator="scratch")
    assert "different seeds" in read_comparison(studies).notes[0]


def test_one_objective_has_no_front(pair: Callable[..., list[Study]]) -> None:
    studies = pair(objectives=TWO[:1])
    studies[0].plan = replace(studies[0].plan, objectives=TWO[:1])
    with pytest.raises(SettingError, match="bits_per_byte only"):
        read_comparison(studies)


def test_every_study_has_its_colour_its_mark_and_its_entry(compared: ComparisonFacts) -> None:
    for plane in range(3):
        drawn = fronts_figure(compared, plane)
        named = {trace.name: trace for trace in drawn.data if trace.showlegend is None}
        assert list(named) == ["evolved", "chance"]
        assert [trace.line.color for trace in named.values()] == [mark.colour for mark in MARKS[:2]]
        assert {trace.legendgroup for trace in drawn.data} == {"evolved", "chance"}
    assert fronts_figure(compared).layout.xaxis.title.text == "decode latency per token, predicted (ms)"
    json.dumps(json.loads(drawn.to_json()), allow_nan=False)
    light = list(drawn.data)
    assert list(with_scheme(drawn, "dark").data) == light


def test_many_fronts_have_no_bands(compared: ComparisonFacts) -> None:
    def bands(facts: ComparisonFacts) -> int:
        return sum(trace.fill == "toself" for trace in fronts_figure(facts).data)

    assert bands(compared) == 2
    side = compared.studies[0]
    many = tuple(replace(side, study=replace(side.study, name=f"s{i}")) for i in range(MAX_BANDS + 1))
    assert bands(replace(compared, studies=many)) == 0
    assert title(replace(compared, studies=many)) == "4 studies"
    assert "s0 covers the most" in lead(replace(compared, studies=many))


def test_progress_ends_at_the_share(compared: ComparisonFacts) -> None:
    for side, trace in zip(compared.studies, progress_figure(compared).data, strict=True):
        assert trace.y[-1] == pytest.approx(100 * side.share)
        assert trace.x[-1] == side.study.distinct


def test_the_page_tells_it_all_and_loads_nothing(compared: ComparisonFacts) -> None:
    page = comparison_html(compared)
    found = Reader(page)
    assert lead(compared) in found.text
    for side in compared.studies:
        assert percent(side.share, side.error) in found.text
        assert f"nas show {side.study.name} " in found.text
    assert all(member.network.digest in found.text for member in compared.joint)
    assert f"share after {compared.fewest}" in found.text
    assert not any(name == "img" or "src" in attributes for name, attributes in found.elements)
    assert page.count('<div class="plot"') == 4


def test_what_an_engine_drew_at_random_is_told(compared: ComparisonFacts) -> None:
    member, *others = compared.joint
    lucky = replace(member, discoveries=(replace(member.discoveries[0], random=True),))
    found = Reader(comparison_html(replace(compared, joint=(lucky, *others))))
    assert found.text.count(", random") == 1


def test_hostile_text_stays_text(compared: ComparisonFacts) -> None:
    sides = tuple(
        replace(side, engine=HOSTILE, study=replace(side.study, name=HOSTILE, space_name=HOSTILE))
        for side in compared.studies
    )
    found = Reader(comparison_html(replace(compared, studies=sides, notes=(HOSTILE,))))
    assert "img" not in [name for name, _ in found.elements]
    assert HOSTILE in found.text


def test_the_page_lies_beside_the_folders_of_studies(sides: Store, tmp_path: Path) -> None:
    studies = opened(sides, "two", "turned")
    assert write_comparison(studies)[0] == studies[0].folder.parent / "compare.html"
    path, facts = write_comparison(studies, tmp_path / "there" / "c.html")
    assert path.read_text().startswith("<!doctype html>")
    assert [side.study.name for side in facts.studies] == ["two", "turned"]


def invoke(*words: str) -> Any:
    app = typer.Typer()
    app.command()(commands.compare)
    return CliRunner().invoke(app, list(words))


def test_the_command_prints_a_table_and_where_the_page_is(sides: Store, tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    result = invoke("two", "turned", "--store", sides.url, "-o", str(page))
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.split()[:4] == ["study", "engine", "scored", "front"]
    assert [line.split()[0] for line in rows[:2]] == ["two", "turned"]
    assert "on the joint front; hypervolume below bits_per_byte" in rows[2]
    assert rows[-1] == str(page)
    assert page.exists()


def test_json_is_for_programs(sides: Store, tmp_path: Path) -> None:
    result = invoke("evolved", "chance", "--store", sides.url, "-o", str(tmp_path / "c.html"), "--json")
    plain = json.loads(result.stdout)
    assert [study["study"] for study in plain["studies"]] == ["evolved", "chance"]
    assert set(plain["reference"]) == set(Plan.objectives)
    assert {f["study"] for member in plain["front"] for f in member["discoveries"]} == {"evolved", "chance"}
    assert plain["page"] == str(tmp_path / "c.html")


def test_an_unknown_study_is_an_error_that_helps(sides: Store) -> None:
    assert isinstance(invoke("evolvd", "chance", "--store", sides.url).exception, UnknownName)
