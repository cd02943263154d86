"""What is compared, each in a process of its own: our pages, a blank page of Dash, optuna-dashboard."""

from __future__ import annotations

import importlib.util
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.dashboards.trials import STUDY, points_of

STARTING = 300
"""Seconds after which a server is given up that does not answer."""


@dataclass(frozen=True)
class Served:
    """A server: where it answers, and its process."""

    address: str
    process: int

    def memory(self) -> dict[str, float]:
        """Megabytes that it holds now, and held at most."""
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        found = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
        return {"now": int(found["VmRSS"]) / 1024, "most": int(found["VmHWM"]) / 1024}


@contextmanager
def serving(app_of: Callable[[Path], Any], store: Path) -> Iterator[Served]:
    """A server of what `app_of` makes of a store; it is ended at the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = get_context("spawn").Process(target=_serve, args=(app_of, store, port), daemon=True)
    process.start()
    try:
        _wait(port)
        assert process.pid is not None
        yield Served(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.join()


def _serve(app_of: Callable[[Path], Any], store: Path, port: int) -> None:
    from werkzeug.serving import run_simple

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    run_simple("127.0.0.1", port, app_of(store), threaded=True)


def _wait(port: int) -> None:
    end = time.monotonic() + STARTING
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def ours(store: Path) -> Any:
    """Our pages over a store."""
    from dashboards.app.server import make_app

    return make_app(store).server


def blank(store: Path) -> Any:
    """A page with one cloud of points, and nothing else: what Dash and the browser take by themselves."""
    from dash import Dash, dcc
    from plotly import graph_objects

    points = points_of(store)
    cloud = graph_objects.Scattergl(
        x=[values[1] for _, values in points], y=[values[0] for _, values in points], mode="markers"
    )
    app = Dash("blank", serve_locally=True)
    app.layout = dcc.Graph(figure=graph_objects.Figure(cloud))
    return app.server


def optuna_dashboard(store: Path) -> Any:
    """The same trials in optuna-dashboard, in memory: it reads no file."""
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna_dashboard import wsgi

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name=STUDY, directions=["minimize"] * 3)
    points = points_of(store)
    labels: dict[str, dict[Any, None]] = {}
    for genes, _ in points:
        for gene, label in genes.items():
            labels.setdefault(gene, {})[label] = None
    known = {gene: CategoricalDistribution(list(options)) for gene, options in labels.items()}
    trials = [
        optuna.trial.create_trial(
            values=list(values), params=genes, distributions={gene: known[gene] for gene in genes}
        )
        for genes, values in points
    ]
    study.add_trials(trials)
    return wsgi(storage)


def has_optuna_dashboard() -> bool:
    """Whether it is installed; nothing of ours needs it."""
    return importlib.util.find_spec("optuna_dashboard") is not None
