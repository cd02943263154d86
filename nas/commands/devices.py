"""The command that lists devices, their cards, and the devices of a cluster: devices."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundation.errors import SettingError
from foundation.settings import Settings, setting
from nas.commands.groups import MACHINES
from nas.commands.options import PATH, Json, RayAddress
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_json, print_line
from search_spaces.scenario import MOST_THREADS

if TYPE_CHECKING:
    from nas.executors.ray_devices import Device


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=MACHINES)(devices)


@dataclass(frozen=True, kw_only=True)
class Probing(Settings):
    """How a device is probed."""

    threads: int = setting(1, help="CPU threads of the probe.", least=1, most=MOST_THREADS)


@with_settings(Probing)
def devices(
    *,
    settings: Given,
    measure_peaks: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="Measure the peaks of a device here, e.g. cpu or cuda:0."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the probed card to this file.", **PATH)
    ] = None,
    ray: RayAddress = None,
    as_json: Json = False,
) -> None:
    """List the devices of this machine, and the device cards that latency can be estimated from.

    For each device also which form of each numerical primitive runs there, and why: our kernel or plain
    PyTorch. NAS_KERNELS=plain in the environment switches our kernels off.
    With --ray also the devices of a cluster: its nodes with a resource 'device:NAME'.
    """
    from hw_profiles.roofline.cards import cards, devices_here

    if measure_peaks is not None:
        _print_probe(measure_peaks, Probing(**settings), output, as_json)
        return
    if output is not None:
        raise SettingError("--output is where the card of --measure-peaks DEVICE goes: say which device")
    here = [
        {**device, "energy": _energy(device["device"]), "forms": _forms(device["device"])}
        for device in devices_here()
    ]
    cluster = _devices_of(ray)
    if as_json:
        plain = {"here": here, "cards": [card.to_plain() for card in cards.values()]}
        if cluster is not None:
            plain["cluster"] = [asdict(device) for device in cluster]
        print_json(plain)
        return
    _print_devices(here, cluster, ray)


def _print_devices(here: list[dict[str, Any]], cluster: list[Device] | None, ray: str | None) -> None:
    """The devices of this machine and of a cluster, and all device cards, line by line."""
    from hw_profiles.roofline.cards import cards

    print_line("this machine:")
    for device in here:
        print_line("  " + _device_line(device))
        for line in _form_lines(device["forms"]):
            print_line("    " + line)
    if cluster is not None:
        print_line(f"devices of the Ray cluster at {ray} (--time-on DEVICE of nas profile and nas search):")
        for offered in cluster:
            print_line(f"  {offered}")
    print_line("device cards, for estimates (nas search --roofline CARD):")
    for card in cards.values():
        print_line(f"  {card}")


def _print_probe(device: str, how: Probing, output: Path | None, as_json: bool) -> None:
    """Measure the card of a device, print it, and write it to a file where one is given."""
    from hw_profiles.roofline.probe import probe

    card = probe(device, threads=how.threads)
    if output is not None:
        card.save(output)
    if as_json:
        print_json(card.to_plain())
    else:
        print_line(str(card))


def _devices_of(ray: str | None) -> list[Device] | None:
    """The devices of the cluster at an address, where one is given."""
    if ray is None:
        return None
    from nas.executors.ray_devices import devices as devices_of

    return list(devices_of(ray).values())


def _energy(device: str) -> str | None:
    from hw_profiles.energy_counters import counter_of

    counter = counter_of(device)
    return None if counter is None else counter.name


def _forms(device: str) -> list[dict[str, Any]]:
    """Which form of each primitive runs on a device, and why."""
    from search_spaces.ops import dispatch, fused

    return [asdict(form) for form in (*dispatch.forms(device), *fused.described(device))]


def _form_lines(forms: list[dict[str, Any]]) -> list[str]:
    """The primitives by what is said of them: those that run by our kernels, then the others by reason."""
    by_reason: dict[str, list[str]] = {}
    for form in sorted(forms, key=lambda form: not form["kernel"]):
        said = "our kernels" if form["kernel"] else f"plain PyTorch, since {form['reason']}"
        by_reason.setdefault(said, []).append(form["primitive"])
    return [f"{said}: {'; '.join(primitives)}" for said, primitives in by_reason.items()]


def _device_line(device: dict[str, Any]) -> str:
    size = f", {device['memory_bytes'] / 1e9:.0f} GB" if device["memory_bytes"] else ""
    cores = f", {device['cores']} cores" if "cores" in device else ""
    card = (
        f"card {device['card']}"
        if device["card"]
        else f"no card: nas devices --measure-peaks {device['device']}"
    )
    energy = device["energy"] or "not counted"
    return f"{device['device']}: {device['name']}{cores}{size}; {card}; energy: {energy}"
