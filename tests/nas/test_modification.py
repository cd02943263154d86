"""Modifiers: lists that go on where they were stopped, records, estimates, and refusals before any work."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluators.compression import lottery
from evaluators.compression.adapters import FILE as ADAPTER
from evaluators.compression.adapters import read_adapter
from evaluators.compression.lottery import MaskedTraining
from evaluators.training.fit import fit
from evaluators.training.trainable import weights_digest
from foundation.errors import SettingError, UnknownName
from nas import cli
from nas.modification import (
    ModificationSettings,
    estimates,
    modifiers_of,
    modify,
    read_modifiers,
)
from nas.modifiers.adapt import Adapt
from nas.modifiers.base import Modifier, Work, modifier_of, modifiers
from nas.modifiers.distill import Distill
from nas.modifiers.finetune import Finetune
from nas.modifiers.fitting import WEIGHT, fit_shown
from nas.modifiers.prune import Prune
from nas.modifiers.quantize import Quantize
from nas.modifiers.shrink import Shrink
from nas.progress import Progress, ProgressBar
from nas.study.model_code import load
from nas.training.start import Start, start_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import WEIGHTS, read_config, save_model
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

LAYER = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU())
SPEC = Decoder(vocab=256, d_model=16, layers=(LAYER, LAYER))
LIST = (Prune(pattern="2:4", calibration=4), Quantize(bits=4, calibration=4))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"{i} bottles of beer on the wall, take {i % 7} down. " for i in range(3000)))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(build(SPEC, seed=1), tmp_path_factory.mktemp("model") / "winner", {"study": "a test"})


@pytest.fixture
def start(folder: Path) -> Start:
    return start_of(str(folder))


@pytest.fixture
def settings(text: str) -> ModificationSettings:
    return ModificationSettings(data=text, window=32, validation_windows=4)


def about(folder: Path) -> dict[str, Any]:
    return dict(read_config(folder)["about"])


def test_each_modifier_is_on_record_with_figures_before_and_after(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    pruned, quantized = modify(start, LIST, tmp_path / "out", settings)
    records = about(tmp_path / "out")["modified"]
    assert [record["modifier"]["name"] for record in records] == ["prune", "quantize"]
    assert records[0]["after"] == records[1]["before"] == pruned.after
    assert quantized.after["weight_bytes"] < quantized.before["weight_bytes"]
    assert quantized.after["nonzero"] <= pruned.after["nonzero"] < pruned.before["nonzero"]
    before, after = (records[1][when]["bits_per_byte"]["value"] for when in ("before", "after"))
    assert quantized.difference[0] == pytest.approx(after - before)
    assert 0 < quantized.difference[1] < records[1]["after"]["bits_per_byte"]["error"]
    assert about(tmp_path / "out")["study"] == "a test"


@pytest.mark.parametrize("stopped", ["prune", "quantize"])
def test_a_list_that_was_stopped_ends_as_one_that_was_not(
    stopped: str,
    start: Start,
    settings: ModificationSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(self: Modifier, model: Any, work: Work) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(modifiers[stopped], "modify", stop)
        with pytest.raises(KeyboardInterrupt):
            modify(start, LIST, tmp_path / "out", settings)
    begun = "prune,pattern=2:4,calibration=4, then quantize,calibration=4"
    with pytest.raises(
        SettingError, match=f"out is unfinished: {begun} has not come .* the same call of nas"
    ):
        load(tmp_path / "out")
    done = modify(start, LIST, tmp_path / "out", settings)
    load(tmp_path / "out")
    assert [each.resumed for each in done] == ([False, False] if stopped == "prune" else [True, False])
    modify(start, LIST, tmp_path / "whole", settings)
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("out", "whole"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    monkeypatch.setattr(modifiers[stopped], "modify", stop)
    assert all(each.resumed for each in modify(start, LIST, tmp_path / "out", settings))


def test_a_training_in_a_modifier_shows_a_mean_and_where_it_goes_on(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    said: list[str] = []
    shown: dict[int, str] = {}

    class Bar(ProgressBar):
        def update(self, done: int, note: str = "") -> None:
            shown[done] = note

    class Heard(Progress):
        def say(self, text: str) -> None:
            said.append(text)

        @contextmanager
        def bar(self, title: str, total: int) -> Iterator[ProgressBar]:
            yield Bar()

    task = settings.make_task()

    def training() -> MaskedTraining:
        return MaskedTraining(deepcopy(start.model).train(), {}, task, steps=12, seed=0, batch=2)

    work = Work(task, lambda: start.model, folder=tmp_path / "whole", progress=Heard())
    losses = dict(fit_shown(training(), work, "fine-tuning", 12).loss)
    mean = losses[1]
    for step in range(2, 13):
        mean += WEIGHT * (losses[step] - mean)
    number, rest = shown[12].split(" ", 1)
    assert float(number) == pytest.approx(mean, abs=2e-3)
    assert rest == f"{task.unit} of training text"
    assert not said
    fit(training(), folder=tmp_path / "stopped", until=7)
    fit_shown(training(), replace(work, folder=tmp_path / "stopped"), "fine-tuning", 12)
    assert said == ["going on from step 7"]


def test_a_kill_behind_a_record_leaves_nothing_to_the_next_modifier(
    start: Start, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def killed(path: Path, **how: Any) -> None:
        if path.name == "training":
            raise KeyboardInterrupt
        remove(path, **how)

    twice = (Finetune(steps=4, batch=2), Finetune(steps=4, batch=2), LIST[1])
    for wanted, name in ((LIST, "two"), (twice, "same")):
        with monkeypatch.context() as patched:
            patched.setattr("nas.modification.shutil.rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                modify(start, wanted, tmp_path / name, settings)
        assert (tmp_path / name / "training" / "modifier.json").is_file()
        done = modify(start, wanted, tmp_path / name, settings)
        assert [each.resumed for each in done] == [True, *[False] * (len(wanted) - 1)]
        modify(start, wanted, tmp_path / f"{name}-whole", settings)
        one, other = (load_file(tmp_path / each / WEIGHTS) for each in (name, f"{name}-whole"))
        assert all(torch.equal(one[each], other[each]) for each in one)


def test_what_is_done_of_a_longer_list_is_whole_by_itself(
    start: Start, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Modifier, model: Any, work: Work) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Quantize, "modify", stop)
    adapt = Adapt(rank=2, steps=2, batch=2)
    for first, second in (((), (adapt, LIST[1])), ((adapt,), (adapt, LIST[1]))):
        out = tmp_path / f"out-{len(first)}"
        if first:
            modify(start, first, out, settings)
            load(out)
        with pytest.raises(KeyboardInterrupt):
            modify(start, second, out, settings)
        with pytest.raises(SettingError, match="is unfinished"):
            load(out)
        (done,) = modify(start, [adapt], out, settings)
        assert done.resumed
        load(out)
        assert (out / ADAPTER).is_file()


@pytest.mark.parametrize("reader", ["generate OUT", "export OUT -o other --to hf", "prune OUT -o other"])
def test_who_takes_what_a_stopped_command_left_is_told_the_command(
    reader: str,
    folder: Path,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(self: Modifier, model: Any, work: Work) -> None:
        raise KeyboardInterrupt

    out, given = str(tmp_path / "my out"), ["--window", "32", "--validation-windows", "4", "--data", text]
    words = ["quantize", str(folder), "-o", out, "--bits", "4", *given]
    with monkeypatch.context() as patched:
        patched.setattr(Quantize, "modify", stop)
        assert cli.run([*words, "--store", "postgresql://me:secret@there/db"]) != 0
    capsys.readouterr()
    read = [out if word == "OUT" else word for word in reader.split()]
    assert cli.run(read) == cli.REFUSED
    told = capsys.readouterr().err
    again = shlex.join([*words, "--store", "postgresql://me:***@there/db"])
    why = "quantize has not come to its end there, and goes on with"
    assert told == f"nas: {out} is unfinished: {why} `nas {again}`\n"
    assert cli.run(words) == 0
    load(out)


def test_what_was_begun_with_other_settings_is_refused(
    start: Start, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = modifier_of("lottery,steps=3,rewind=1,rounds=1,batch=2,sparsity=0.5")

    def killed(*args: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lottery, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            modify(start, [begun], tmp_path / "out", settings)
    for other, told in (
        (replace(begun, sparsity=0.8), "another lottery: sparsity was 0.5, and is 0.8; give what it was"),
        (LIST[0], "another lottery: prune is wanted; give what it was"),
    ):
        with pytest.raises(SettingError, match=told):
            modify(start, [other], tmp_path / "out", settings)
    (done,) = modify(start, [begun], tmp_path / "out", settings)
    assert not done.resumed
    assert modify(start, [begun, LIST[1]], tmp_path / "out", settings)[0].resumed


def test_another_list_takes_no_folder_by_itself(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    modify(start, LIST[:1], tmp_path / "out", settings)
    with pytest.raises(SettingError, match="holds an exported model"):
        modify(start, LIST[1:], tmp_path / "out", settings)
    (done,) = modify(start, LIST[1:], tmp_path / "out", settings, force=True)
    assert not done.resumed
    assert len(about(tmp_path / "out")["modified"]) == 1


def test_a_second_list_adds_its_records_to_those_of_the_first(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    modify(start, LIST[:1], tmp_path / "one", settings)
    modify(start_of(str(tmp_path / "one")), LIST[1:], tmp_path / "two", settings)
    assert [record["modifier"]["name"] for record in about(tmp_path / "two")["modified"]] == [
        "prune",
        "quantize",
    ]


def test_the_sizes_are_known_before(start: Start, settings: ModificationSettings, tmp_path: Path) -> None:
    known = [estimate for _, estimate in estimates(start, LIST)]
    done = modify(start, LIST, tmp_path / "out", settings)
    for estimate, each in zip(known, done, strict=True):
        assert estimate.params == (each.before["params"], each.after["params"])
        assert estimate.weight_bytes == (each.before["weight_bytes"], each.after["weight_bytes"])


def test_modifiers_with_open_values_are_a_space(start: Start) -> None:
    space = Space((Prune(sparsity=one_of(0.3, 0.5)), Quantize(bits=one_of(8, 4, 3))))
    assert space.size() == 6
    _, closed = space.draw(lambda path, labels: labels[-1])
    assert closed == (Prune(sparsity=0.5), Quantize(bits=3))
    with pytest.raises(SettingError, match=r"0\.sparsity is left open"):
        modifiers_of(space.root)


def test_a_value_that_is_out_of_range_is_refused_when_it_is_closed() -> None:
    space = Space((Quantize(bits=one_of(5, 4)),))
    with pytest.raises(SettingError, match="bits must be one of 8, 6, 4, 3, 2, got 5"):
        space.draw(lambda path, labels: labels[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pruun", "did you mean 'prune'"),
        ("prune,sparsty=0.5", "did you mean 'sparsity'"),
        ("prune,sparsity=1.5", "sparsity must be"),
        ("prune,pattern=4:2", "pattern must be none, or N:M with N below M"),
        ("prune,pattern=1:1000000", "M at most 99, such as 2:4, got '1:1000000'"),
        ("quantize,bits=5", "bits must be one of"),
        ("quantize,group=7", "group must be one of"),
    ],
)
def test_wrong_words_are_named(text: str, message: str) -> None:
    with pytest.raises((SettingError, UnknownName), match=message):
        modifier_of(text)


def test_lists_lie_in_files(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(["prune,pattern=2:4,calibration=4", LIST[1].to_plain()]))
    assert read_modifiers(path) == LIST
    for content, message in (("{}", "no list of modifiers"), ('["pruun"]', "did you mean"), ("[", "JSON")):
        path.write_text(content)
        with pytest.raises(SettingError, match=message):
            read_modifiers(path)


def test_a_network_of_fewer_tokens_than_the_text_is_refused(
    settings: ModificationSettings, tmp_path: Path
) -> None:
    small = Start(build(Decoder(vocab=16, d_model=16, layers=(LAYER,)), seed=0), {})
    with pytest.raises(SettingError, match="has 16 tokens, and language needs 256"):
        modify(small, LIST, tmp_path / "out", settings)


def test_an_imported_network_keeps_what_is_not_touched(
    settings: ModificationSettings, tmp_path: Path
) -> None:
    model = build(SPEC, seed=2)
    modify(Start(model, {"imported_from": "elsewhere"}), LIST[:1], tmp_path / "out", settings)
    kept = load_file(tmp_path / "out" / WEIGHTS)["embedding"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, model.embedding)


@pytest.mark.parametrize("name", list(modifiers))
def test_every_modifier_has_an_estimate_and_a_line_of_text(name: str, start: Start) -> None:
    kind = modifiers[name]
    estimate = kind().estimate(start.model.spec, Scenario())
    assert estimate.params[0] == sum(weight.numel() for weight in start.model.parameters())
    assert (kind.__doc__ or "").splitlines()[0].endswith(".")
    assert kind.from_plain(kind().to_plain()) == kind()


def test_the_command_line_says_what_was_done(
    folder: Path, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    words = ["--data", text, "--window", "32", "--validation-windows", "4"]
    asked = ["prune", str(folder), "--pattern", "2:4", "--then", "quantize,bits=4", *words]
    assert cli.run([*asked, "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.run(asked) == cli.REFUSED
    assert "name the folder to write" in capsys.readouterr().err
    assert cli.run([*asked, "-o", str(folder)]) == cli.REFUSED
    assert "name another folder" in capsys.readouterr().err
    assert cli.run([*asked, "-o", out]) == 0
    assert "not zero" in capsys.readouterr().out
    assert cli.run(["run", "prune,pattern=2:4", str(folder), "--then", "quantize", *words, "-o", out]) == 0
    assert "quantize (done before)" in capsys.readouterr().out
    for words, right in (
        (["prune,pattern=2:4"], f"prune,pattern=2:4 {folder}"),
        (["0", "prune"], f"prune {folder} 0"),
        (["list.json"], f"list.json {folder}"),
    ):
        assert cli.run(["run", str(folder), *words, "-o", out]) == cli.REFUSED
        assert f"the modifier comes first: nas run {right}" in " ".join(capsys.readouterr().err.split())
    assert cli.run(["run", "pruun", str(folder), "-o", out]) == cli.REFUSED
    assert "did you mean 'prune'" in capsys.readouterr().err


def test_a_student_begins_with_layers_of_the_network(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    (done,) = modify(start, [Distill(layers=1, steps=2, batch=2, cosine=1.0)], tmp_path / "out", settings)
    assert done.after["params"] < done.before["params"]
    model = load(tmp_path / "out")
    assert len(model.spec.layers) == 1
    names = [name for name, _ in model.named_parameters()]
    assert names == [name for name, _ in start.model.named_parameters() if ".1." not in name[:9]]


@pytest.mark.parametrize(
    ("modifier", "message"),
    [
        (Distill(), "teacher and student are the same network"),
        (Distill(layers=3), "layers is 3, and the network has 2"),
        (Distill(teacher="nowhere"), "there is no folder nowhere"),
    ],
)
def test_a_teacher_that_has_nothing_to_say_is_refused(
    modifier: Distill, message: str, start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        modify(start, [modifier], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()  # the unmodified network would look like what came out


def test_what_force_would_replace_stays_until_a_modifier_is_done(
    start: Start, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Modifier, model: Any, work: Work) -> None:
        raise KeyboardInterrupt

    old = save_model(build(replace(SPEC, d_model=32), seed=1), tmp_path / "old")
    before, there = (old / WEIGHTS).read_bytes(), sorted(tmp_path.iterdir())
    for _ in range(2):  # also what a run left that was killed
        with pytest.raises(SettingError, match="there is no folder nowhere"):
            modify(start, [Distill(teacher="nowhere")], old, settings, force=True)
        assert (old / WEIGHTS).read_bytes() == before
        assert sorted(tmp_path.iterdir()) == there
        with monkeypatch.context() as patched:
            patched.setattr(Distill, "modify", stop)
            with pytest.raises(KeyboardInterrupt):
                modify(start, [Distill(teacher="nowhere")], old, settings, force=True)
    modify(start, LIST[:1], old, settings, force=True)
    assert sorted(tmp_path.iterdir()) == there
    assert len(about(old)["modified"]) == 1


def test_all_weights_learn_on_but_zeros(start: Start, settings: ModificationSettings, tmp_path: Path) -> None:
    pruned, tuned = modify(start, [LIST[0], Finetune(steps=60, batch=4)], tmp_path / "out", settings)
    assert tuned.difference[0] < -10 * tuned.difference[1]
    assert tuned.after["nonzero"] <= pruned.after["nonzero"]
    assert tuned.notes["training loss"] < 8
    modify(start, [Finetune(steps=60, batch=4)], tmp_path / "dense", settings)
    dense, sparse = (load_file(tmp_path / name / WEIGHTS) for name in ("dense", "out"))
    first = load_file(save_model(start.model, tmp_path / "first") / WEIGHTS)
    assert not any(torch.equal(dense[name], first[name]) for name in first)
    assert not any(torch.equal(dense[name], sparse[name]) for name in first)


def test_a_finetuning_that_was_stopped_goes_on(
    start: Start, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = Finetune(steps=9, batch=2)
    whole = MaskedTraining.advance

    def stopped(self: Any) -> Any:
        if self.step == 6:
            raise KeyboardInterrupt
        return whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(MaskedTraining, "advance", stopped)
        with pytest.raises(KeyboardInterrupt):
            modify(start, [tuning], tmp_path / "out", settings)
    modify(start, [tuning], tmp_path / "out", settings)
    modify(start, [tuning], tmp_path / "whole", settings)
    one, other = (load_file(tmp_path / name / WEIGHTS) for name in ("out", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_device_that_is_not_here_is_refused_before_anything_is_read(
    folder: Path, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.run(["prune", str(folder), "-o", str(out), "--data", text, "--train-on", "cuda:77"]) == 2
    assert "device cuda:77: " in capsys.readouterr().err
    assert not out.exists()


def test_networks_are_modified_where_it_is_asked_for(
    start: Start, settings: ModificationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    whole = type(start.model).to
    monkeypatch.setattr(
        type(start.model), "to", lambda self, where: (moved.append(where), whole(self, where))[1]
    )
    modify(start, LIST[:1], tmp_path / "out", replace(settings, train_on="cpu"))
    assert moved == ["cpu"]


def test_what_is_read_is_not_written(
    start: Start, settings: ModificationSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = save_model(build(replace(SPEC, d_model=32), seed=1), tmp_path / "wide")
    before = (wide / WEIGHTS).read_bytes()
    (tmp_path / "link").symlink_to(wide)
    for output in (wide, tmp_path / "link", wide / ".." / "wide"):
        with pytest.raises(SettingError, match="is read by it: name another folder to write"):
            modify(start, [Distill(teacher=str(wide), steps=1)], output, settings, force=True)
    assert cli.run(["prune", str(tmp_path / "link"), "-o", str(wide), "--force"]) == cli.REFUSED
    assert "is the network to begin with" in capsys.readouterr().err
    assert (wide / WEIGHTS).read_bytes() == before


def test_a_teacher_of_another_width_needs_a_linear_map(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    wide = save_model(build(replace(SPEC, d_model=24), seed=3), tmp_path / "wide")
    with pytest.raises(SettingError, match="cosine needs equal widths, got 24 and 16"):
        modify(start, [Distill(teacher=str(wide), cosine=1.0)], tmp_path / "out", settings)
    taught = Distill(teacher=str(wide), hidden=1.0, steps=1, batch=2)
    modify(start, [taught], tmp_path / "taught", settings)


def test_what_is_trained_is_known_before(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    adapt = Adapt(rank=2, steps=2, batch=2, decompose=True, base="nf4")
    (done,) = modify(start, [adapt], tmp_path / "out", settings)
    assert done.notes["optimizer's values"] == 2 * adapt.trainable(start.model.spec)


@pytest.mark.parametrize("decompose", [False, True])
def test_what_was_learned_lies_beside_the_merged_network(
    start: Start, settings: ModificationSettings, tmp_path: Path, decompose: bool
) -> None:
    out = tmp_path / "out"
    adapt = Adapt(rank=2, steps=2, batch=2, decompose=decompose)
    modify(start, [adapt], out, settings)
    base = dict(start.model.named_parameters())
    adapter = read_adapter(out, start.model, weights_digest(base))
    merged = dict(load(out).named_parameters())
    assert set(adapter.factors) == set(adapt._matrices(start.model.spec))
    for name, (down, up, scale) in adapter.factors.items():
        assert up.count_nonzero()
        whole = base[name].detach().reshape(*up.shape[:2], down.shape[-1]) + up @ down
        whole = whole if scale is None else scale * whole
        torch.testing.assert_close(merged[name], whole.view_as(merged[name]).to(torch.bfloat16).float())
    modify(start, [Prune(pattern="2:4", calibration=4), adapt], out, settings, force=True)
    assert not (out / ADAPTER).exists(), "its base is on no disk"


def test_ranks_go_where_a_probe_has_learned_most(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    adapt = Adapt(rank=2, steps=2, batch=2, probe=3)
    (done,) = modify(start, [adapt], tmp_path / "out", settings)
    assert 0 < done.notes["trained parameters"] <= adapt.trainable(start.model.spec)
    ranks = [int(each.partition("=")[2]) for each in done.notes["ranks"].split()]
    assert len(set(ranks)) > 1
    assert max(ranks) <= 8


@pytest.mark.parametrize("base", ["as_it_is", "nf4"])
def test_what_is_no_matrix_is_learned_beside_factors(
    base: str, start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    adapt = Adapt(rank=3, steps=2, batch=2, base=base, targets=("input", "vector"))
    factors = Adapt(rank=3, steps=2, batch=2, base=base, targets=("input",))
    rest = [
        w.numel()
        for n, w in start.model.named_parameters()
        if start.model.roles()[n].kind in ("elementwise", "readout")
    ]
    ((_, estimate),) = estimates(start, [adapt])
    assert estimate.trainable == factors.trainable(start.model.spec) + sum(rest)
    (done,) = modify(start, [adapt], tmp_path / "out", settings)
    assert done.notes["trained parameters"] == estimate.trainable
    assert not (tmp_path / "out" / ADAPTER).exists()  # which holds factors alone


@pytest.mark.parametrize(("method", "more"), [("galore", 0), ("bottleneck", 2 * 3 * 3 * 16)])
def test_other_ways_to_adapt_are_as_large_as_they_say(
    method: str, more: int, start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    adapt = Adapt(method=method, rank=3, steps=2, batch=2)
    ((_, estimate),) = estimates(start, [adapt])
    (done,) = modify(start, [adapt], tmp_path / "out", settings)
    assert estimate.params == (done.before["params"], done.after["params"])
    assert done.after["params"] == done.before["params"] + more
    assert done.notes["trained parameters"] == estimate.trainable
    assert done.difference[0] != 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adapt,rank=200", "rank 200 is larger than every matrix, such as layers.0"),
        ("adapt,targets=expert", "no matrices that are expert"),
        ("adapt,method=galore,decompose=yes", "decompose is for factors, and method is galore"),
        ("adapt,probe=5,decompose=yes", "probe is for factors without norms"),
        ("adapt,probe=5,method=galore", "probe is for factors"),
        ("adapt,targets=", "targets are some of input, output, inner, expert, embedding, vector, got none"),
        ("adapt,method=galore,targets=vector", "galore trains whole matrices, so targets has no vector"),
    ],
)
def test_factors_that_cannot_be_are_refused(text: str, message: str, start: Start) -> None:
    with pytest.raises(SettingError, match=message):
        estimates(start, [text])


def test_units_and_layers_go_as_the_estimate_says(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    shrink = Shrink(heads=(0.5,), channels=(0.5,), layers=1, calibration=3)
    ((_, estimate),) = estimates(start, [shrink])
    assert estimate.exact
    (done,) = modify(start, [shrink], tmp_path / "out", settings)
    assert estimate.params == (done.before["params"], done.after["params"])
    assert load(tmp_path / "out").spec == shrink.changed(start.model.spec)
    assert len(done.notes["layers that went"]) == 1


def test_shares_may_be_those_of_each_layer_and_left_open(start: Start) -> None:
    space = Space((Shrink(channels=(one_of(0.0, 0.5), one_of(0.25, 0.5))),))
    assert space.size() == 4
    _, (closed,) = space.draw(lambda path, labels: labels[0])
    expansions = [layer.channel_mixer.expansion for layer in closed.changed(start.model.spec).layers]
    assert expansions == [3, 2.25]
    assert not replace(closed, layers=1).estimate(start.model.spec, Scenario()).exact


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shrink,channels=0", "all shares and layers are 0"),
        ("shrink,channels=1", "channels must be less than 1"),
        ("shrink,layers=2", "layers is 2, and the network has 2"),
        ("shrink,experts=0.5", "the network has no experts that can go"),
        ("shrink,heads=0.2", "no heads that can go, or too few for this share"),
    ],
)
def test_what_cannot_go_is_refused(text: str, message: str, start: Start) -> None:
    with pytest.raises(SettingError, match=message):
        estimates(start, [text])


def test_a_share_for_each_layer_needs_all_layers(start: Start) -> None:
    with pytest.raises(SettingError, match="one for each of the 2 layers, got 3"):
        estimates(start, [Shrink(channels=(0.5, 0.5, 0.5))])


def test_activations_and_states_may_have_8_bits_as_well(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    quantize = Quantize(bits=8, group=65536, activations=8, state=8, calibration=2)
    ((_, estimate),) = estimates(start, [quantize])
    (done,) = modify(start, [quantize], tmp_path / "out", settings)
    assert done.after["weight_bytes"] == estimate.weight_bytes[1]
    bits = {layer.bits_at(place) for layer in load(tmp_path / "out").spec.layers for place in layer.blocks}
    assert bits == {Bits(weight=8, activation=8, state=8, group=65536)}
    assert Quantize(bits=4).changed(load(tmp_path / "out").spec).layers[0].bits.activation == 8


def test_a_rotated_network_has_a_head_of_its_own(
    start: Start, settings: ModificationSettings, tmp_path: Path
) -> None:
    quantize = Quantize(bits=8, rotate=True, method="nearest")
    ((_, estimate),) = estimates(start, [quantize])
    (done,) = modify(start, [quantize], tmp_path / "out", settings)
    assert estimate.params == (done.before["params"], done.after["params"])
    assert done.after["params"] == done.before["params"] + SPEC.vocab * SPEC.d_model
    assert abs(done.difference[0]) < 0.05
