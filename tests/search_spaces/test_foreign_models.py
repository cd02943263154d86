"""Exported folders from somebody else: read safely, replaced only when asked for, and whole at any moment."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from foundation.errors import FileError, NasError, SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import to_plain
from search_spaces.network import model_files
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import (
    CONFIG,
    HASH,
    WAITING,
    WEIGHTS,
    load_model,
    read_config,
    save_model,
)
from search_spaces.quantization.bits import Bits
from tests.limits import largest_file

LAYER = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8),
    channel_mixer=SwiGLU(),
    bits=Bits(weight=4),
)
SPEC = Decoder(vocab=32, d_model=16, layers=(LAYER, LAYER))
NORM = "layers.0.sequence_mixer.norm"
MATRIX = "layers.0.sequence_mixer.mixer.wq"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return save_model(build(SPEC, seed=1), tmp_path / "model", {"from": "a test"})


def refused(folder: Path, says: str) -> None:
    """Loading ends soon, for the text there is to read, and in one line that names the folder."""
    config = folder / CONFIG
    megabytes = config.stat().st_size / 1e6 if config.is_file() else 0.0
    started = time.thread_time()
    with pytest.raises(NasError, match=says) as raised:
        load_model(folder)
    assert time.thread_time() - started < 1 + 2 * megabytes
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


def with_config(folder: Path, **changes: Any) -> Path:
    (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | changes))
    return folder


def with_spec(folder: Path, **changes: Any) -> Path:
    return with_config(folder, spec=json.loads((folder / CONFIG).read_text())["spec"] | changes)


def with_tensors(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    """Other weights, as if they had been exported: the hash is theirs."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return with_config(folder, **{HASH: model_files._hash(folder / WEIGHTS)})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layers": {"repeat": to_plain(LAYER), "depths": [4 * 10**8]}}, "depths must be at most 4,096"),
        ({"layers": {"repeat": to_plain(LAYER), "depths": [10**6]}}, "depths must be at most 4,096"),
        ({"layers": {"repeat": to_plain(LAYER), "depths": [4096]}}, "layers is left open"),
        ({"layers": [to_plain(LAYER)] * 4096}, "parameters, and model.safetensors has"),
        ({"layers": [to_plain(LAYER)] * 4097}, "a sequence has at most 4,096 entries, got 4,097"),
        ({"layers": {"repeat": to_plain(LAYER), "depths": [2, 3]}}, "layers is left open: this is a space"),
        ({"layers": {"repeat": to_plain(LAYER), "depths": [-1]}}, "depths must be whole numbers"),
        ({"layers": [to_plain(LAYER)]}, "there is no place for"),
        ({"layers": [to_plain(LAYER)] * 3}, "is missing"),
        ({"layers": []}, "there is no place for"),
        ({"layers": None}, "layers must be a sequence"),
        ({"layers": [[to_plain(LAYER)]]}, "layers must be a sequence"),
        ({"d_model": 10**9}, "too large|parameters, and"),
        ({"d_model": 32}, "should be BF16"),
        ({"d_model": 0}, "d_model must be a positive integer"),
        ({"d_model": -16}, "d_model must be a positive integer"),
        ({"d_model": 16.0}, "d_model must be a whole number"),
        ({"d_model": True}, "d_model must be a whole number"),
        ({"d_model": "16"}, "d_model must be a whole number"),
        ({"d_model": None}, "d_model must be a whole number"),
        ({"d_model": {"one_of": [16, 32]}}, "d_model is left open"),
        ({"vocab": 10**12}, "too large"),
        ({"vocab": 10**30}, "a number must be finite"),
        ({"vocab": 33}, "embedding should be BF16"),
        ({"type": "Layer"}, "Layer has no field"),
        ({"type": "os.system"}, "unknown block or part 'os.system'"),
        ({"type": 7}, "a type is the name of a block"),
        ({"norm": {"type": "SwiGLU"}}, "norm must be"),
        ({"norm": {"type": "RMSNorm", "epsilon": -1.0}}, "epsilon must be in"),
    ],
)
def test_an_architecture_is_judged_before_it_takes_memory(
    exported: Path, changes: dict[str, Any], says: str
) -> None:
    refused(with_spec(exported, **changes), says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec": 3}, "expected a Decoder, got 3"),
        ({"spec": None}, "expected a Decoder, got None"),
        ({"spec": []}, r"expected a Decoder, got \(\)"),
        ({"spec": to_plain(LAYER)}, "expected a Decoder, got Layer"),
        ({"spec": {"one_of": [to_plain(SPEC)]}}, "expected a Decoder, got OneOf"),
        ({"spec": "../../etc/passwd"}, "expected a Decoder, got"),
        ({"about": [1]}, "'about' must be an object"),
        ({"about": "text"}, "'about' must be an object"),
        ({"format": None}, "has format None; this version reads 2"),
        ({"format": [2] * 1000}, r"has format \[2, 2"),
        ({HASH: 3}, "is not the file that config.json was written for"),
        ({HASH: "../../x"}, "is not the file that config.json was written for"),
    ],
)
def test_a_configuration_of_other_types_is_refused(exported: Path, changes: Any, says: str) -> None:
    refused(with_config(exported, **changes), says)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "NaN", "[" * 100_000, '{"a":' * 100_000, "{}"])
def test_a_configuration_that_is_none_is_refused(exported: Path, text: str) -> None:
    (exported / CONFIG).write_text(text)
    refused(exported, "cannot be read|has format None")


def _set(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], Any]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set(NORM, torch.ones(())), r"norm should be F32 \[16\], and is F32 \[\]"),
        (_set(NORM, torch.ones(1)), r"and is F32 \[1\]"),
        (
            _set("embedding", torch.ones(1, 1, dtype=torch.bfloat16)),
            r"embedding should be .*, and is BF16 \[1, 1\]",
        ),
        (_set("embedding", torch.ones(16, 32, dtype=torch.bfloat16)), r"is BF16 \[16, 32\]"),
        (_set("embedding", torch.ones(32, 16, dtype=torch.float16)), r"and is F16 \[32, 16\]"),
        (_set("embedding", torch.ones(32, 16, dtype=torch.bool)), r"and is BOOL"),
        (_set(NORM, torch.ones(16, dtype=torch.int64)), "and is I64"),
        (_set(NORM, torch.ones(16, dtype=torch.complex64)), "and is C64"),
        (_set(NORM, torch.full((16,), torch.nan)), "norm has values that are not finite"),
        (_set(NORM, torch.full((16,), torch.inf)), "norm has values that are not finite"),
        (_set("embedding", torch.full((32, 16), -torch.inf, dtype=torch.bfloat16)), "not finite"),
        (lambda tensors: tensors[NORM].__setitem__(3, torch.nan), "norm has values that are not finite"),
        (
            _set(f"{MATRIX}.scale", torch.full((16, 1), torch.nan, dtype=torch.bfloat16)),
            "q has values|should be",
        ),
        (_set("more", torch.ones(1)), "there is no place for 'more'"),
        (_set("m" * 10_000, torch.ones(1)), "there is no place for 'mmm"),
        (_set("../../x", torch.ones(1)), r"there is no place for '../../x'"),
        (lambda tensors: tensors.pop(NORM), "norm is missing"),
        (lambda tensors: tensors.clear(), "parameters, and|layers, and|is missing"),
    ],
)
def test_weights_are_exactly_those_of_the_architecture(exported: Path, change: Any, says: str) -> None:
    refused(with_tensors(exported, change), says)


def test_bits_that_flip_are_noticed(exported: Path) -> None:
    content = bytearray((exported / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (exported / WEIGHTS).write_bytes(content)
    refused(exported, "model.safetensors is not the file that config.json was written for")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop", "nothing", "larger"])
def test_what_is_no_file_does_not_hang(exported: Path, name: str, kind: str) -> None:
    path = exported / name
    if kind == "larger":
        os.truncate(path, 2**40)  # of holes
    else:
        path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    refused(exported, r"\S")


def test_a_model_without_a_hash_is_read_as_before(exported: Path) -> None:
    config = read_config(exported)
    del config[HASH]
    (exported / CONFIG).write_text(json.dumps(config))
    assert load_model(exported).spec == SPEC


def test_a_model_larger_than_memory_is_refused(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "memory_here", lambda: 1000)
    refused(exported, "it needs .* GiB of memory, and this machine has")


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    model = build(SPEC, seed=1)
    with torch.no_grad():
        model.embedding[3, 3] = torch.nan
    with pytest.raises(SettingError, match="embedding has values that are not finite"):
        save_model(model, tmp_path / "model")


def test_only_a_folder_of_ours_is_replaced_and_only_when_asked(exported: Path, tmp_path: Path) -> None:
    (exported / "notes.txt").write_text("mine")
    with pytest.raises(SettingError, match="holds an exported model"):
        save_model(build(SPEC, seed=2), exported)
    save_model(build(SPEC, seed=2), exported, force=True)
    assert same(load_model(exported), build(SPEC, seed=2))
    assert (exported / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    for config in ({"model_type": "llama", "architectures": []}, [], {"format": "2", "spec": 1}):
        (other / CONFIG).write_text(json.dumps(config))
        (other / WEIGHTS).write_bytes(b"theirs")
        for force in (False, True):
            with pytest.raises(SettingError, match="holds no exported model: choose another folder"):
                save_model(build(SPEC), other, force=force)
        assert (other / WEIGHTS).read_bytes() == b"theirs"
    with pytest.raises(SettingError, match="cannot be a folder for an exported model: Not a directory"):
        save_model(build(SPEC), other / CONFIG)


def same(model: Model, other: Model) -> bool:
    """Whether an exported model is this one: compared by the embedding, whose bits are many."""
    return torch.equal(model.embedding, other.embedding.bfloat16().float())


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_an_export_that_is_killed_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Stopped at every point where the disk changes, a folder holds one whole model, or none at first."""

    class Killed(BaseException):
        pass

    changes = 0

    def counted(step: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes == stop:
                raise Killed
            return step(*arguments)

        return call

    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    old, new = build(SPEC, seed=1), build(SPEC, seed=2)
    seen = set()
    for stop in range(1, 100):  # noqa: B007  # the step at which it is killed
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        if not first:
            changes = -(10**6)
            save_model(old, folder)
        changes = 0
        try:
            save_model(new, folder, force=True)
        except Killed:
            pass
        else:
            break
        changes = -(10**6)
        try:
            found = load_model(folder)
            seen.add("new" if same(found, new) else "old" if same(found, old) else "mixed")
        except SettingError as error:
            seen.add("none" if "config.json is missing" in str(error) else str(error))
        save_model(new, folder, force=True)  # nothing that stays behind is in the way
        assert same(load_model(folder), new)
    assert stop > 5
    assert seen == ({"none", "new"} if first else {"old", "new"})


def test_a_disk_that_is_full_leaves_the_old_model(exported: Path) -> None:
    for size in (0, 100, 2000):
        with largest_file(size), pytest.raises(FileError, match=f"cannot write {exported}.*File too large"):
            save_model(build(SPEC, seed=2), exported, force=True)
        assert same(load_model(exported), build(SPEC, seed=1))
        assert {path.name for path in exported.iterdir()} <= {CONFIG, WEIGHTS, WAITING}


def test_a_space_is_no_architecture(exported: Path) -> None:
    refused(with_spec(exported, d_model=to_plain(one_of(16, 32))), "d_model is left open")
