"""Contract of the commands: wrong words end in one line and exit code 2, and `--json` prints what parses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import nas
from nas import cli
from nas.store import Store
from nas.study.facts import OUTCOME, add_fact
from nas.study.space_files import load_space
from nas.study.study import Study
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import save_model

SPACE = """
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

layer = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU(expansion=one_of(2, 3)))
space = Space(Decoder(vocab=16, d_model=one_of(8, 16), layers=repeat(layer, (1, 2))), name="small")
"""


def leaves(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of every command that does something, with the command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(leaves(typer.main.get_command(cli.app)))
JSON = [path for path, command in COMMANDS.items() if any("--json" in p.opts for p in command.params)]
NAMING = {
    "spaces": "lapptop",
    "engines": "drats",
    "strategies": "nsga",
    "schedulers": "halvin",
    "objectives": "decode_mss",
    "tasks": "languge",
    "blocks": "Atention",
    "recipes": "trapezoit",
    "targets": "onxx",
    "modifiers": "pruun",
    "drafts": "ngramm",
    "zoo": "jambaa",
    "search": "lapptop",
    "tune-rates": "lapptop",
    "resume": "frist",
    "replay": "frist",
    "cp": "frist new",
    "mv": "frist new",
    "rm": "frist",
    "front": "frist",
    "validate": "frist",
    "best": "frist -o depth",
    "diff": "frist 0 1",
    "lineage": "frist 0",
    "show": "frist 0",
    "scale": "frist 0",
    "export": "frist 0 -o out",
    "serve": "frist 0",
    "supernet train": "lapptop -o out",
    "profile measure": "lapptop",
    "profile export": "tabel -o out.json",
}
"""What is asked of a command that takes a name, with a typing error in the name."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space file and the study `first` of functions, which takes no training."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "small.py").write_text(SPACE)
    nas.search(
        load_space(str(folder / "small.py")),
        name="first",
        objectives=[depth, "weight_bytes"],
        trials=6,
        finalists=0,
        store=folder / "s.db",
    ).store.close()
    return folder


@pytest.fixture(autouse=True)
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("NAS_STORE", str(home / "s.db"))
    monkeypatch.setenv("NAS_TABLES", str(home / "tables"))


def depth(spec: Decoder) -> float:
    return float(len(spec.layers))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The single line that a command prints when it is refused."""
    assert cli.run(words) == cli.REFUSED
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith("nas: ")
    return line


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints that succeeds."""
    code = cli.run(words)
    output = capsys.readouterr()
    assert code == 0, output.err
    return output.out


def parsed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(printed(capsys, *words))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_refused(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*path, "--no-such-option"]) == cli.REFUSED
    output = capsys.readouterr()
    assert not output.out
    assert "--no-such-option" in output.err
    assert "Traceback" not in output.err


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_has_a_help_that_begins_with_a_sentence(path: tuple[str, ...]) -> None:
    first = COMMANDS[path].help.splitlines()[0]
    assert first[0].isupper()
    assert first.rstrip()[-1] in ".:,"


def test_the_time_to_profile_has_one_name_everywhere() -> None:
    names = {
        p.opts[0] for command in COMMANDS.values() for p in command.params if "Time to spend" in str(p.help)
    }
    assert names == {"--profile-seconds"}


@pytest.mark.parametrize("command", NAMING)
def test_a_misspelt_name_ends_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, *command.split(), *NAMING[command].split())
    misspelt = NAMING[command].split()[0]
    assert misspelt in line


def test_words_between_colons_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert "recipe:100:x" in refused(capsys, "search", "laptop", "--objective", "recipe:100:x")


def test_a_folder_of_transformers_is_to_be_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert "`nas import`" in refused(capsys, "generate", str(tmp_path))


def test_every_command_that_takes_a_name_is_asked_for_a_wrong_one() -> None:
    takes = {"study", "space", "name"}
    named = {
        " ".join(path)
        for path, command in COMMANDS.items()
        if any(p.name in takes and p.param_type_name == "argument" for p in command.params)
    }
    assert named - set(NAMING) <= {"report", "compare", "dashboard"}


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("front first --json", {"number", "digest", "values", "genotype", "spec"}),
        ("ls --json", {"name", "state", "error", "complete", "trials", "space", "objectives"}),
        ("profile list --json", set()),
        ("zoo mamba --json", {"name", "family", "params", "spec"}),
        ("lineage first 0 --json", {"number", "digest", "parents"}),
    ],
)
def test_lists_are_printed_as_json(words: str, keys: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = parsed(capsys, *words.split())
    assert isinstance(rows, list)
    assert all(keys <= set(row) for row in rows)
    assert bool(rows) == bool(keys)


def test_one_network_is_printed_as_json_and_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    front = parsed(capsys, "front", "first", "--json")
    row = parsed(capsys, "show", "first", front[0]["digest"], "--json")
    assert row["digest"] == front[0]["digest"]
    assert row["values"]["depth"]["source"] == "function"
    text = printed(capsys, "show", "first", str(row["number"]))
    assert f"nas export first {row['digest']} -o DIR" in text
    assert "weight_bytes" in text


def test_the_best_network_and_two_side_by_side_are_printed_as_json_and_as_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("best", "first", "-o", "depth", "-c", "params>1")
    best = parsed(capsys, *words, "--json")
    assert best["values"]["params"]["value"] > 1
    text = printed(capsys, *words)
    assert best["digest"] in text
    assert "depth" in text.splitlines()[0]
    numbers = parsed(capsys, "diff", "first", "0", best["digest"], "--json")["numbers"]
    assert {"depth", "params"} <= {pair["name"] for pair in numbers}
    text = printed(capsys, "diff", "first", "0", best["digest"])
    assert "significance" in text
    assert "less trial 0; s.e.: standard errors" in text
    head, row = printed(capsys, "lineage", "first", "0").splitlines()[:2]
    assert head.split()[-4:] == ["new", "in", "this", "network"]
    assert "drawn at random" in row


def test_a_list_of_studies_says_their_states(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert printed(capsys, "ls").splitlines()[1].split()[:2] == ["first", "complete"]
    with Store(home / "s.db") as store:
        study = Study(store, store.study("first"))
        before = study.facts[OUTCOME]
        add_fact(study, OUTCOME, {"error": "the disk is full"})
        lines = printed(capsys, "ls").splitlines()
        add_fact(study, OUTCOME, before)
    assert lines[1].split()[:2] == ["first", "failed"]
    assert lines[-1] == "first failed: the disk is full"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version").startswith("nas 0.")


def test_devices_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    plain = parsed(capsys, "devices", "--json")
    assert set(plain) == {"here", "cards"}
    assert plain["here"][0]["device"] == "cpu"


def test_every_json_option_is_tested_here_or_with_its_own_command() -> None:
    here = {("front",), ("show",), ("ls",), ("devices",), ("zoo",), ("profile", "list")}
    here |= {("best",), ("diff",), ("lineage",)}
    assert set(JSON) - here <= {
        ("supernet", "info"),
        ("profile", "diff"),
        ("compare",),
        ("cluster", "check"),
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("search small.py --workers -1", "--workers must be at least 0, got -1"),
        ("search small.py --candidates-per-message 0", "--candidates-per-message must be at least 1, got 0"),
        ("search small.py --worker-threads none", "--worker-threads must be a whole number, got 'none'"),
        ("search small.py --gpu-share -0.5", "--gpu-share must be at least 0, got -0.5"),
        ("search small.py --timeout 0", "--timeout must be positive, got 0"),
        ("search small.py --trials many", "--trials must be a whole number, got 'many'"),
        (
            "search small.py --engine random --strategy auto -o params -o weight_bytes",
            "--strategy auto counts for nothing: engine random proposes by itself: leave it out",
        ),
        (
            "search small.py --seeds-first 3 -o params -o weight_bytes",
            "--seeds-first 3 counts for nothing: there are no candidates to begin with: add --seed-from",
        ),
        ("resume first --profile-seconds soon", "--profile-seconds must be a number, got 'soon'"),
        ("resume first --workers two", "--workers must be a whole number or max, got 'two'"),
        ("validate first --scratch-networks 2", "--scratch-networks must be at least 3, got 2"),
        ("validate first --random-baseline -1", "--random-baseline must be at least 0, got -1"),
        ("validate first --train-steps 0", "--train-steps must be at least 1, got 0"),
        ("devices -o card.json", "--output is where the card of --measure-peaks DEVICE goes"),
        ("devices --measure-peaks tpu", "tpu"),
        ("profile small.py -o .", "is a folder: name a file"),
        ("profile small.py --ray head:1", "is where a device is looked for"),
        ("profile merge only.json -o all.json", "merge takes two tables or more"),
        ("profile import none.json", "none.json"),
        ("profile diff none.json nothing.json", "none.json"),
        ("generate none", "holds no exported model"),
        ("generate none --prompt=", "--prompt must not be empty"),
        ("supernet info none", "none"),
        ("show first 99", "neither the number nor the digest of a trial"),
        ("export first 99 -o out", "neither the number nor the digest of a trial"),
    ],
)
def test_a_wrong_value_ends_in_one_line(
    words: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(capsys, *words.split())


@pytest.mark.parametrize("command", ["train", "export", "prune", "run prune", "serve"])
def test_a_study_needs_a_trial_and_a_folder_has_none(
    command: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (home / "net" / "config.json").exists():
        layer = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU())
        save_model(build(Decoder(vocab=16, d_model=8, layers=(layer,))), home / "net", {})
    output = () if command == "serve" else ("-o", "out")
    line = refused(capsys, *command.split(), "first", *output)
    assert (
        "first is a study: name one of its trials behind it, e.g. first best (`nas front first` lists" in line
    )
    line = refused(capsys, *command.split(), "net", "3", *output)
    assert "net is the folder of one network: leave out the trial, '3'" in line
    line = refused(capsys, *command.split(), "net", "first", *output)
    assert "first is a study, and a study stands before its trial: first net" in line
    line = refused(capsys, *command.split(), "frist", "3", *output)
    assert "no study 'frist'" in line
    assert not (home / "out").exists()


def test_a_refused_command_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lying() -> set[str]:  # SQLite's own files beside the store come and go, also with readers
        return {path.name for path in home.iterdir()} - {"s.db-shm", "s.db-wal"}

    before = lying()
    refused(capsys, "search", "small.py", "--name", "new", "--engine", "drats")
    refused(capsys, "supernet", "train", "small.py", "-o", "sn", "--train-steps", "0")
    assert lying() == before
    assert [row["name"] for row in parsed(capsys, "ls", "--json")] == ["first"]
