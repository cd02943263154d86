"""Networks side by side, as lines, and what a study says about its genes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dashboards.app.live_store import key_of
from dashboards.app.shell import Shell
from dashboards.facts.dependence import dependence
from dashboards.facts.families import family_facts
from dashboards.facts.gene_rows import GeneRows, gene_rows
from dashboards.facts.importance import ImportanceFacts, importance
from dashboards.facts.networks import architecture, quantity
from dashboards.facts.parallel import GENES, parallel, telling
from dashboards.facts.reading import Reading
from dashboards.facts.side_by_side import NONE, best_of, side_by_side
from dashboards.facts.surrogate import Surrogate, grouped, surrogate
from dashboards.figures.dependence import dependence_figure
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.figures.families import families_figure
from dashboards.figures.importance import importance_figure
from dashboards.figures.parallel import parallel_figure
from dashboards.pages.base import MOST_COMPARED, address
from dashboards.pages.compare import Compare
from foundation.errors import SettingError
from nas.strategies.surrogate.encoding import SILENT, Encoding
from nas.study.trial import Value


@pytest.fixture(scope="module")
def page(shell: Shell) -> Compare:
    page = shell.pages["compare"]
    assert isinstance(page, Compare)
    return page


@pytest.fixture(scope="module")
def known(reading: Reading) -> GeneRows:
    return gene_rows(reading, Encoding(reading.study.space_as_read), 300)


@pytest.fixture(scope="module")
def fitted(reading: Reading, known: GeneRows) -> Surrogate:
    """To an objective that two genes decide, and to one that nothing does."""
    depth = known.rows[:, known.encoding.columns["layers"]].astype(float)
    width = known.rows[:, known.encoding.columns["d_model"]].astype(float)
    made = {"decode_ms": 3 * depth + width, "weight_bytes": np.random.default_rng(3).normal(size=len(depth))}
    scored = known.scored
    for name, values in made.items():
        column = replace(scored.columns[name], values=values, errors=np.zeros(len(values), np.float32))
        scored = scored.with_column(name, column)
    models = surrogate(reading, replace(known, scored=scored))
    assert models is not None
    return models


@pytest.fixture(scope="module")
def matters(fitted: Surrogate) -> ImportanceFacts:
    return importance(fitted)


def text_of(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


def test_the_best_is_told_only_beyond_the_errors() -> None:
    of = quantity("bits_per_byte")
    assert best_of(of, [Value(2.0, 0.01), Value(2.1, 0.01)]) == 0
    assert best_of(of, [Value(2.0, 0.1), Value(2.1, 0.1)]) is None
    assert best_of(of, [Value(5.0), Value(4.0), Value(4.0)]) is None
    assert best_of(of, [Value(5.0), None]) is None
    assert best_of(replace(of, maximise=True), [Value(2.0, 0.01), None, Value(2.1, 0.01)]) == 2


def test_networks_side_by_side_tell_what_differs(reading: Reading) -> None:
    trials = reading.members[:3]
    facts = side_by_side(reading, trials)
    assert facts.digests == tuple(trial.digest for trial in trials)
    width, *layers = facts.layers
    specs = [architecture(reading.study, trial) for trial in trials]
    assert width.texts == tuple(str(spec.d_model) for spec in specs)
    assert len(layers) == max(len(spec.layers) for spec in specs)
    for i, row in enumerate(layers):
        assert [text == NONE for text in row.texts] == [i >= len(spec.layers) for spec in specs]
        assert row.differs == tuple(text != row.texts[0] for text in row.texts)
    for gene in facts.genes:
        assert any(gene.differs)
        assert gene.texts[1] == str(trials[1].genotype.genes.get(gene.name, NONE))
    decode = next(row for row in facts.numbers if row.of.name == "decode_ms")
    first, other = decode.values[0], decode.values[1]
    assert first is not None
    assert other is not None
    assert first.source == "measured"
    assert decode.relative[1] == pytest.approx(other.value / first.value - 1)


def test_a_network_does_not_differ_from_itself(reading: Reading) -> None:
    facts = side_by_side(reading, [reading.members[0]] * 2)
    assert not facts.genes
    assert not any(any(row.differs) for row in facts.layers)
    assert all(row.best is None for row in facts.numbers)


def test_what_is_read_holds_the_front_and_whom_one_asks_for(reading: Reading, known: GeneRows) -> None:
    members = {trial.number for trial in reading.members}
    assert set(known.scored.numbers[known.on_front].tolist()) == members
    beaten = int(known.scored.numbers[~known.on_front][3])
    few = gene_rows(reading, known.encoding, 12, [beaten])
    assert beaten in few.scored.numbers
    assert few.on_front.sum() == 6
    assert 12 <= len(few.rows) <= 13
    for row, number in zip(few.rows, few.scored.numbers.tolist(), strict=True):
        genes = reading.whole([number])[number].genotype.genes
        assert few.encoding.answers(row) == genes


def test_what_decides_an_objective_matters_for_it(matters: ImportanceFacts) -> None:
    names = [of.name for of in matters.objectives]
    decode, weights = names.index("decode_ms"), names.index("weight_bytes")
    ranked = sorted(matters.genes, key=lambda gene: -gene.means[decode])
    assert [gene.name for gene in ranked[:2]] == ["layers", "d_model"]
    assert ranked[0].means[decode] > 5 * ranked[0].errors[decode]
    assert ranked[1].means[decode] > 2 * ranked[1].errors[decode]
    assert matters.explained[decode] > 0.9
    assert matters.explained[weights] < 0.3  # noise, of which a model knows nothing


def test_genes_of_all_layers_are_one(known: GeneRows) -> None:
    groups = grouped(known.encoding)
    assert sorted(column for columns in groups.values() for column in columns) == list(
        range(len(known.encoding.genes))
    )
    assert len(groups["layers.*.sequence_mixer"]) == 4


def test_few_networks_say_nothing_about_genes(shell: Shell) -> None:
    few = shell.live.study("two")
    rows = gene_rows(few, Encoding(few.study.space_as_read), 300)
    assert surrogate(few, rows) is None


def test_one_gene_does_what_it_was_made_to_do(fitted: Surrogate, known: GeneRows) -> None:
    """The objective is three times the index of the depth, and that of the width; labels are their places."""
    slopes = {"layers": 3.0, "d_model": 1.0}
    others = {name: float(known.rows[:, known.encoding.columns[name]].mean()) for name in slopes}
    for gene, slope in slopes.items():
        facts = dependence(fitted, gene, "decode_ms")
        other = sum(slopes[name] * mean for name, mean in others.items() if name != gene)
        for index, point in enumerate(facts.points):
            assert point.mean == pytest.approx(slope * index + other, abs=0.35)
            assert 0 <= point.error < 0.3
        assert sum(point.networks for point in facts.points) == facts.networks == len(known.rows)
        assert facts.ordered
        assert dependence_figure(facts).data[0].mode == "lines+markers"


def test_what_a_gene_that_decides_nothing_does_is_nothing(fitted: Surrogate) -> None:
    facts = dependence(fitted, "layers.*.channel_mixer", "decode_ms")
    means = [point.mean for point in facts.points]
    assert max(means) - min(means) < 0.3
    assert facts.genes > 1
    assert "in all layers" in dependence_figure(facts).layout.annotations[0].text


def test_one_gene_is_not_told_of_what_cannot_be_predicted(fitted: Surrogate) -> None:
    with pytest.raises(SettingError, match="is predicted in networks that the model has not seen"):
        dependence(fitted, "layers", "weight_bytes")
    with pytest.raises(SettingError, match="no objective of this study"):
        dependence(fitted, "layers", "params")
    with pytest.raises(SettingError, match="no gene '<x>' varies"):
        dependence(fitted, "<x>", "decode_ms")
    rare = fitted.rows.copy()
    column = fitted.encoding.columns["layers"]
    rare[9:, column] = SILENT
    with pytest.raises(SettingError, match="9 of the known networks have this gene"):
        dependence(replace(fitted, rows=rare), "layers", "decode_ms")


def test_the_page_tells_about_one_gene_and_says_why_not(page: Compare, shell: Shell) -> None:
    study = key_of(shell.live.store.study("full"))
    assert "networks, were each of them" in text_of(page.depends(None, "decode_ms", "dark", study))
    assert "Not told: no gene" in text_of(page.depends("<x>", "decode_ms", None, study))
    few = key_of(shell.live.store.study("two"))
    assert "Of fewer than" in text_of(page.depends(None, "decode_ms", None, few))
    place = text_of(shell.page("/study/full/compare", "?gene=d_model&of=weight_bytes"))
    assert '"value": "d_model"' in place
    assert '"value": "weight_bytes"' in place


def test_lines_have_an_axis_for_each_telling_gene_and_objective(reading: Reading, known: GeneRows) -> None:
    chosen = [reading.members[1].digest, reading.members[0].digest, "nothing"]
    facts = parallel(reading, known, chosen)
    assert facts is not None
    assert [line.digest for line in facts.chosen] == chosen[:2]
    assert [axis.gene for axis in facts.axes] == [True] * GENES + [False] * len(reading.objectives)
    for line in (*facts.beaten, *facts.front, *facts.chosen):
        assert len(line.places) == len(facts.axes)
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in line.places)
    best = next(line for line in facts.chosen if line.digest == reading.members[0].digest)
    assert best.places[GENES] == pytest.approx(1)  # members are sorted by the first objective


def test_a_gene_that_is_not_asked_tells_nothing_by_that() -> None:
    """The second gene is asked where the first is 1, and says nothing more."""
    first = np.tile([0, 0, 1, 1], 10)
    second = np.where(first == 1, np.tile([0, 0, 0, 1], 10), SILENT)
    values = first[:, None].astype(float)
    rows = np.column_stack([second, first]).astype(np.int16)
    assert telling(rows, values)[-1] == 1
    assert telling(rows[:, ::-1], values)[0] == 0


def test_families_add_up_to_those_that_are_so_deep(reading: Reading) -> None:
    specs = [architecture(reading.study, trial) for trial in reading.members]
    facts = family_facts(specs, specs)
    assert facts is not None
    for panel in facts.panels:
        for layer in range(facts.depth):
            deep = sum(len(spec.layers) > layer for spec in specs) / len(specs)
            assert sum(shares[layer] for shares in panel.front) == pytest.approx(deep)
    assert family_facts([], specs) is None
    assert family_facts([object()], [object()]) is None


def test_figures_are_plain_and_as_wide_as_they_need(
    reading: Reading, known: GeneRows, matters: ImportanceFacts
) -> None:
    lines = parallel(reading, known, [reading.members[0].digest])
    specs = [architecture(reading.study, trial) for trial in reading.members]
    families = family_facts(specs, specs)
    assert lines is not None
    assert families is not None
    drawings: tuple[tuple[Any, Any], ...] = (
        (parallel_figure, lines),
        (importance_figure, matters),
        (families_figure, families),
    )
    for draw, facts in drawings:
        figure, narrow = draw(facts), draw(facts, narrow=True)
        assert narrow.layout.meta[LEAST_WIDTH] == 0
        assert len(narrow.data) == len(figure.data)
        plain = json.loads(json.dumps(json.loads(figure.to_json()), allow_nan=False))
        assert plain["data"]
        assert 300 < plain["layout"]["meta"][LEAST_WIDTH] < 2000
        assert 200 < plain["layout"]["height"] < 1000


def test_a_link_restores_what_is_compared(shell: Shell, reading: Reading) -> None:
    digests = [trial.digest for trial in reading.members[2:4]]
    beaten = str(reading.scored.digests[-1])
    path, _, search = address("compare", "full", **{"with": [*digests, beaten, "<b>"]}).partition("?")  # type: ignore[arg-type]
    text = text_of(shell.page(path, search))
    assert json.dumps([*digests, beaten]) in text
    assert "<b>" not in text


def test_the_page_shows_tables_and_lines(page: Compare, shell: Shell, reading: Reading) -> None:
    key = key_of(shell.live.store.study("full"))
    digests = [trial.digest for trial in reading.members[:9]]
    tables, lines = page.compared(digests, "dark", key)
    text = text_of(tables)
    assert all((digest in text) == (i < MOST_COMPARED) for i, digest in enumerate(digests))
    assert '"Mark"' in text
    assert "Each line is a network" in text_of(lines)


@pytest.mark.parametrize("chosen", [None, [], "x", 7, ["nothing"], [None, {}, 3, ""], [[]]])
def test_without_networks_it_asks_for_some(page: Compare, shell: Shell, chosen: Any) -> None:
    tables, _ = page.compared(chosen, "light", key_of(shell.live.store.study("full")))
    assert "Choose two networks" in text_of(tables)


def test_few_trials_are_compared_as_far_as_they_go(page: Compare, shell: Shell) -> None:
    assert "nothing can be said" in text_of(page.whole(key_of(shell.live.store.study("one")), "light"))
    assert "no study" in text_of(page.whole("gone@1.0", None))
    assert "no scored network yet" in text_of(shell.page("/study/empty/compare"))
    one = shell.live.study("one")
    tables, lines = page.compared([one.members[0].digest], "light", key_of(one.study.record))
    assert one.members[0].digest in text_of(tables)
    assert "Each line" in text_of(lines)


def test_the_front_and_a_network_lead_here(shell: Shell, reading: Reading) -> None:
    digest = reading.members[2].digest
    link = address("compare", "full", **{"with": [digest, reading.members[0].digest]})  # type: ignore[arg-type]
    assert link in text_of(shell.page(f"/study/full/network/{digest}"))
