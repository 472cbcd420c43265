"""Chromium, driven over its debugging protocol: what a page shows, and what it complains of."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--window-size=1200,1000",
)
# marimo keeps its widgets and charts in shadow roots.
EVERYTHING = """(() => { const found = []; const walk = (root) => root.querySelectorAll('*').forEach((e) => {
    found.push(e); if (e.shadowRoot) walk(e.shadowRoot); }); walk(document); return found; })()"""


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.count = socket, 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the protocol; complaints that come in between are kept."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=30))
            if message.get("id") == self.count:
                return message["result"]
            self._listen(message)

    def _listen(self, message: dict[str, Any]) -> None:
        given = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(given["exceptionDetails"].get("text", "") + str(given["exceptionDetails"]))
        if message.get("method") == "Runtime.consoleAPICalled" and given["type"] == "error":
            self.complaints.append(str(given["args"]))
        if message.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.complaints.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")

    def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        """Everything that is written on the page."""
        return self.evaluate("document.body.innerText") or ""

    def charts(self) -> list[str]:
        """The pictures on the page."""
        return self.evaluate(f"{EVERYTHING}.filter((e) => e.tagName == 'CANVAS').map((e) => e.toDataURL())") or []

    def settled(self) -> list[str]:
        """The pictures, once they are the same for half a second."""
        before: list[str] = []
        while not before or before != self.charts():
            before = self.charts()
            time.sleep(0.5)
        return before

    def choose(self, place: int, option: int) -> None:
        """Choose an option of the n-th dropdown, as a person would; negative places count from the end."""
        self.evaluate(f"""(() => {{
            const box = {EVERYTHING}.filter((e) => e.tagName == 'SELECT').at({place});
            box.selectedIndex = {option};
            box.dispatchEvent(new Event('change', {{bubbles: true}}));
        }})()""")

    def press(self, role: str, place: int, key: str) -> None:
        """Press a key on the n-th element of a role; negative places count from the end."""
        self.evaluate(f"{EVERYTHING}.filter((e) => e.getAttribute('role') == '{role}').at({place}).focus()")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


@contextmanager
def opened(url: str, profile: Path) -> Iterator[Page]:
    """A page in a browser of its own, whose profile is kept in a folder."""
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        wait_for(port_file.exists, 30)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            tab = next(tab for tab in json.load(answer) if tab["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            page = Page(socket)
            page.call("Page.navigate", url=url)
            yield page
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], Any], seconds: float) -> float:
    """Seconds until a condition holds.

    Raises:
        TimeoutError: if it does not in time.
    """
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > seconds:
            raise TimeoutError(f"nothing came within {seconds:g} s")
        time.sleep(0.1)
    return time.perf_counter() - started
