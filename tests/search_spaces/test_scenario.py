"""Scenarios and devices: read from text, checked, and written back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import SettingError
from search_spaces.devices import check_trainable, is_device, kind_of_device, missing_here, require_here
from search_spaces.scenario import DTYPES, WEIGHTS, Scenario

CHAT = Scenario(device="cuda:0", engine="graph", batch=1, prompt=512, new_tokens=128)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chat=cuda:0,engine=graph,batch=1,prompt=512,new_tokens=128", "chat"),
        ("cuda:0,engine=graph,prompt=512,new_tokens=128", ""),
        ("long.chat=device=cuda:0,engine=graph,prompt=512,new_tokens=128", "long.chat"),
        ("engine=graph,device=cuda:0, prompt=512 ,new_tokens=128", ""),
        ("chat-2=batch=1,device=cuda:0,engine=graph,prompt=512,new_tokens=128", "chat-2"),
    ],
)
def test_scenarios_are_read(text: str, name: str) -> None:
    parsed = Scenario.parse(text)
    assert parsed == CHAT
    assert parsed.name == name
    assert Scenario(**parsed.to_json()) == parsed
    assert Scenario(**parsed.to_json()).name == name


def test_a_name_takes_no_part_in_equality() -> None:
    named = replace(CHAT, name="chat")
    assert named == CHAT
    assert hash(named) == hash(CHAT)
    assert named.conditions() == CHAT.conditions() == CHAT.to_json()
    assert named.to_json() == {**CHAT.to_json(), "name": "chat"}
    assert str(named) == f"chat: {CHAT}"


@pytest.mark.parametrize("text", ["cpu", "prompt=256", "chat=cpu,new_tokens=64"])
def test_what_is_left_out_has_its_default(text: str) -> None:
    assert Scenario.parse(text) == Scenario(device="cpu", engine="eager", batch=1, prompt=256, new_tokens=64)


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        (Scenario(), "cpu eager, batch 1, prompt 256, 64 new tokens, float32, 1 thread"),
        (
            Scenario(device="cuda:1", weights="packed", dtype="bfloat16", name="chat"),
            "chat: cuda:1 eager, batch 1, prompt 256, 64 new tokens, bfloat16, packed weights, 1 thread",
        ),
    ],
)
def test_a_scenario_is_printed_in_one_line(scenario: Scenario, text: str) -> None:
    assert str(scenario) == text


@pytest.mark.parametrize(("prompt", "new", "context", "position"), [(1, 1, 2, 1), (10, 5, 15, 12)])
def test_the_context_and_the_position_of_decode_follow_from_the_lengths(
    prompt: int, new: int, context: int, position: int
) -> None:
    scenario = Scenario(prompt=prompt, new_tokens=new)
    assert (scenario.context, scenario.decode_position) == (context, position)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach=4", "scenario has no setting 'bach'; did you mean 'batch'"),
        ("enigne=eager", "scenario has no setting 'enigne'; did you mean 'engine'"),
        ("cpu,weights=int8", "weights must be one of plain, packed, got 'int8'"),
        ("chat=cpu,batch=many", "batch must be a whole number, got 'many'"),
        ("cpu,batch=0", "scenario: batch must be at least 1, got 0"),
        ("chat=cpu,name=bulk", "name is given twice, 'chat' and 'bulk'"),
        ("new_tokens=3,new_tokens=4", "new_tokens is given twice, '3' and '4'"),
        ("cpu,arrivals=1e-300/s", "arrivals must be at least 0.001 a second, got 1e-300"),
        ("cpu,name=a b", "a name is a word such as chat, got 'a b'"),
    ],
)
def test_a_wrong_scenario_says_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Scenario.parse(text)


@given(
    st.builds(
        Scenario,
        device=st.sampled_from(["cuda", "cuda:1"]),
        engine=st.sampled_from(["eager", "graph"]),
        batch=st.integers(1, 10**6),
        prompt=st.integers(1, 10**6),
        new_tokens=st.integers(1, 10**6),
        dtype=st.sampled_from(DTYPES),
        threads=st.integers(1, 256),
        weights=st.sampled_from(WEIGHTS),
        name=st.sampled_from(["", "chat", "long.chat-2"]),
    )
)
def test_scenarios_come_back_from_text_and_json(scenario: Scenario) -> None:
    plain = scenario.to_plain()
    text = ",".join(f"{name}={value}" for name, value in plain.items() if name != "name")
    parsed = Scenario.parse(f"{scenario.name}={text}" if scenario.name else text)
    assert (parsed, parsed.name) == (scenario, scenario.name)
    assert Scenario.from_plain(scenario.to_json()) == scenario
    written = Scenario.parse(scenario.written())
    assert (written, written.name) == (scenario, scenario.name)


@given(st.text())
def test_any_text_is_a_scenario_or_refused(text: str) -> None:
    with suppress(SettingError):
        Scenario.parse(text)


@pytest.mark.parametrize(("name", "kind"), [("cpu", "cpu"), ("cuda", "cuda"), ("cuda:11", "cuda")])
def test_devices_have_a_kind(name: str, kind: str) -> None:
    assert is_device(name)
    assert kind_of_device(name) == kind
    check_trainable(name)


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "mps", "", "gpu:0"])
def test_what_cannot_be_trained_on_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="networks are trained on cpu or cuda"):
        check_trainable(name)


def test_a_device_that_is_not_here_is_missing() -> None:
    assert missing_here("cpu") == ""
    count = torch.cuda.device_count()
    assert f"no cuda:{count}" in missing_here(f"cuda:{count}")


@pytest.mark.parametrize("device", ["cpu:1", "tpu", "cuda:99"])
def test_a_device_to_train_on_must_be_one_and_be_here(device: str) -> None:
    if device == "cpu:1":
        require_here(device)
        return
    with pytest.raises(SettingError, match=f"^device '?{device}'?: "):
        require_here(device)
