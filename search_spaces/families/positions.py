"""Rotary positions in configurations: the base of the angles, and how positions are stretched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foundation.errors import SettingError
from foundation.text import shown
from search_spaces.blocks.rotary_scaling import LinearScaling, Llama3Scaling, RotaryScaling, YarnScaling
from search_spaces.families.config import REQUIRED, Config
from search_spaces.families.keys import Key, Same

STRETCHED: Mapping[str, tuple[type[RotaryScaling], Mapping[str, tuple[str, Any]]]] = {
    "linear": (LinearScaling, {"factor": ("factor", REQUIRED)}),
    "llama3": (
        Llama3Scaling,
        {
            "factor": ("factor", REQUIRED),
            "low_freq_factor": ("slow", REQUIRED),
            "high_freq_factor": ("quick", REQUIRED),
            "original_max_position_embeddings": ("length", REQUIRED),
        },
    ),
    "yarn": (
        YarnScaling,
        {
            "factor": ("factor", REQUIRED),
            "beta_slow": ("slow", 1),
            "beta_fast": ("quick", 32),
            "original_max_position_embeddings": ("length", REQUIRED),
            "attention_factor": ("enlarged", None),
            "truncate": ("whole_pairs", True),
        },
    ),
}
"""By the name of the rule: our value, and its fields by their keys, with defaults."""

FOREIGN = ("mscale", "mscale_all_dim")
"""What DeepSeek's form of YaRN has, and ours lacks."""


@dataclass(frozen=True)
class Stretched(Key):
    """How positions are stretched beyond the learned length, if they are."""

    key: str = "rope_parameters"
    field: str = "rotary_scaling"

    def read(self, config: Config) -> dict[str, Any]:
        """The rule with its values."""
        name = config.get(f"{self.key}.rope_type", "default")
        if name == "default":
            return {self.field: None}
        if not isinstance(name, str) or name not in STRETCHED:
            raise config.wrong(f"{self.key}.rope_type", name, f"default, {', '.join(STRETCHED)}")
        kind, names = STRETCHED[name]
        for foreign in FOREIGN:
            if config.get(f"{self.key}.{foreign}", None):
                raise config.wrong(f"{self.key}.{foreign}", config.get(f"{self.key}.{foreign}"), "absent")
        values = {ours: config.get(f"{self.key}.{theirs}", usual) for theirs, (ours, usual) in names.items()}
        return {self.field: kind(**values)}

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The rule with its values; what has its default is left out."""
        scaling = fields[self.field]
        if scaling is None:
            return {f"{self.key}.rope_type": "default"}
        for name, (kind, names) in STRETCHED.items():
            if type(scaling) is kind:
                given = {theirs: getattr(scaling, ours) for theirs, (ours, _) in names.items()}
                kept = {theirs: v for theirs, v in given.items() if v != names[theirs][1]}
                return {f"{self.key}.{theirs}": v for theirs, v in {"rope_type": name, **kept}.items()}
        raise SettingError(f"{self.field} is {shown(scaling)}, which no class of transformers knows")


def positions(key: str = "rope_parameters") -> tuple[Key, ...]:
    """The keys of rotary positions, inside this one."""
    return (Same(f"{key}.rope_theta", "rotary_base"), Stretched(key))
