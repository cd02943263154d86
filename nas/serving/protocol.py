"""OpenAI's completions protocol: what a body may hold, what an answer looks like, and what errors look like.

https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluators.tokens.vocabulary import BYTES, Vocabulary
from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from foundation.text import count
from nas.serving.requests import Chosen, Sampling

SAMPLED = ("max_tokens", "temperature", "top_p", "seed", "logprobs", "stop")
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": (None, ""),
    "presence_penalty": (0, None),
    "frequency_penalty": (0, None),
    "logit_bias": (None, {}),
}
"""What is part of the protocol and not offered here: values that ask for nothing are taken."""

KNOWN = ("model", "prompt", "stream", "stream_options", "user", *SAMPLED, *NEUTRAL)
MOST_STOPS, LONGEST_STOP, MOST_PROMPTS = 4, 1000, 128


class Malformed(SettingError):
    """A body that cannot be answered; `param` is the field that is wrong."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Asked:
    """A body of /v1/completions, read: the tokens of each prompt, and how they are continued."""

    model: str
    prompts: tuple[tuple[int, ...], ...]
    sampling: Sampling
    stream: bool = False
    usage: bool = False
    """Whether a stream ends with the number of tokens."""

    name: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))


def read_body(body: Any, models: Sequence[str], vocabulary: Vocabulary) -> Asked:
    """What a body asks of one of the models of these names; the first of them is the base.

    Raises:
        Malformed: a field is unknown, missing, of the wrong type or out of range.
        UnknownName: there is no such model.
    """
    if not isinstance(body, dict):
        raise Malformed("the body must be a JSON object")
    for name, value in body.items():
        if name not in KNOWN:
            raise Malformed(f"there is no field {name!r}; {nearest(name, KNOWN)}", name)
        if name in NEUTRAL and value not in NEUTRAL[name]:
            raise Malformed(f"{name} is not offered here: leave it out", name)
    if body.get("model") is None:
        raise Malformed(f"model is missing: this server has {models[0]!r}", "model")
    if body["model"] not in models:
        more = f" and {count(len(models) - 1, 'adapter')} of it (/v1/models)" if len(models) > 1 else ""
        raise UnknownName(f"there is no model {body['model']!r:.80}: this server has {models[0]!r}{more}")
    options = body.get("stream_options") or {}
    if not isinstance(options, dict) or not set(options) <= {"include_usage"}:
        raise Malformed("stream_options may hold include_usage alone", "stream_options")
    return Asked(
        body["model"],
        _prompts(body.get("prompt"), vocabulary),
        _sampling(body),
        _flag(body, "stream"),
        _flag(options, "include_usage"),
    )


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        raise Malformed(f"{name} must be true or false", name)
    return bool(value)


def _prompts(prompt: Any, vocabulary: Vocabulary) -> tuple[tuple[int, ...], ...]:
    """The tokens of one or several prompts, each a text or tokens."""
    wrong = "prompt must be a text, a list of tokens, or a list of such"
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and isinstance(prompt[0], int)):
        prompt = [prompt]
    if not isinstance(prompt, list) or not prompt:
        raise Malformed(wrong, "prompt")
    if len(prompt) > MOST_PROMPTS:
        raise Malformed(f"{len(prompt)} prompts at once are more than {MOST_PROMPTS}", "prompt")
    read = []
    for each in prompt:
        if isinstance(each, str):
            tokens = vocabulary.prompt(each.encode("utf-8", "replace"))
        elif isinstance(each, list) and all(type(token) is int for token in each):
            tokens = each
        else:
            raise Malformed(wrong, "prompt")
        if not tokens:
            raise Malformed("a prompt has no tokens", "prompt")
        read.append(tuple(tokens))
    return tuple(read)


def _sampling(body: Mapping[str, Any]) -> Sampling:
    given = {name: body[name] for name in SAMPLED if body.get(name) is not None}
    stop = given.pop("stop", ())
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, (list, tuple)) or not all(isinstance(each, str) and each for each in stops):
        raise Malformed("stop must be a text or a list of texts, none of them empty", "stop")
    if len(stops) > MOST_STOPS or any(len(each) > LONGEST_STOP for each in stops):
        raise Malformed(f"stop may be {MOST_STOPS} texts of {LONGEST_STOP} characters", "stop")
    for name, value in given.items():
        if isinstance(value, (str, bool, list, dict)):
            raise Malformed(f"{name} must be a number, got {value!r:.40}", name)
        try:
            Sampling.from_plain({name: value})
        except SettingError as error:
            raise Malformed(str(error), name) from None
    return Sampling.from_plain({**given, "stop": list(stops)})


def completion(asked: Asked, choices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """An answer, or a part of one in a stream."""
    return {
        "id": asked.name,
        "object": "text_completion",
        "created": asked.created,
        "model": asked.model,
        "choices": list(choices),
        **more,
    }


def choice(index: int, text: str, finish: str | None, logprobs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The answer to one prompt."""
    return {"index": index, "text": text, "finish_reason": finish, "logprobs": logprobs}


def usage(asked: Asked, new_tokens: int) -> dict[str, int]:
    """Tokens that were read and written."""
    read = sum(map(len, asked.prompts))
    return {"prompt_tokens": read, "completion_tokens": new_tokens, "total_tokens": read + new_tokens}


def logprobs_of(chosen: Sequence[Chosen], offset: int, vocabulary: Vocabulary) -> dict[str, Any]:
    """Log-probabilities of tokens, the first of which begins at `offset` of the answer's text."""
    names = [spelled(each.token, vocabulary) for each in chosen]
    offsets = [offset]
    for name in names[:-1]:
        offsets.append(offsets[-1] + (0 if ":" in name and len(name) > 1 else len(name)))
    tops = [{spelled(t, vocabulary): log for t, log in each.top} for each in chosen]
    return {
        "tokens": names,
        "token_logprobs": [each.logprob for each in chosen],
        "top_logprobs": tops,
        "text_offset": offsets[: len(names)],
    }


def spelled(token: int, vocabulary: Vocabulary) -> str:
    """A token as text; one that is no text of its own by its bytes, or its number."""
    stream = vocabulary.stream([])
    text = stream.push(token) + stream.end()
    if text and "\N{REPLACEMENT CHARACTER}" not in text:
        return text
    return f"bytes:\\x{token:02x}" if vocabulary.size == BYTES else f"token_id:{token}"


def problem(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error as clients of OpenAI's read it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
