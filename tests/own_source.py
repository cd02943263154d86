"""A space file of a user's own: a block, an objective that is registered in it, and modules beside it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.faults.campaign import ran

SPACE = """from dataclasses import dataclass

import helpers
from lib.choices import WIDTHS
from nas.objectives.base import Objective, objectives
from nas.study.trial import Value
from search_spaces import Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import blocks
from search_spaces.blocks.swiglu import SwiGLU


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Mine(SwiGLU):
    note: int = 0

    def build(self, d_model):
        return helpers.built(super().build(d_model))


objectives.add(
    Objective(name="depth", unit="layers", about="how deep", cheap=helpers.depth, maximise=True)
)
attention = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
layer = Layer(sequence_mixer=attention, channel_mixer=Mine(expansion=1))
space = Space(Decoder(d_model=one_of(*WIDTHS), layers=repeat(layer, depths=(1, 2))), name="own")
"""
FILES = {
    "own/mine.py": SPACE,
    "own/helpers.py": "def built(mixer):\n    return mixer\n\ndef depth(spec, model):\n    import late\n"
    "    return late.value(spec)\n",
    "own/late.py": "from nas.study.trial import Value\n\ndef value(spec):\n"
    "    return Value(float(len(spec.layers)))\n",
    "own/lib/choices.py": "WIDTHS = (8, 16)\n",
    "own/unused.py": "1 / 0\n",
}
SEARCH = "search own/mine.py --name s -o bits_per_byte -o depth --trials 4 --finalists 0 --train-steps 1"
SMALL = "--train-batch 2 --window 8 --validation-windows 2 --scenario prompt=8,new_tokens=4"
BEGIN = f"{SEARCH} {SMALL}"


def write(folder: Path) -> Path:
    """The space file and what lies beside it, in `own` of a folder."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "own" / "mine.py"


def begin(folder: Path) -> Path:
    """A study `s` over the space of `own/mine.py`, searched to its end in this folder."""
    write(folder)
    ran(folder, BEGIN)
    return folder


def moved(folder: Path, origin: Path) -> None:
    """Let the record of a study that was copied from elsewhere say that it began in this folder."""
    with closing(sqlite3.connect(folder / "studies" / "studies.db")) as database:
        ((text,),) = database.execute("SELECT config_json FROM studies")
        told = text.replace(json.dumps(str(origin))[1:-1], json.dumps(str(folder))[1:-1])
        database.execute("UPDATE studies SET config_json = ?", (told,))
        database.commit()
