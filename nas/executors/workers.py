"""Workers: how many processes score candidates, and where; the options of a command are made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

from foundation.settings import Settings, setting
from nas.executors.base import Executor, Scorer
from nas.executors.local import InProcess
from search_spaces.scenario import MOST_THREADS

WORKERS = "Workers"
"""The heading of these settings."""


@dataclass(frozen=True)
class Workers(Settings):
    """Where candidates are scored: in this process (`count=0`), or by Ray actors here or at `address`."""

    count: int = setting(
        0,
        help="Ray actors that score candidates; 0: in this process.",
        least=0,
        most=10**4,
        option="workers",
        short="w",
        group=WORKERS,
    )
    _: KW_ONLY
    address: str | None = setting(
        None,
        help="Address of a Ray cluster; without one, Ray starts here.",
        option="ray",
        metavar="ADDRESS",
        group=WORKERS,
    )
    batch_items: int = setting(
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
    gpus: float = setting(
        0.0, help="Share of a GPU that each Ray actor holds.", least=0, most=64, group=WORKERS
    )
    item_seconds: float | None = setting(
        None,
        help="Time after which a candidate fails on a Ray actor.",
        above=0,
        most=1e7,
        unit="s",
        shown="unlimited",
        group=WORKERS,
    )

    def check(self, on: str | None = None) -> None:
        """Raise `SettingError` at once where a cluster does not answer, or lacks the device that is named."""
        if self.address:
            from nas.executors.cluster import connect

            connect(self.address, self.count)
        if on is not None:
            from nas.executors.ray_devices import require_device

            require_device(on, self.address)

    def executor(self, scorers: Mapping[str, Scorer]) -> Executor:
        """An executor that holds these scorers."""
        if not self.count and not self.address:
            return InProcess(scorers)
        from nas.executors.ray import RayPool  # Ray takes seconds to import, and most laptops do without

        return RayPool(
            scorers,
            workers=self.count or 1,
            address=self.address,
            batch=self.batch_items,
            threads=self.threads,
            gpus=self.gpus,
            item_seconds=self.item_seconds,
        )
