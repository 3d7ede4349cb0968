"""A real browser without a window, driven over its debugging pipe: pages, mouse, keys, pictures, downloads."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The browser reads commands from its descriptor 3 and writes answers to 4.
_START = "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 13); os.dup2(w, 14); os.dup2(13, 3)"
_START += "; os.dup2(14, 4); os.execv(sys.argv[3], sys.argv[3:])"


class Browser:
    """One browser with one page of 1000 times 700."""

    def __init__(self, path: str, home: Path) -> None:
        own, theirs = os.pipe(), os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--remote-debugging-pipe"]
        options += [f"--user-data-dir={home / 'profile'}", "--window-size=1000,700", "--no-first-run"]
        command = [sys.executable, "-c", _START, str(own[0]), str(theirs[1]), path, *options]
        with open(home / "browser.log", "wb") as log:
            self._process = subprocess.Popen(command, pass_fds=(own[0], theirs[1]), stdout=log, stderr=log)
        os.close(own[0])
        os.close(theirs[1])
        self._out, self._in = os.fdopen(own[1], "wb"), os.fdopen(theirs[0], "rb")
        self._number = 0
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Network.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=1000, height=700, deviceScaleFactor=1, mobile=False)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            answer = json.loads(self._read())
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> bytes:
        message = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        return bytes(message)

    def call(self, method: str, **parameters: Any) -> Any:
        """A command to the page."""
        return self._call(method, self._session, **parameters)

    def open(self, path: Path) -> None:
        """Load a page and wait for its script."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && typeof data === 'object'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A movement, press or release of the mouse, as a hand makes it."""
        button = {} if kind == "mouseMoved" and "buttons" not in more else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", **{"type": kind, "x": x, "y": y, **button, **more})

    def click(self, x: float, y: float) -> None:
        """A click at a place of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, x, y)

    def drag(self, places: list[tuple[float, float]], shift: bool = False) -> None:
        """Press at the first place, move to the others, release at the last."""
        modifiers = 8 if shift else 0
        self.mouse("mousePressed", *places[0], modifiers=modifiers)
        for place in places[1:]:
            self.mouse("mouseMoved", *place, modifiers=modifiers, buttons=1)
        self.mouse("mouseReleased", *places[-1], modifiers=modifiers)

    def download(self, folder: Path, action: Callable[[], None]) -> Path:
        """The file that an action of the page saves into an empty folder."""
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        action()
        end = time.monotonic() + 20
        while not (found := list(folder.glob("*.csv"))) and time.monotonic() < end:
            time.sleep(0.05)
        return found[0]

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(20)
        self._out.close()
        self._in.close()
