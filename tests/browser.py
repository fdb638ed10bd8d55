"""A headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import pytest
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)
TIMEOUT = 60  # seconds
KEYS = {
    " ": ("Space", 32, " "),
    "End": ("End", 35, ""),
    "Home": ("Home", 36, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
}  # code, number and text of a key by its name


def find_chromium() -> str | None:
    """Path of the browser named by ``CHROMIUM``, or of the first one installed, or None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def unavailable(reason: str) -> NoReturn:
    """End a test that lacks what it looks at: a failure in CI, and a skip elsewhere."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


class Browser:
    """One tab. ``errors`` and ``requests`` hold what the page opened last complained of and asked for."""

    def __init__(self, *flags: str) -> None:
        """Start a browser with further flags; see `unavailable` for where there is none."""
        executable = find_chromium()
        if executable is None:
            unavailable("no Chromium was found; install it, or name one in the variable CHROMIUM")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [executable, *FLAGS, *flags, f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.count = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.loaded: set[str] = set()
        self.socket = websocket.create_connection(self._address(), timeout=TIMEOUT, suppress_origin=True)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)

    def _address(self) -> str:
        port = Path(self.profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if port.exists() and (lines := port.read_text().split()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                    pages = [target for target in json.load(answer) if target["type"] == "page"]
                if pages:
                    return pages[0]["webSocketDebuggerUrl"]
            time.sleep(0.1)
        raise TimeoutError(f"the browser did not start within {TIMEOUT} s")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.lifecycleEvent" and params["name"] == "load":
            self.loaded.add(params["loaderId"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(" ".join(str(arg.get("value", arg)) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a page and wait until it, its maths and its fonts are there."""
        self.errors, self.requests = [], []
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        loader = self.send("Page.navigate", url=url)["loaderId"]
        while loader not in self.loaded:
            self._note(json.loads(self.socket.recv()))
        mode = "dark" if dark else "light"
        self.run(f"document.documentElement.dataset.theme = '{mode}'")
        self.run("(async () => { await window.MathJax?.startup?.promise; await document.fonts.ready })()")

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page; promises are awaited."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def print(self) -> bytes:
        """The page as PDF, on the paper that its stylesheet names."""
        options = {"printBackground": True, "preferCSSPageSize": True, "generateTaggedPDF": False}
        return base64.b64decode(self.send("Page.printToPDF", **options)["data"])

    def press(self, key: str) -> None:
        """Press and release a key, by its name in `KEYS`, on what has the focus."""
        code, number, text = KEYS[key]
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def wait_for(self, script: str, patience: float = TIMEOUT) -> Any:
        """Value of a JavaScript expression, as soon as it is true."""
        deadline = time.monotonic() + patience
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{script} was not true within {patience} s; the page's errors: {self.errors}"
                )
            time.sleep(0.1)
        return value

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.profile.cleanup()
