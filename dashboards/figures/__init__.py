"""Figures: pure functions from facts to Plotly figures, one file each.

To add one, put a file here with a function `(facts: Facts) -> Figure` under `@figures.add`. Where a study
lacks the data, the figure says so (`message_figure`).
"""

from collections.abc import Callable

import plotly.graph_objects as go

from dashboards.facts import Facts
from foundation.registry import Registry

figures: Registry[Callable[[Facts], go.Figure]] = Registry("figure", folder="dashboards.figures")
