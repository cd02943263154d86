"""The mechanics of layouts: sizes, sums and reordering by letters, and what is refused."""

from __future__ import annotations

import pytest
import torch

from foundation.errors import SpaceError
from search_spaces.parameter_axes import Layout


def test_sums_count_every_value_once() -> None:
    layout = Layout({"up": "E F D", "wo": "D GH V", "wk": "G V D"}, "EF", {"F": "E"})
    up, wo = torch.rand(3, 4, 5), torch.rand(5, 6, 2)
    sizes = layout.sizes({"up": (3, 4, 5), "wo": (5, 6, 2), "wk": (2, 2, 5)})
    assert sizes == {"E": 3, "F": 4, "D": 5, "G": 2, "H": 3, "V": 2}
    torch.testing.assert_close(layout.sums("up", up, "F", sizes), up.sum(2))
    torch.testing.assert_close(layout.sums("up", up, "E", sizes), up.sum((1, 2)))
    torch.testing.assert_close(layout.sums("wo", wo, "G", sizes), wo.view(5, 2, 3, 2).sum((0, 2, 3)))
    assert "H" not in layout.sizes({"wo": (5, 5, 2), "wk": (2, 2, 5)})


def test_reordering_moves_every_axis_of_a_letter() -> None:
    layout = Layout({"square": "F F", "groups": "GH D", "by_group": "G D"}, "FGH", {"H": "G"})
    sizes = layout.sizes({"square": (3, 3), "groups": (4, 1), "by_group": (2, 1)})
    square, order = torch.rand(3, 3), torch.tensor([2, 0, 1])
    assert torch.equal(layout.reorder("square", square, "F", order, sizes), square[order][:, order])
    groups = torch.arange(4.0)[:, None]
    swapped_groups = layout.reorder("groups", groups, "G", torch.tensor([1, 0]), sizes)
    assert swapped_groups[:, 0].tolist() == [2, 3, 0, 1]
    within = torch.tensor([[1, 0], [0, 1]])
    assert layout.reorder("groups", groups, "H", within, sizes)[:, 0].tolist() == [1, 0, 2, 3]


def test_letters_with_an_order_are_not_sortable() -> None:
    layout = Layout({"up": "F D", "down": "D F"}, "DF")
    assert layout.with_order("F") == Layout(layout.axes, "D")
    assert layout.with_order("F").parameters_with("F") == ["up", "down"]


def test_wrong_layouts_are_refused() -> None:
    with pytest.raises(SpaceError, match="no axis is called Q"):
        Layout({"up": "F D"}, "Q")
    with pytest.raises(SpaceError, match="got 'FGH'"):
        Layout({"up": "FGH D"}, "D")
    layout = Layout({"up": "F D", "down": "D F"}, "F")
    with pytest.raises(SpaceError, match="down: axis D has 4 entries here and 5 elsewhere"):
        layout.sizes({"up": (3, 5), "down": (4, 3)})
    with pytest.raises(SpaceError, match="layout of up is F D"):
        layout.sizes({"up": (3, 5, 1)})
    with pytest.raises(SpaceError, match="layout of bias is missing"):
        layout.sizes({"bias": (3,)})
