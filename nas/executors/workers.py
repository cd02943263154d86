"""Workers: how many processes score candidates, and where; the options of a command are made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

from foundation.errors import SettingError
from foundation.settings import Settings, describe, setting
from foundation.text import count
from foundation.wording import argument
from nas.executors.base import Executor, Say, Scorer
from nas.executors.local import InProcess
from search_spaces.scenario import MOST_THREADS

WORKERS = "Workers"
"""The heading of these settings."""

MAX = MOST_WORKERS = 10**4
"""As many workers as there is room for; `max` on a command line."""

LOCAL = "local"
"""Instead of an address: a Ray of one's own."""

MOST_SECONDS = 1e7
"""Some months: longer than anybody waits for a candidate."""

OF_ACTORS = ("candidates_per_message", "threads", "gpu_share")
"""Settings that mean nothing where candidates are scored in this process."""


@dataclass(frozen=True)
class Workers(Settings):
    """Where candidates are scored: in this process (`count=0`), or by Ray actors here or at `address`.

    With an `address`, and with `count=MAX`, there are as many actors as there is room for.
    """

    count: int = setting(
        0,
        help="Ray actors (processes) that score candidates: a number, or max for as many as there is room for"
        " (also with --ray alone). 0: none, in this process.",
        least=0,
        most=MOST_WORKERS,
        option="workers",
        short="w",
        metavar="N|max",
        group=WORKERS,
        named={"max": MAX},
    )
    _: KW_ONLY
    address: str | None = setting(
        None,
        help="Ray cluster to join, HOST:PORT of its head or auto; local, or none: Ray starts here, on"
        " loopback.",
        option="ray",
        metavar="ADDRESS|auto|local",
        group=WORKERS,
    )
    candidates_per_message: int = setting(
        1, help="Candidates per message to a Ray actor.", least=1, most=10**6, group=WORKERS
    )
    threads: int = setting(
        1,
        help="CPU threads of each Ray actor.",
        least=1,
        most=MOST_THREADS,
        option="worker-threads",
        group=WORKERS,
    )
    gpu_share: float = setting(
        0.0,
        help="GPUs that each Ray actor holds: a share of one, or whole ones.",
        least=0,
        most=64,
        group=WORKERS,
    )
    timeout: float | None = setting(
        None,
        help="Time after which a candidate fails; only Ray actors can be stopped, so it needs workers.",
        above=0,
        most=MOST_SECONDS,
        unit="s",
        shown="unlimited",
        group=WORKERS,
    )

    def __post_init__(self) -> None:
        """Check the settings one by one, and with each other."""
        super().__post_init__()
        if self.gpu_share > 1 and self.gpu_share % 1:
            raise SettingError(
                f"{argument('gpu_share', self.gpu_share)}: give a share of one GPU, or a whole number"
            )
        if not self.on_ray:
            for described in describe(type(self)):
                if described.name in OF_ACTORS and getattr(self, described.name) != described.default:
                    given = argument(described.name, getattr(self, described.name), option=described.option)
                    raise SettingError(f"{given} needs {argument('workers')}: it is about Ray actors")
        if self.timeout is not None and not self.on_ray:
            raise SettingError(
                f"{argument('timeout', self.timeout)} needs {argument('workers')}: a candidate that is scored"
                " in this process cannot be stopped"
            )

    @classmethod
    def of(cls, given: int | str | Workers) -> Workers:
        """The workers that a function was given, of whom their number, or "max", is enough.

        Raises:
            SettingError: it is no number, or out of range.
        """
        if isinstance(given, Workers):
            return given
        if isinstance(given, str) and given != "max":  # numbers as texts are for the command line
            raise SettingError(f"workers: count must be a whole number or max, got {given!r}")
        try:
            return cls.from_plain({"count": given})
        except SettingError as error:
            raise SettingError(f"workers: {error}") from None

    @property
    def on_ray(self) -> bool:
        """Whether candidates are scored by Ray actors, not in this process."""
        return self.count > 0 or self.address is not None

    @property
    def wanted(self) -> int | None:
        """How many Ray actors there are to be; None for as many as there is room for."""
        return None if self.count in (0, MAX) else self.count

    @property
    def joins(self) -> str | None:
        """The address of the cluster to join, if there is one."""
        return None if self.address == LOCAL else self.address

    def check(self, on: str | None = None, say: Say = lambda line: None) -> None:
        """Raise `SettingError` at once where there is no room, no cluster, or not the device that is named.

        `say` hears which cluster is joined, and how many actors there are where no number was asked for.
        """
        fitting = 0
        if self.on_ray:
            from nas.executors.room import require_room

            fitting = require_room(self.wanted, self.threads, self.gpu_share, self.joins)
        if on is not None:
            from nas.executors.ray_devices import require_device

            require_device(on, self.joins)
        if self.joins is not None or on is not None:
            from nas.executors.cluster import joined

            say(joined())
        if self.on_ray and self.wanted is None:
            say(self._told(fitting))
        if self.on_ray and self.joins is not None:
            from nas.executors.ray_check import require_importable

            require_importable(self.threads, self.gpu_share)

    def _told(self, fitting: int) -> str:
        """One line: how many actors there are, and with what each."""
        each = f"{count(self.threads, 'CPU')}{f' and {self.gpu_share:g} GPUs' * (self.gpu_share > 0)}"
        return (
            f"{count(fitting, 'Ray actor')} of {each} each: as many as fit ({argument('workers')} for fewer)"
        )

    def executor(self, scorers: Mapping[str, Scorer], say: Say = lambda line: None) -> Executor:
        """An executor that holds these scorers; `say` hears what happens to its workers."""
        if not self.on_ray:
            return InProcess(scorers)
        from nas.executors.ray import RayPool  # Ray takes seconds to import, and most laptops do without

        return RayPool(
            scorers,
            workers=self.wanted,
            address=self.joins,
            batch=self.candidates_per_message,
            threads=self.threads,
            gpus=self.gpu_share,
            timeout=self.timeout,
            say=say,
        )
