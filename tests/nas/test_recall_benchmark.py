"""What the benchmark of associative recall makes of its rows."""

from __future__ import annotations

from benchmarks.oneshot import recall

ABLE = {*recall.KNOWN, recall.CHEAP}
Row = recall.Row


def made_rows(own: str, winner: str) -> list[Row]:
    """Truth of two seeds, a supernet that tells networks apart, and one engine's two studies."""
    rows: list[Row] = []
    for name in recall.networks():
        reached = 0.999 if name in ABLE else 0.25
        rows += [
            {"what": "truth", "name": name, "seed": s, "accuracy": reached, "by steps": [(500, reached)]}
            for s in (0, 1)
        ]
    scores = {name: 0.9 if name in ABLE else 0.2 for name in recall.networks()}
    found = {"name": "exact", "seed": 0, "own": [[own, 0.9, "exact"]]}
    return [
        *rows,
        {"what": "supernet", "seed": 0, "name": "", "accuracies": scores},
        {"what": "one", **found, "winner": winner, "accuracy": 0.999},
        {"what": "two", **found, "cheap on the front": True},
    ]


def test_the_space_has_sixteen_networks_with_the_known_ones_among_them() -> None:
    assert len(recall.networks()) == 16
    assert set(recall.networks()) >= ABLE


def test_an_engine_is_told_apart_from_the_random_networks_beside_it() -> None:
    (good,) = recall.of_engines(made_rows(recall.CHEAP, recall.KNOWN[0]))
    assert (good["winner solves"], good["winner is known"], good["its own first solves"]) == (1, 1, "1 of 1")
    assert good["its own have the cheap"] == "1 of 1"
    (lucky,) = recall.of_engines(made_rows("ShortConv ShortConv", recall.KNOWN[0]))
    assert (lucky["winner solves"], lucky["its own first solves"], lucky["its own have the cheap"]) == (
        1,
        "0 of 1",
        "0 of 1",
    )


def test_shared_weights_are_held_against_the_truth() -> None:
    rows = made_rows(recall.CHEAP, recall.KNOWN[0])
    assert set(recall.solvers(rows)) == ABLE
    (told,) = recall.of_supernets(rows)
    assert told["tau"] == 1.0
    assert told["lowest solver"] > told["highest other"]
    assert told["solvers among as many best"] == len(ABLE)
    state = {row["network"]: row["state bytes"] for row in recall.of_networks(rows)}
    assert state["ShortConv ShortConv"] < state[recall.CHEAP] < state["ShortConv Attention"]
    assert recall.CHEAP in recall.true_front(rows)
