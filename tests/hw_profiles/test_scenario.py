from dataclasses import replace

import pytest

from foundation.errors import SettingError
from search_spaces.scenario import Scenario

CHAT = Scenario(device="cuda:0", engine="graph", batch=1, prompt=512, new_tokens=128)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chat=cuda:0,engine=graph,batch=1,prompt=512,new=128", "chat"),
        ("cuda:0,engine=graph,prompt=512,new_tokens=128", ""),
        ("long.chat=device=cuda:0,engine=graph,prompt=512,new=128", "long.chat"),
        ("engine=graph,device=cuda:0, prompt=512 ,new=128", ""),
        ("chat-2=batch=1,device=cuda:0,engine=graph,prompt=512,new=128", "chat-2"),
    ],
)
def test_scenarios_are_read(text, name):
    found = Scenario.parse(text)
    assert found == CHAT
    assert found.name == name
    assert Scenario(**found.to_json()) == found
    assert Scenario(**found.to_json()).name == name


def test_a_name_takes_no_part_in_equality():
    named = replace(CHAT, name="chat")
    assert named == CHAT
    assert hash(named) == hash(CHAT)
    assert named.conditions() == CHAT.conditions() == CHAT.to_json()
    assert named.to_json() == {**CHAT.to_json(), "name": "chat"}
    assert str(named) == f"chat: {CHAT}"


def test_scenarios_of_before_are_read():
    plain = {"device": "cpu", "engine": "eager", "batch": 1, "prompt": 8, "new_tokens": 4}
    assert Scenario(**plain, dtype="float32", threads=1) == Scenario(prompt=8, new_tokens=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach=4", "unknown setting 'bach'"),
        ("enigne=eager", "unknown setting 'enigne'"),
        ("cpu,weights=int8", "weights 'int8' is not one of plain, packed"),
        ("chat=cpu,batch=many", "batch must be an integer, got 'many'"),
        ("cpu,name=a b", "a name is a word such as chat, got 'a b'"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(SettingError, match=message):
        Scenario.parse(text)
