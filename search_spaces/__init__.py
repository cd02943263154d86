"""What can be built: the language for spaces, the blocks, the model, the supernet.

Nothing here knows about searching, scoring or timing. See `search_spaces.language.choices` for the language,
`search_spaces.blocks.base` for the contract of a block, `search_spaces.supernet` for shared weights.
"""

from foundation.errors import (
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
from search_spaces.block_contract import BrokenPromise, block_checks, check_block
from search_spaces.language.choices import OneOf, one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space, close, draw
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

__all__ = [
    "Bits",
    "BrokenPromise",
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
    "block_checks",
    "build",
    "check_block",
    "close",
    "draw",
    "one_of",
    "repeat",
]
