"""`nas serve` in a process of its own, asked by the client library of OpenAI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
import torch

from evaluators.compression.adapters import write_adapter
from evaluators.tokens.vocabulary import ByteVocabulary
from nas import cli
from nas.serving.server import engine_of
from nas.serving.settings import ServerSettings
from nas.training.start import start_of
from search_spaces.network.model import build
from search_spaces.zoo import zoo
from tests.nas.serving.networks import Answers, greedy
from tests.nas.serving.test_adapters import adapter, merged

PROGRAM = "from nas.start import main; main()"
WORDS = ("serve", "zoo:transformer", "--port", "0", "--rows", "2", "--queue", "1", "--context", "4000")
ADAPTED = "soft"
PROMPT, PATIENCE = "def f(x):", 60.0


@dataclass
class Server:
    process: subprocess.Popen[str]
    client: openai.OpenAI
    http: httpx.Client

    def ask(self, **words: Any) -> Any:
        asked = {"model": "transformer", "prompt": PROMPT, "temperature": 0, "max_tokens": 8, **words}
        return self.client.completions.create(**asked)

    def metric(self, name: str) -> float:
        [line] = [row for row in self.http.get("/metrics").text.splitlines() if row.startswith(f"{name} ")]
        return float(line.split()[1])

    def until(self, name: str, value: float) -> None:
        """Wait until a metric has a value."""
        end = time.monotonic() + PATIENCE
        while self.metric(name) != value:
            assert time.monotonic() < end, f"{name} is {self.metric(name)}, not {value}"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("adapters") / ADAPTED
    folder.mkdir()
    write_adapter(folder, adapter(build(zoo["transformer"].spec, seed=0), 1))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *WORDS, "--adapters", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("transformer is served at http://127.0.0.1:"), line
    address = line.split()[-1]
    with (
        process,
        openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=PATIENCE) as client,
        httpx.Client(base_url=address.removesuffix("/v1"), timeout=PATIENCE) as http,
    ):
        yield Server(process, client, http)
        if process.poll() is None:
            process.kill()


def test_an_answer_is_that_of_the_network(server: Server) -> None:
    model = build(zoo["transformer"].spec, seed=0).eval()
    tokens = list(PROMPT.encode())
    stream = ByteVocabulary().stream(tokens)
    expected = "".join(stream.push(int(t)) for t in model.generate(torch.tensor([tokens]), 12)[0])
    answer = server.ask(max_tokens=12, logprobs=1)
    assert answer.choices[0].text == expected + stream.end()
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs.tokens[0] in answer.choices[0].logprobs.top_logprobs[0]
    assert answer.usage.total_tokens == len(tokens) + 12


def test_the_model_of_a_request_is_the_base_or_an_adapter_of_it(server: Server) -> None:
    model = build(zoo["transformer"].spec, seed=0).double().eval()
    tokens = torch.tensor([list(PROMPT.encode())])
    own = merged(model, adapter(model.float(), 1)).float()
    stream = ByteVocabulary().stream(tokens[0].tolist())
    expected = "".join(stream.push(int(t)) for t in own.generate(tokens, 6)[0])
    answer = server.ask(model=ADAPTED, max_tokens=6)
    assert (answer.model, answer.choices[0].text) == (ADAPTED, expected + stream.end())
    assert answer.choices[0].text != server.ask(max_tokens=6).choices[0].text
    listed = server.http.get("/v1/models").json()["data"]
    assert [(each["id"], each.get("parent")) for each in listed] == [
        ("transformer", None),
        (ADAPTED, "transformer"),
    ]


def test_streams_have_the_same_pieces_and_end_with_a_count(server: Server) -> None:
    whole = server.ask(max_tokens=12, prompt=[PROMPT, "x = "])
    parts = list(
        server.ask(
            max_tokens=12, prompt=[PROMPT, "x = "], stream=True, stream_options={"include_usage": True}
        )
    )
    for index in (0, 1):
        mine = [each for part in parts for each in part.choices if each.index == index]
        assert "".join(each.text for each in mine) == whole.choices[index].text
        assert [each.finish_reason for each in mine][-1] == "length"
    assert parts[-1].usage == whole.usage


def test_a_seed_repeats_a_draw_and_a_stop_string_ends_it(server: Server) -> None:
    once, again = (server.ask(temperature=1.0, seed=5, max_tokens=20).choices[0].text for _ in range(2))
    assert once == again
    stopped = server.ask(temperature=1.0, seed=5, max_tokens=20, stop=once[5:7]).choices[0]
    assert stopped.text == once[: once.index(once[5:7])]
    assert stopped.finish_reason == "stop"


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        ({"model": "gpt"}, 404, "no model 'gpt': this server has 'transformer' and 1 adapter of it"),
        ({"extra_body": {"model": None}}, 400, "model is missing: this server has 'transformer'"),
        ({"prompt": "a" * 4000}, 400, "more than the context of 4000"),
        ({"max_tokens": 0}, 400, "max_tokens must be at least 1"),
        ({"prompt": ""}, 400, "no tokens"),
        ({"prompt": [3, 256]}, 400, "tokens from 0 to 255"),
        ({"prompt": [[1], "a", None]}, 400, "prompt must be"),
        ({"temperature": "hot"}, 400, "temperature must be a number"),
        ({"n": 2}, 400, "n is not offered"),
        ({"extra_body": {"max_token": 3}}, 400, "did you mean 'max_tokens'"),
        ({"prompt": ["a"] * 4}, 400, "4 prompts are more than the 3 that run and wait"),
        ({"prompt": "a" * 2**23}, 413, "8,388,608 bytes"),
    ],
)
def test_wrong_requests_are_refused_in_words(
    server: Server, words: dict[str, Any], status: int, reason: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=reason) as refused:
        server.ask(**words)
    assert refused.value.status_code == status
    assert refused.value.type == "invalid_request_error"


def test_what_no_client_library_sends_is_refused_too(server: Server) -> None:
    post, json = server.http.post, {"content-type": "application/json"}
    assert post("/v1/completions", content="{}").status_code == 415
    for body in (b"{", b"[1]", b"\xff", b"[" * 10**5, b'{"prompt": NaN}', b'{"stream": 1}'):
        refused = post("/v1/completions", content=body, headers=json)
        assert refused.status_code in (400, 404)
        assert refused.json()["error"]["message"]
    assert server.http.get("/v1/completions").status_code == 405
    chat = post("/v1/chat/completions", json={"model": "transformer", "messages": []})
    assert (chat.status_code, chat.json()["error"]["code"]) == (404, "no_chat_template")
    assert "prompt of /v1/completions" in chat.json()["error"]["message"]
    assert "there is no /v1/completion here: /v1/c" in post("/v1/completion").json()["error"]["message"]
    assert server.http.get("/health", headers={"host": "elsewhere.example"}).status_code == 400
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.http.get("/v1/models/transformer").json()["object"] == "model"


def test_a_full_queue_is_told_and_clients_that_leave_free_their_slots(server: Server) -> None:
    with ExitStack() as streams:
        for _ in range(3):
            body = {"model": "transformer", "prompt": PROMPT, "max_tokens": 3900, "stream": True}
            streams.enter_context(server.http.stream("POST", "/v1/completions", json=body))
        server.until("nas_requests_running", 2)
        assert server.metric("nas_requests_waiting") == 1
        with pytest.raises(openai.RateLimitError, match="3 requests run or wait already") as refused:
            server.ask()
        assert refused.value.response.headers["retry-after"] == "1"
    server.until("nas_requests_running", 0)
    assert server.metric("nas_requests_waiting") == 0
    assert server.metric('nas_state_bytes{kind="held"}') == 0
    assert server.metric('nas_requests_total{finish="cancelled"}') == 3


def test_a_signal_lets_running_requests_end(server: Server) -> None:
    """The last one: the server is gone afterwards."""
    stream = iter(server.ask(max_tokens=40, stream=True))
    next(stream)
    server.process.send_signal(signal.SIGTERM)
    rest = list(stream)
    assert rest[-1].choices[0].finish_reason == "length"
    assert server.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert server.process.stderr is not None
    assert server.process.stderr.read().splitlines()[-1] == "stopped", "a server saves nothing"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--device cuda:9", "device cuda:9: this process may use no GPU"),
        ("--device tpu", "cpu or cuda"),
        ("--dtype int8", "dtype"),
    ],
)
def test_a_device_or_type_that_is_not_there_is_refused(
    words: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["serve", "zoo:transformer", *words.split()]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())


def test_a_network_is_served_in_few_bits() -> None:
    start = start_of("zoo:transformer")
    engine = engine_of(start, "net", ServerSettings(dtype="bfloat16", context=64, rows=2))
    assert {leaf.store.dtype for layer in engine.pool.layers for leaf in layer} == {torch.bfloat16}
    answers = Answers(engine)
    answers.ask(list(b"def "), max_tokens=4)
    answers.run()
    assert answers.tokens(0) == greedy(engine.model, list(b"def "), 4)
