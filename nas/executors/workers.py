"""Workers: how many processes score candidates, and where, as a caller of `nas.search` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas.executors.base import Executor, Scorer
from nas.executors.local import InProcess


@dataclass(frozen=True)
class Workers:
    """Where candidates are scored: in this process (`count=0`), or by Ray actors here or at `address`."""

    count: int = 0
    address: str | None = None
    batch: int = 1
    threads: int = 1
    gpus: float = 0.0
    task_seconds: float | None = None

    def check(self, on: str | None = None) -> None:
        """Raise `SettingError` at once where a cluster does not answer, or lacks the device that is named."""
        if self.address:
            from nas.executors.ray import connect

            connect(self.address, self.count)
        if on is not None:
            from nas.executors.devices import require_device

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
            batch=self.batch,
            threads=self.threads,
            gpus=self.gpus,
            task_seconds=self.task_seconds,
        )
