"""Space files: what a user's own Python may do, and how its faults are told."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.campaign import Case, ran
from tests.forks import Ended

HEAD = """from search_spaces import Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
layer = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU())
"""
SMALL = "space = Decoder(vocab=32, d_model=one_of(16, 32), layers=repeat(layer, depths=(1, 2)))\n"
SEARCH = "--name a -o params -o weight_bytes --trials 3 --finalists 0"
LINE = HEAD.count("\n") + 1

OWN = """from dataclasses import dataclass
from typing import ClassVar
from search_spaces.blocks.attention import Attention
@dataclass(frozen=True, kw_only=True)
class Mine(Attention):
    note: int = 0
    def check(self, d_model):
        {check}
"""


def failing(what: str, text: str | bytes, says: str, *, name: str = "", **more: object) -> list[Case]:
    """A file that is refused by every command that reads one."""
    return [
        Case(f"a space file {what}: {command.split()[0]}", command, says=says, files={"s.py": text}, **more)  # type: ignore[arg-type]
        for command in (f"search s.py{name} {SEARCH}", f"spaces s.py{name}")
    ]


def _in_own_folder(folder: Path, ended: Ended) -> None:
    assert (folder / "studies" / "studies.db").is_file(), "the study lies where the command was given"


def _prints_apart(folder: Path, ended: Ended) -> None:
    assert "hello" not in ended.stdout, "what a file prints is not mixed with what a command prints"


BROKEN: list[Case] = [
    case
    for cases in (
        failing("that calls sys.exit", "import sys\nsys.exit()", r"s\.py:2: .*sys\.exit"),
        failing("that calls sys.exit(0)", "import sys\nsys.exit(0)", r"s\.py:2: .*sys\.exit"),
        failing("that calls quit", "x = 1\n\nquit()", r"s\.py:3: .*sys\.exit"),
        failing("that is interrupted", "\nraise KeyboardInterrupt", r"s\.py:2: KeyboardInterrupt"),
        failing("with a wrong line", HEAD + "space = = 1", rf"s\.py:{LINE}: SyntaxError: invalid syntax$"),
        failing("with tabs and spaces", "if 1:\n\tx = 1\n        y = 2\n", r"s\.py:3: TabError"),
        failing("that is indented", "  x = 1", r"s\.py:1: IndentationError"),
        failing("of another encoding", "x = 'ä'\n".encode("latin-1"), r"s\.py.*SyntaxError.*utf-8"),
        failing("in UTF-16", "x = 1\n".encode("utf-16"), r"s\.py.*SyntaxError"),
        failing("with null bytes", b"x = 1\0\n", r"s\.py.*null bytes"),
        failing("that recurses for ever", "def f():\n    return f()\nf()\n", r"s\.py:2: RecursionError"),
        failing("that wants what is not there", "import numpyy\n", r"s\.py:1: ModuleNotFoundError.*numpyy"),
        failing("that raises on two lines", "raise ValueError('a\\nb')", r"s\.py:1: ValueError: a b"),
        failing("that raises a novel", "raise ValueError('a' * 10**6)", r"s\.py:1: ValueError: a{400}"),
        failing("that raises nothing to say", "raise ValueError", r"s\.py:1: ValueError$"),
        failing(
            "that raises what is no Exception", "\nraise BaseException('own')", r"s\.py:2: BaseException: own"
        ),
        failing("that raises GeneratorExit", "raise GeneratorExit", r"s\.py:1: GeneratorExit$"),
        failing(
            "whose error has no text",
            "class E(Exception):\n    def __str__(self):\n        return 1 / 0\nraise E",
            r"s\.py:4: E: \(its text raises ZeroDivisionError\)",
        ),
        failing(
            "that calls nas on itself",
            HEAD + SMALL + "from nas.study.space_files import load_space\nload_space(__file__)\n",
            r"s\.py:\d+: .*s\.py reads itself: put what calls nas under `if __name__ ==",
        ),
        failing("that asserts", "assert 1 == 2", r"s\.py:1: AssertionError$"),
        failing("that is empty", "", r"s\.py defines no Space: write space = Space"),
        failing("of comments", "# nothing\n", r"defines no Space"),
        failing("with a list as space", "space = []", r"s\.py:space is a list, not a Space"),
        failing("with None as space", "space = None", r"s\.py:space is a NoneType, not a Space"),
        failing("with a number as space", "space = 3", r"s\.py:space is an int, not a Space"),
        failing(
            "with a class as space", HEAD + "space = Decoder", r"space is the class Decoder: write Decoder\("
        ),
        failing("with a module as space", "import json as space", r"space is a module, not a Space"),
        failing("whose function raises", "def space():\n    return 1 / 0", r"s\.py:2: ZeroDivisionError"),
        failing("whose function exits", "import sys\ndef space():\n    sys.exit()", r"s\.py:3: .*sys\.exit"),
        failing(
            "whose function wants arguments",
            "def space(width, *, depth):\n    pass",
            "space needs width, depth",
        ),
        failing("whose function makes nothing", "def space():\n    pass", "space is a NoneType"),
        failing(
            "whose function makes a class",
            HEAD + "def space():\n    return Space",
            "space is a type, not a Space",
        ),
        failing("whose function is a coroutine", "async def space():\n    return 1", "space is a coroutine"),
        failing(
            "with two spaces",
            f"{HEAD}{SMALL}a = Space(space)\nb = Space(space)\ndel space\n",
            "name one, as s.py:a",
        ),
        failing("without the name", HEAD + SMALL, "s.py has no 'spaec'; did you mean 'space'", name=":spaec"),
        failing(
            "that asks of nothing", HEAD + "one_of()", rf"s\.py:{LINE}: one_of\(\) needs at least one option"
        ),
        failing("that asks twice", HEAD + "one_of(1, 1)", rf"s\.py:{LINE}: options 0 and 1"),
        failing(
            "that asks in a question", HEAD + "one_of(1, one_of(2, 3))", rf"s\.py:{LINE}: one_of directly"
        ),
        failing(
            "with a negative depth", HEAD + "repeat(layer, depths=(-1, 2))", rf"s\.py:{LINE}: repeat: .*-1"
        ),
        failing("with half a depth", HEAD + "repeat(layer, depths=(1.5,))", rf"s\.py:{LINE}: repeat: .*1\.5"),
        failing(
            "with one depth twice", HEAD + "repeat(layer, depths=(2, 2))", rf"s\.py:{LINE}: options 0 and 1"
        ),
        failing("without depths", HEAD + "repeat(layer, depths=())", rf"s\.py:{LINE}: repeat: .*depth"),
        failing(
            "with a depth that is no sequence",
            HEAD + "repeat(layer, depths=4)",
            rf"s\.py:{LINE}: repeat: .*4",
        ),
        failing(
            "of lists",
            HEAD + "Space(Decoder(d_model=8, layers=[layer]))",
            rf"s\.py:{LINE}: at layers: a list",
        ),
        failing(
            "of a class of a block", HEAD + "Space(Layer(sequence_mixer=Attention))", r"write Attention\(\)"
        ),
        failing("with a wrong field", HEAD + "Attention(heads=3)", rf"s\.py:{LINE}: TypeError: .*heads"),
        failing(
            "with a constraint that is none",
            HEAD + f"{SMALL}Space(space, constraints=[3])",
            "a constraint is a function",
        ),
        failing(
            "whose neighbour is broken",
            "import beside_it",
            r"beside_it\.py:2: ZeroDivisionError",
            prepare=lambda at: (at / "beside_it.py").write_text("\n1 / 0\n"),
            leaves_nothing=False,
        ),
    )
    for case in cases
]

SIZES: list[Case] = [
    case
    for cases in (
        failing(
            "1e7 layers deep",
            HEAD + "repeat(layer, depths=(2, 10**7))",
            rf"s\.py:{LINE}: repeat: .*10,?000,?000",
        ),
        failing(
            "1e12 layers deep", HEAD + "repeat(layer, depths=(10**12,))", rf"s\.py:{LINE}: repeat: .*at most"
        ),
        failing(
            "of a tuple of 1e7 layers",
            HEAD + "space = Decoder(d_model=16, layers=(layer,) * 10**7)",
            "at most",
        ),
        failing(
            "of stacks in stacks",
            HEAD + "p = layer\nfor _ in range(9): p = (p,) * 1000\nspace = Decoder(d_model=16, layers=p)",
            "at most",
        ),
        failing("1e6 wide", HEAD + SMALL.replace("32)", "10**6)", 1), r"s\.py: too large: .* parameters"),
        failing("1e9 wide", HEAD + SMALL.replace("16, 32", "10**9, 1"), r"s\.py: too large: .* parameters"),
        failing("of 1e12 words", HEAD + SMALL.replace("=32", "=10**12"), r"s\.py: too large: .* parameters"),
        failing(
            "of 1e9 heads",
            HEAD
            + SMALL.replace("layer,", "Layer(sequence_mixer=Attention(num_heads=10**9, num_kv_heads=1)),"),
            r"s\.py: too large: .* parameters",
        ),
        failing(
            "of a million options",
            HEAD + "space = Decoder(d_model=one_of(*range(1, 10**6)), layers=(layer,))",
            rf"s\.py:{LINE}: an open value has at most",
        ),
        failing(
            "of many depths of many options",
            HEAD + "many = Layer(sequence_mixer=one_of(*(Attention(num_heads=n) for n in range(1, 99))))\n"
            "space = Decoder(d_model=16, layers=repeat(many, range(1, 1000)))",
            r"s\.py: too large: .* values",
        ),
        failing(
            "of chained questions",
            HEAD + "p = 1\nfor i in range(9999): p = (p, i)\nspace = Decoder(d_model=16, layers=p)",
            "s.py: nested too deep: more than 64 levels|RecursionError",
        ),
        failing(
            "of words for heads", HEAD + "space = Decoder(d_model='16', layers=(layer,))", "d_model must be a"
        ),
        failing(
            "of mixed types for widths",
            HEAD + SMALL.replace("16, 32", "16, '32', None"),
            "d_model must be a whole number",
        ),
    )
    for case in cases
]

UNBUILDABLE = [
    Case(f"a space {what}", f"search s.py {SEARCH}", says=says, files={"s.py": HEAD + text})
    for what, text, says in (
        ("of no width", SMALL.replace("16, 32", "-16, 0"), "d_model must be a positive integer, got"),
        ("of half a width", SMALL.replace("16, 32", "16.5, 0.5"), "d_model must be a whole number"),
        (
            "of words for widths",
            SMALL.replace("16, 32", "'a', 'b'"),
            "d_model must be a whole number",
        ),
        (
            "of no vocabulary",
            SMALL.replace("vocab=32", "vocab=one_of(0, -5)"),
            "vocab must be a positive integer",
        ),
        (
            "of no heads",
            "layer = Layer(sequence_mixer=Attention(num_heads=0, num_kv_heads=0, head_dim=8))\n" + SMALL,
            "layers.0: ",
        ),
        (
            "of heads that do not divide",
            "layer = Layer(sequence_mixer=Attention(num_heads=3, num_kv_heads=2, head_dim=8))\n" + SMALL,
            "layers.0: ",
        ),
        (
            "of mixers in the wrong place",
            "layer = Layer(sequence_mixer=SwiGLU())\n" + SMALL,
            "layers.0: sequence_mixer must be a block that mixes sequence",
        ),
        (
            "whose constraint raises",
            SMALL + "space = Space(space, constraints=[lambda spec: spec.depth < 3])\n",
            rf"s\.py:{LINE + 1}.*AttributeError",
        ),
        (
            "whose constraint says nothing",
            SMALL
            + "def shallow(spec):\n    len(spec.layers) < 3\nspace = Space(space, constraints=[shallow])\n",
            "constraint shallow returned None: return True or False",
        ),
    )
] + [
    Case(
        f"a space of a block whose check {what}",
        f"search s.py {SEARCH}",
        says=says,
        files={
            "s.py": OWN.format(check=check) + HEAD + SMALL.replace("layer,", "Layer(sequence_mixer=Mine()),")
        },
    )
    for what, check, says in (
        ("divides by zero", "d_model % 0", r"Mine\.check \(s\.py:8\): ZeroDivisionError"),
        (
            "raises ValueError",
            "raise ValueError('too narrow')",
            r"Mine\.check \(s\.py:8\): ValueError: too narrow",
        ),
        ("has a mistake", "self.nothing", r"s\.py:8.*AttributeError"),
    )
]

BESIDE = {
    "own/helpers.py": "from deeper import DEPTHS\nWIDTHS = 16, 32\n",
    "own/deeper.py": "DEPTHS = 1, 2\n",
    "own/s.py": HEAD
    + "from helpers import DEPTHS, WIDTHS\n"
    + "def allowed(spec):\n    import late\n    return len(spec.layers) <= late.MOST\n"
    + "tree = Decoder(vocab=32, d_model=one_of(*WIDTHS), layers=repeat(layer, DEPTHS))\n"
    + "space = Space(tree, constraints=[allowed])\n",
    "own/late.py": "MOST = 2\n",
}

CALM = {"code": 0, "lines": 6}
"""A search that goes well says on standard error how it goes."""

FINE = [
    Case(
        "a space file with modules beside it", f"search own/s.py {SEARCH}", **CALM, says="a: ", files=BESIDE
    ),
    Case(
        "a space file with modules beside it, resumed",
        "resume a --trials 4",
        **CALM,
        says="a: ",
        files=BESIDE,
        prepare=lambda at: ran(at, f"search own/s.py {SEARCH}"),
    ),
    Case(
        "a space file in a folder with a colon, resumed by its name",
        "resume a --trials 4",
        **CALM,
        says="a: ",
        files={"C:\\x:y/s.py": HEAD + SMALL},
        prepare=lambda at: ran(at, ["search", "C:\\x:y/s.py:space", *SEARCH.split()]),
    ),
    Case(
        "a space file in a folder that ends in .py",
        ["search", "a.py:b/s.py:space", *SEARCH.split()],
        **CALM,
        says="a: ",
        files={"a.py:b/s.py": HEAD + SMALL},
    ),
    Case(
        "a space file that changes the folder",
        f"search s.py {SEARCH}",
        **CALM,
        files={"s.py": "import os\nos.chdir('/')\n" + HEAD + SMALL},
        check=_in_own_folder,
    ),
    Case(
        "a space file that empties the path",
        f"search s.py {SEARCH}",
        **CALM,
        files={"s.py": HEAD + SMALL + "import sys\nsys.path.clear()\n"},
    ),
    Case(
        "a space file that prints",
        "spaces s.py",
        **CALM,
        says="hello",
        files={"s.py": "print('hello')\n" + HEAD + SMALL},
        check=_prints_apart,
    ),
    Case(
        "a space function that prints",
        "spaces s.py:make",
        **CALM,
        says="hello",
        files={"s.py": HEAD + SMALL + "def make():\n    print('hello')\n    return space\n"},
        check=_prints_apart,
    ),
    Case("a space file with a BOM", "spaces s.py", **CALM, files={"s.py": "\ufeff" + HEAD + SMALL}),
    Case(
        "a space file with its own encoding",
        "spaces s.py",
        **CALM,
        files={"s.py": ("# coding: latin-1\nx = 'ä'\n" + HEAD + SMALL).encode("latin-1")},
    ),
    Case(
        "a space file with the line ends of Windows",
        "spaces s.py",
        **CALM,
        files={"s.py": (HEAD + SMALL).replace("\n", "\r\n")},
    ),
    Case(
        "a space file with a name of another script",
        "spaces räume.py",
        **CALM,
        files={"räume.py": HEAD + SMALL},
    ),
    Case(
        "a space file with a space in its name",
        ["spaces", "my space.py"],
        **CALM,
        files={"my space.py": HEAD + SMALL},
    ),
]

PLACES = [
    *(
        Case(
            f"a space of too few words for text: {command}",
            command,
            says="vocab is 32, and the task language needs at least 256",
            files={"s.py": HEAD + SMALL},
        )
        for command in (
            "search s.py --name a -o bits_per_byte --train-steps 2 --trials 2",
            "search s.py --name a -o bits_per_byte --train-steps 2 --trials 2 --evaluator scratch",
            "supernet train s.py -o out",
        )
    ),
    Case(
        "a space that is a folder",
        "search own.py --name a",
        says=r"own\.py: not a file",
        prepare=lambda at: (at / "own.py").mkdir(),
    ),
    Case(
        "a space that is a pipe",
        "search own.py --name a",
        says=r"own\.py: not a file",
        prepare=lambda at: os.mkfifo(at / "own.py"),
    ),
    Case("a space that is a text", "search own.txt --name a", says="FILE.py", files={"own.txt": "space"}),
    Case(
        "a space that is a folder without .py",
        "search own --name a",
        says="FILE.py",
        prepare=lambda at: (at / "own").mkdir(),
    ),
    Case("a space without a name", ["search", "", "--name", "a"], says="FILE.py"),
    Case("a space of a path that is not there", "search ./here/own --name a", says="FILE.py"),
    Case(
        "a link to nowhere as a space",
        "search own.py --name a",
        says="no such file",
        prepare=lambda at: (at / "own.py").symlink_to("gone.py"),
    ),
]

CASES = BROKEN + SIZES + UNBUILDABLE + FINE + PLACES
