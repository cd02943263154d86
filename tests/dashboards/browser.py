"""Chromium without a window, driven through a pipe: a page at any width, in either scheme, and as printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)
READ, WRITE = 3, 4
"""File descriptors on which the browser reads commands and writes answers; each ends in a zero byte."""

PATIENCE = 240
"""Seconds after which a browser is ended that does not answer."""

KEYS = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}

LOADED = """
new Promise(done => {
  const wait = () => document.readyState === "complete" ? setTimeout(done, 500) : setTimeout(wait, 50);
  wait();
})
"""


class Browser:
    """One page of a running browser."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._session = 0, dict[str, str]()
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        self.call("Page.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The answer to a command of the DevTools protocol."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters, **self._session}
        self._commands.write(json.dumps(command).encode() + b"\0")
        while True:
            answer = self._next()
            if "method" in answer:
                self.events.append(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            text += byte
        answer: dict[str, Any] = json.loads(text)
        return answer

    def open(self, page: Path | str, width: int, *, dark: bool = False) -> None:
        """Show a file or an address, so many pixels wide."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.value(LOADED)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is in the page."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression holds in the page."""
        end = time.monotonic() + seconds
        while not self.value(f"!!({expression})"):
            assert time.monotonic() < end, (
                f"never came: {expression}\n{self.value('document.body.innerText')}"
            )
            time.sleep(0.05)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key of the keyboard."""
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key]
                )

    def click(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window, and click there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with its files in `profile`; it is ended at the end of the block."""
    assert CHROMIUM is not None
    (inward, commands), (answers, outward) = os.pipe(), os.pipe()

    def connect() -> None:
        far = [os.dup2(inward, 103), os.dup2(outward, 104)]  # not to overwrite one that lies at 3 or 4
        os.dup2(far[0], READ)
        os.dup2(far[1], WRITE)

    started = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=connect,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(inward)
    os.close(outward)
    patience = Timer(PATIENCE, started.kill)  # reading its answers ends with it
    patience.start()
    with os.fdopen(commands, "wb", 0) as ours, os.fdopen(answers, "rb") as theirs:
        try:
            yield Browser(ours, theirs)
        finally:
            patience.cancel()
            started.terminate()
            started.wait()
