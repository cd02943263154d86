"""Commands that launch and describe a Ray cluster: `nas cluster up`, `join`, `check`, `down`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundation.errors import EvaluationFailed, SettingError
from foundation.settings import Settings, setting
from foundation.text import count
from nas.commands.groups import MACHINES
from nas.commands.options import Json
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_json, print_line
from nas.executors.node_settings import LOOPBACK, NodeSettings
from nas.executors.workers import LOCAL, Workers

if TYPE_CHECKING:
    from nas.executors.node_records import Node
    from nas.executors.ray_check import Report

commands = typer.Typer(
    help="Launch a Ray cluster, describe it, and end it: searches run on it with --ray.", no_args_is_help=True
)


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(commands, name="cluster", rich_help_panel=MACHINES)


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """Where a head listens."""

    listen: str = setting(
        LOOPBACK,
        help="Address of this machine at which the head listens, as other machines reach it; by default none"
        " can.",
        metavar="ADDRESS",
    )
    port: int = setting(6379, help="Port of the head.", least=1, most=65535)


@dataclass(frozen=True, kw_only=True)
class Prices(Settings):
    """What the machines cost, in any currency."""

    hours: float = setting(1.0, help="How long the search is to run.", above=0, most=1e5, unit="h")
    cpu_price: float = setting(0.0, help="Price of a CPU for an hour.", least=0, most=1e6)
    gpu_price: float = setting(0.0, help="Price of a GPU for an hour.", least=0, most=1e6)


@commands.command()
@with_settings(HeadSettings)
@with_settings(NodeSettings, into="offered")
def up(*, settings: Given, offered: Given) -> None:
    """Start the head of a cluster on this machine; it goes on after the command.

    It listens on loopback unless an address is given, and wants a token, which is made if there is none.

    Example: nas cluster up --listen 10.0.0.1
    """
    from nas.executors.ray_nodes import start_head
    from nas.executors.ray_token import place

    at = HeadSettings(**settings)
    node = start_head(NodeSettings(**offered), at.listen, at.port)
    print_line(f"a Ray cluster listens at {node.address}")
    if at.listen == LOOPBACK:
        print_line(
            "only this machine reaches it; for others: nas cluster down, nas cluster up --listen ADDRESS"
        )
    else:
        print_line(f"other machines join it: nas cluster join {node.address}")
    print_line(f"who joins or searches shows its token, that of {place()}: copy it to other machines")
    print_line(f"search on it: nas search SPACE --ray {node.address}; end it: nas cluster down")


@commands.command()
@with_settings(NodeSettings)
def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The head.", show_default=False)],
    *,
    settings: Given,
    listen: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address of this machine in the cluster's network, of several."),
    ] = None,
) -> None:
    """Let this machine join a cluster; it stays after the command.

    Example: nas cluster join 10.0.0.1:6379 --device jetson
    """
    from nas.executors.ray_nodes import start_node

    what = NodeSettings(**settings)
    start_node(what, address, listen)
    as_what = f" as the device {', '.join(what.device)}" if what.device else ""
    print_line(f"this machine is part of the Ray cluster at {address}{as_what}; it leaves: nas cluster down")


@commands.command()
def down() -> None:
    """End what `nas cluster up` and `join` started on this machine, and no other Ray."""
    from nas.executors.node_records import running
    from nas.executors.ray_nodes import stop

    nodes = running()
    for node in sorted(nodes, key=lambda node: node.head):
        stop(node)
        print_line(f"ended {_called(node)}")
    if not nodes:
        print_line("nothing runs here that nas cluster started")


@commands.command()
@with_settings(Workers, ["count", "address", "threads", "gpu_share"], into="workers")
@with_settings(Prices)
def check(
    *,
    settings: Given,
    workers: Given,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="FILE.py",
            help="File whose imports every node must have; repeat it for several.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what of a search would run where on a cluster, and what that costs; 1 where a node cannot.

    Example: nas cluster check --ray auto --gpu-share 0.25 --gpu-price 2.5 --hours 8
    """
    from nas.executors.cluster import joined
    from nas.executors.ray_check import reports
    from nas.executors.ray_code import project_code
    from nas.executors.room import require_room
    from nas.study.space_files import load_space

    for file in files or ():
        load_space(file)
    pool = Workers(**{"address": "auto", **workers})
    if pool.address == LOCAL:
        raise SettingError("--ray local is a Ray of one's own, which is no cluster: name one, or auto")
    actors = require_room(pool.wanted, pool.threads, pool.gpu_share, pool.joins)
    found = reports(list(project_code()))
    costs = _costs(actors, pool, Prices(**settings))
    if as_json:
        rows = [_plain(report, pool) for report in found]
        print_json({"cluster": joined(), "nodes": rows, "actors": actors, **costs})
    else:
        print_line(joined())
        for report in found:
            print_line(f"  {_line(report, pool)}")
        _print_plan(actors, pool, costs)
    if wrong := [report for report in found if report.problem]:
        names = ", ".join(report.host for report in wrong)
        raise EvaluationFailed(f"{count(len(wrong), 'node')} cannot run workers: {names}")


def _print_plan(actors: int, pool: Workers, costs: dict[str, float]) -> None:
    """What would run where, and what it costs."""
    each = f"{count(pool.threads, 'CPU')}{f' and {pool.gpu_share:g} GPUs' * (pool.gpu_share > 0)}"
    print_line(f"{count(actors, 'Ray actor')} of {each} each would score candidates on these nodes")
    print_line("here run the search, its store, the training of a supernet, and timing without --time-on")
    amount = f"{costs['cpu_hours']:g} CPU-hours and {costs['gpu_hours']:g} GPU-hours"
    price = f", which cost {costs['price']:,.2f}" if costs["price"] else ""
    print_line(f"in {costs['hours']:g} h they hold {amount}{price}")


def _costs(actors: int, pool: Workers, prices: Prices) -> dict[str, float]:
    cpu_hours, gpu_hours = (prices.hours * actors * held for held in (pool.threads, pool.gpu_share))
    price = cpu_hours * prices.cpu_price + gpu_hours * prices.gpu_price
    return {"hours": prices.hours, "cpu_hours": cpu_hours, "gpu_hours": gpu_hours, "price": price}


def _line(report: Report, pool: Workers) -> str:
    amounts = [
        f"{report.free.get(kind, 0.0):g} of {report.offered.get(kind, 0.0):g} {kind}s free"
        for kind in ("CPU", "GPU")
    ]
    fits = count(report.actors(pool.threads, pool.gpu_share), "actor")
    parts = [*amounts, f"{report.offered.get('memory', 0.0) / 1e9:.0f} GB", f"room for {fits}"]
    parts += [f"device {name}" for name in report.devices]
    parts += [f"{name} {report.software[name]}" for name in ("python", "torch") if name in report.software]
    return f"{report.host}: {', '.join(parts)}{f'; {report.problem}' * bool(report.problem)}"


def _plain(report: Report, pool: Workers) -> dict[str, Any]:
    return {
        "host": report.host,
        "offered": {kind: report.offered.get(kind, 0.0) for kind in ("CPU", "GPU", "memory")},
        "free": {kind: report.free.get(kind, 0.0) for kind in ("CPU", "GPU", "memory")},
        "actors": report.actors(pool.threads, pool.gpu_share),
        "devices": report.devices,
        "software": dict(report.software),
        "problem": report.problem,
    }


def _called(node: Node) -> str:
    return (
        f"the head at {node.address}"
        if node.head
        else f"this machine's part in the cluster at {node.address}"
    )
