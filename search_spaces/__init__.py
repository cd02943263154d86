"""What can be built: the language for spaces, the blocks, the model, the supernet.

Nothing here knows about searching, scoring or timing. See `search_spaces.choices` for the language,
`search_spaces.blocks.base` for the contract of a block, `search_spaces.supernet` for shared weights.
"""

from search_spaces.bits import Bits
from search_spaces.choices import OneOf, one_of, repeat
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import (
    DataError,
    EvaluationFailed,
    IllegalArchitecture,
    NasError,
    ProfileError,
    SettingError,
    SpaceError,
    StoreError,
    UnknownName,
)
from search_spaces.genotype import Genotype
from search_spaces.model import Model, build
from search_spaces.scenario import Scenario
from search_spaces.space import Space, close, draw
from search_spaces.supernet import Supernet

__all__ = [
    "Bits",
    "DataError",
    "Decoder",
    "EvaluationFailed",
    "Genotype",
    "IllegalArchitecture",
    "Layer",
    "Model",
    "NasError",
    "OneOf",
    "ProfileError",
    "Scenario",
    "SettingError",
    "Space",
    "SpaceError",
    "StoreError",
    "Supernet",
    "UnknownName",
    "build",
    "close",
    "draw",
    "one_of",
    "repeat",
]
