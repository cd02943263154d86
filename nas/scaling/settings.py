"""How a network is scaled up a family: the options of `nas scale`."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import SettingError
from foundation.settings import MANY, Settings, setting
from foundation.wording import argument


@dataclass(frozen=True, kw_only=True)
class ScalingSettings(Settings):
    """The family's costs, and how its members are trained."""

    factors: tuple[float, ...] = setting(
        (2.0, 4.0, 8.0),
        help="How many times the cost of the network each member has.",
        above=1,
        most=1024,
        metavar="FACTOR,...",
    )
    by: str = setting(
        "prefill_flops", help="What costs: an objective that is known before training; `nas objectives`."
    )
    train_steps: int | None = setting(
        None,
        help="Training steps of each member.",
        least=1,
        most=MANY,
        shown="those of the study's finalists",
    )
    grid_steps: int | None = setting(
        None,
        help="Training steps of each network of the grid that the law is chosen from.",
        least=1,
        most=MANY,
        shown="a third of the members'",
    )
    parts: int = setting(
        3, help="Equal parts that the grid shares among depth, width and state.", least=1, most=8
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.factors or list(self.factors) != sorted(set(self.factors)):
            raise SettingError(f"{argument('factors')} grow, such as 2,4,8: got {self.factors}")
