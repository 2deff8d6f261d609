"""The operator page in a real browser: opening it, waiting for it, and noting of what it complains."""

import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, Request

from engines.demo import Demo

WAIT_MS = 20_000
SIZES = ((1366, 768), (1920, 1080))
LIVE = "window.quayflow?.state().link === 'live' && Object.keys(window.quayflow.positions()).length > 60"
TRUCK = re.compile(r"[A-Z]T\d+")


@dataclass
class Seen:
    """What a browser context has said and asked for."""

    origin: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Note errors of the console, uncaught exceptions and requests to other hosts."""
        context.on("console", lambda message: self._console(message.type, message.text))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._request)

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(f"{kind}: {text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith(self.origin):
            self.strangers.append(request.url)


@contextmanager
def opened(browser: Browser, demo: Demo, path: str = "/", **options: Any) -> Iterator[tuple[Page, Seen]]:
    seen = Seen(demo.url)
    options = {"viewport": {"width": 1366, "height": 768}, "locale": "en-GB", "color_scheme": "dark", **options}
    context = browser.new_context(**options)
    context.set_default_timeout(WAIT_MS)
    seen.watch(context)
    try:
        page = context.new_page()
        page.goto(demo.url + path)
        yield page, seen
    finally:
        context.close()


@contextmanager
def clean(browser: Browser, demo: Demo, path: str = "/", **options: Any) -> Iterator[Page]:
    """Open the page; at the end it must have complained of nothing and asked nobody else for anything."""
    with opened(browser, demo, path, **options) as (page, seen):
        yield page
        assert page.evaluate("window.quayflow ? window.quayflow.problems() : []") == []
    assert seen.complaints == []
    assert seen.strangers == []


def publish(demo: Demo, topic: str, payload: str) -> None:
    """Publish as a person would, with the command that the README and the panel name."""
    command = shutil.which("mosquitto_pub")
    assert command is not None, "mosquitto_pub is not installed: apt install mosquitto-clients"
    said = [command, "-p", str(demo.broker_port), "-q", "1", "-t", topic, "-m", payload]
    subprocess.run(said, check=True, timeout=20)


def wait_heard(demo: Demo, device: str) -> None:
    """Wait until the API knows a device: a panel opened earlier asks in vain, which the browser's console notes."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while httpx.get(f"{demo.url}/v1/devices/{device}").status_code != HTTPStatus.OK:
        assert time.monotonic() < deadline, f"{device} is not heard"
        time.sleep(0.1)


def positions(page: Page) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = page.evaluate("window.quayflow.positions()")
    return found


def until(page: Page, expression: str, timeout_ms: float = WAIT_MS) -> None:
    """Poll until an expression is true; the page's content policy forbids Playwright's own way, which is eval."""
    deadline = time.monotonic() + timeout_ms / 1000
    while not page.evaluate(expression):
        if time.monotonic() > deadline:
            raise AssertionError(f"{expression} within {timeout_ms:g} ms")
        page.wait_for_timeout(100)


def wait_live(page: Page) -> None:
    until(page, LIVE)


def moved_m(before: dict[str, Any], after: dict[str, Any]) -> float:
    return math.hypot(after["x"] - before["x"], after["y"] - before["y"])


def wait_for_motion(page: Page) -> str:
    """Return the truck that has moved most, as soon as one has gone 3 m."""
    before = {name: at for name, at in positions(page).items() if TRUCK.fullmatch(name)}
    deadline = time.monotonic() + WAIT_MS / 1000
    while time.monotonic() < deadline:
        page.wait_for_timeout(250)
        after = positions(page)
        moved = {name: moved_m(at, after[name]) for name, at in before.items() if name in after}
        name = max(moved, key=lambda truck: moved[truck])
        if moved[name] > 3:
            return name
    raise AssertionError(f"no truck of {len(before)} moved")
