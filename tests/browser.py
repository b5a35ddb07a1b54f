"""A headless Chromium, driven over chromedriver's own HTTP; no further package. Skips loudly where there is none."""

import base64
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers import free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id, by the WebDriver standard

TAB, ENTER = "\ue004", "\ue007"


class Browser:
    """One window. Scripts are the body of a function and return JSON."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._session = session

    def _call(self, method: str, path: str, body: object | None = None) -> object:
        answer = self._http.request(method, f"/session/{self._session}/{path}", json=body if method == "POST" else None).json()
        if isinstance(answer["value"], dict) and "error" in answer["value"]:
            raise AssertionError(f"{path}: {answer['value']['error']}: {answer['value']['message'].splitlines()[0]}")
        return answer["value"]

    def open(self, url: str) -> None:
        self._call("POST", "url", {"url": url})

    def run(self, script: str, *arguments: object) -> object:
        return self._call("POST", "execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, seconds: float = 60.0) -> object:
        """The script's first answer that is not false, null, 0 or empty."""
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            if time.monotonic() > end:
                raise AssertionError(f"never true within {seconds} s: {script}")
            time.sleep(0.05)
        return found

    def type(self, selector: str, text: str) -> None:
        element = self._call("POST", "element", {"using": "css selector", "value": selector})
        self._call("POST", f"element/{element[ELEMENT]}/value", {"text": text})

    def press(self, keys: str) -> None:
        """Type into whatever has the focus, as somebody without a mouse does; TAB and ENTER are keys too."""
        element = self._call("GET", "element/active")
        self._call("POST", f"element/{element[ELEMENT]}/value", {"text": keys})

    def click(self, selector: str) -> None:
        element = self._call("POST", "element", {"using": "css selector", "value": selector})
        self._call("POST", f"element/{element[ELEMENT]}/click", {})

    def resize(self, width: int, height: int) -> None:
        self._call("POST", "window/rect", {"width": width, "height": height})

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self._call("GET", "screenshot")))

    def console(self) -> list[str]:
        """What the page's console said that is worth a look: refused loads and uncaught errors among it."""
        return [entry["message"] for entry in self._call("POST", "se/log", {"type": "browser"}) if entry["level"] in ("SEVERE", "WARNING")]


@contextlib.contextmanager
def chromium(width: int = 1440, height: int = 900) -> Iterator[Browser]:
    """Start Chromium and its driver, and end both."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("NO CHROMIUM: install chromium and chromium-driver to test the explorer's page")
    port = free_port()
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=240) as http:
            _await(lambda: http.get("/status").json()["value"]["ready"])
            session = http.post("/session", json=_capabilities(browser, width, height)).json()["value"]
            assert "sessionId" in session, session
            yield Browser(http, session["sessionId"])
            http.delete(f"/session/{session['sessionId']}")
    finally:
        process.terminate()
        process.wait(60)


def _capabilities(browser: str, width: int, height: int) -> object:
    arguments = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage", f"--window-size={width},{height}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's sandbox refuses to run as root
    options = {"binary": browser, "args": arguments}
    return {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}}


def _await(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        if time.monotonic() > end:
            raise AssertionError("chromedriver did not start")
        time.sleep(0.05)
