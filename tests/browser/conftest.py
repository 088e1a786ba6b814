"""The real app in a process of its own, and a real browser that looks at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]

LEAVING = ("AbortError", "errored out")  # gradio says so of what it had asked for when a visitor leaves the page


expect.set_options(timeout=20_000)  # a shared machine is slow at times; what must never come is waited for no longer


class App:
    """The app as a browser sees it. `faults` collects what no page may do."""

    def __init__(self, address: str, home: Path, browser: Browser) -> None:
        self.address, self.home, self._browser = address, home, browser
        self.faults: list[str] = []

    def open(self, path: str = "", *, width: int = 1440, height: int = 900) -> Page:
        """A page of the app in a new window, loaded and filled."""
        page = self._browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self._note_console(said.type, said.text))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("request", self._note_elsewhere)
        page.goto(f"{self.address}/{path}")
        page.locator("h1").wait_for()
        return page

    def _note_console(self, kind: str, text: str) -> None:
        if kind == "error" and not any(words in text for words in LEAVING):
            self.faults.append(f"console: {text}")

    def _note_elsewhere(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.faults.append(f"asks elsewhere: {request.url}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; the tests are skipped without one, except where CI=true, where that is a failure."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("there is no chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def serve(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., object]:
    """serve(home, command): the lab over a home while a block runs."""

    @contextmanager
    def serving(home: Path, *command: str) -> Iterator[App]:
        port = free_port()
        log = (tmp_path_factory.mktemp("log") / "app.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, *command, *(["--port", str(port), "--no-open"] if "serve" in command else [])],
            cwd=ROOT,
            env=os.environ | {"SYNPO_LAB_HOME": str(home), "GRADIO_SERVER_PORT": str(port)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            await_answer(f"http://127.0.0.1:{port}/", process, Path(log.name))
            yield App(f"http://127.0.0.1:{port}", home, browser)
        finally:
            process.terminate()
            process.wait(20)
            log.close()

    return serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_answer(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"the app did not answer at {address}:\n{log.read_text()[-2000:]}")
