"""A headless Chromium, driven through its own debugging pipe: a real mouse, real keys, no package needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
SECONDS = 30.0


def installed() -> str | None:
    """The first browser that starts: some systems have a stand-in that only says how to install it."""
    for name in NAMES:
        found = shutil.which(name)
        if found and subprocess.run([found, "--version"], capture_output=True, timeout=60).returncode == 0:
            return found
    return None


class Chromium:
    """One page of a browser; `console` has its errors and warnings, the policy's included."""

    def __init__(self, program: str, profile: Path) -> None:
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()
        # The browser reads from descriptor 3 and writes to 4. Other shells know only descriptors below 10.
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{read_end} 4>&{write_end}', program]
        self._process = subprocess.Popen(
            [*shell, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read_end, write_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (read_end, write_end):
            os.close(end)
        self._rest, self._number, self._loaded = b"", 0, False
        self._session: str | None = None
        self.console: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        self.send("Browser.close")
        self._process.wait(timeout=SECONDS)
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the DevTools protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            content = os.read(self._from, 1 << 20) if ready else b""
            if not content:
                raise TimeoutError("the browser did not answer")
            self._rest += content
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.console.append(values["entry"]["text"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.console.append(str(values["exceptionDetails"]))
        if event.get("method") == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.console.append(str(values["args"]))
        if event.get("method") == "Page.loadEventFired":
            self._loaded = True

    def open(self, address: str) -> None:
        """Load a page and wait until its scripts have run and a frame was drawn."""
        self.console.clear()
        self._loaded = False
        self.send("Page.navigate", url=address)
        while not self._loaded:
            self._read()
        self.settle()

    def settle(self) -> None:
        """Wait for two frames, so that what was asked for is drawn."""
        wait = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
        self.send("Runtime.evaluate", expression=wait, awaitPromise=True)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element in the window, after scrolling to it."""
        box = self.value(
            f"(() => {{ const item = document.querySelector({json.dumps(selector)}); "
            "item.scrollIntoView({block: 'center', behavior: 'instant'}); "
            "const {x, y, width, height} = item.getBoundingClientRect(); return [x, y, width, height]; })()"
        )
        left, top, width, height = box
        return left, top, width, height

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event at a place of the window."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def press(self, selector: str) -> None:
        """Click an element in its middle."""
        left, top, width, height = self.place(selector)
        middle = left + width / 2, top + height / 2
        self.mouse("mouseMoved", *middle)
        self.mouse("mousePressed", *middle, button="left", clickCount=1)
        self.mouse("mouseReleased", *middle, button="left", clickCount=1)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place of the window to another."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, button="left", buttons=1, clickCount=1)
        for share in (0.5, 1.0):
            x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", clickCount=1)
        self.settle()

    def write(self, selector: str, text: str) -> None:
        """Replace the text of a field, as if typed."""
        self.press(selector)
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        if text:
            self.send("Input.insertText", text=text)
        else:
            for kind in ("keyDown", "keyUp"):
                key = {"key": "Delete", "code": "Delete", "windowsVirtualKeyCode": 46}
                self.send("Input.dispatchKeyEvent", type=kind, **key)
        self.settle()

    def choose(self, label: str, option: str) -> None:
        """Choose an option of the list with this label."""
        self.value(
            "(() => { const label = [...document.querySelectorAll('label.control')]"
            f".find(item => item.textContent.startsWith({json.dumps(label)})); "
            f"const list = label.querySelector('select'); list.value = {json.dumps(option)}; "
            "list.dispatchEvent(new Event('change')); })()"
        )
        self.settle()

    def size(self, width: int, height: int) -> None:
        """Set the size of the window in pixels."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **sizes)
        self.settle()

    def prefer(self, scheme: str) -> None:
        """Let the system prefer `light` or `dark` pages."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)
        self.settle()

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a screenshot of the window, or of the whole page."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
