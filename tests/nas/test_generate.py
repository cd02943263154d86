"""What `nas generate` prints: bytes as they are into a pipe, and nothing that a terminal obeys."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import torch

from search_spaces.network.model import build
from search_spaces.network.model_files import save_model
from tests.faults.models import SPEC

PROMPT = "a\x1b[31mb\u202e"


def test_control_characters_are_spelled_out_on_a_terminal(tmp_path: Path) -> None:
    model = build(SPEC, seed=0)
    with torch.no_grad():
        model.embedding.zero_()  # so that the likeliest byte is the first: NUL
    folder = save_model(model, tmp_path / "model")
    words = [sys.executable, "-m", "nas.cli", "generate", str(folder), "--prompt", PROMPT, "-n", "2"]
    words += ["--temperature", "0"]
    piped = subprocess.run(words, capture_output=True, check=True).stdout
    assert piped == f"{PROMPT}\0\0\n".encode()
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, stdout=theirs) as running:
        os.close(theirs)
        printed = b"".join(iter(lambda: _read(ours), b""))
        assert running.wait() == 0
    os.close(ours)
    assert printed.rstrip() == rb"a\x1b[31mb\u202e\x00\x00"


def _read(terminal: int) -> bytes:
    """What comes next from a terminal, piece by piece as it is printed; nothing once it is closed."""
    try:
        return os.read(terminal, 1000)
    except OSError:  # how Linux says that the other end is closed
        return b""
