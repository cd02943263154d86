"""A cluster that wants a token is joined with it, or refused with that reason; one without, without."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation.errors import SettingError
from tests.forks import Ended, Fork, run_main
from tests.ray_heads import TOKEN, head

ray = pytest.importorskip("ray")

from nas.executors import ray_token  # noqa: E402
from nas.executors.ray_token import MODE, token_for  # noqa: E402

ANOTHER = "f" * 64


@pytest.fixture(autouse=True)
def no_token_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A home without a token; afterwards Ray knows again what it knew."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (MODE, ray_token.TOKEN, ray_token.TOKEN_FILE):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(tmp_path))
        yield
    ray_token.read_anew()


def wanting(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that wants this token, or none."""

    def answers(address: str, mode: str) -> bool:
        return token is None or (mode == "token" and os.environ.get(ray_token.TOKEN) == token)

    monkeypatch.setattr(ray_token, "_answers", answers)


@pytest.mark.parametrize(
    ("wants", "mode", "shown", "ends"),
    [
        (None, None, None, "disabled"),
        (None, None, TOKEN, "disabled"),  # workers of such a cluster could not answer
        (None, "disabled", TOKEN, "disabled"),
        (TOKEN, None, TOKEN, "token"),
        (TOKEN, "token", TOKEN, "token"),
        (TOKEN, None, None, "it wants a token: put it into RAY_AUTH_TOKEN, or into ~/.ray/auth_token"),
        (TOKEN, "token", None, "it wants a token: put it into RAY_AUTH_TOKEN"),
        (TOKEN, None, ANOTHER, "it wants another token than that of RAY_AUTH_TOKEN"),
        (TOKEN, "disabled", TOKEN, "it wants a token, and RAY_AUTH_MODE=disabled is set here"),
        (None, "token", TOKEN, "it wants no token, though RAY_AUTH_MODE=token is set here"),
    ],
)
def test_a_token_is_shown_to_who_wants_it(
    wants: str | None, mode: str | None, shown: str | None, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ((MODE, mode), (ray_token.TOKEN, shown)):
        if value is not None:
            monkeypatch.setenv(name, value)
    wanting(wants, monkeypatch)
    if " " in ends:
        with pytest.raises(SettingError, match=re.escape(ends)), token_for("head:6379"):
            raise AssertionError("it was joined")
    else:
        with token_for("head:6379"):
            assert os.environ[MODE] == ends
    assert os.environ.get(MODE) == mode


def test_the_place_of_a_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_token.place() == "~/.ray/auth_token"
    monkeypatch.setenv(ray_token.TOKEN_FILE, "/secrets/token")
    assert ray_token.place() == "RAY_AUTH_TOKEN_PATH (/secrets/token)"
    monkeypatch.setenv(ray_token.TOKEN, TOKEN)
    assert ray_token.place() == "RAY_AUTH_TOKEN"


SPACE = "from search_spaces import *\nfrom search_spaces.blocks.short_conv import ShortConv\n" + (
    "space = Space(Decoder(d_model=one_of(8, 16, 24, 32), layers=(Layer(sequence_mixer=ShortConv()),)))\n"
)


@pytest.mark.slow  # two heads start, and workers that import torch
@pytest.mark.parametrize("wants", [True, False], ids=["with a token", "without"])
def test_a_search_joins_clusters_with_and_without_tokens(tmp_path: Path, wants: bool) -> None:
    (tmp_path / "own.py").write_text(SPACE)

    def search(**environment: str) -> Ended:
        words = f"search own.py --name a --ray {address} -o weight_bytes -o decode_flops --trials 4"
        words += " --finalists 0 --strategy random"
        return Fork(_in_folder, str(tmp_path), tuple(words.split()), environment=environment).wait(300)

    with head({MODE: "token", ray_token.TOKEN: TOKEN} if wants else {MODE: "disabled"}) as address:
        if wants:
            for given, reason in (({}, "it wants a token"), ({ray_token.TOKEN: ANOTHER}, "another token")):
                refused = search(**given)
                assert refused.returncode == 2
                assert f"cannot join the Ray cluster at {address}: it wants a" in refused.stderr
                assert reason in refused.stderr
                assert len(refused.stderr.splitlines()) == 1
        found = search(**{ray_token.TOKEN: TOKEN})
    assert found.returncode == 0, found
    assert "2 Ray actors of 1 CPU each: as many as fit (--workers for fewer)" in found.stderr


def _in_folder(folder: str, words: tuple[str, ...]) -> None:
    os.chdir(folder)
    run_main(words)
