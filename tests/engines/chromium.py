"""Debian's Chromium, headless, driven through Playwright, with a profile that lives as long as the browser."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Nothing but the page under test may ask the network for anything.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_MS = 60_000


def program() -> str:
    """Return the path of chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise RuntimeError("chromium is not installed: apt install chromium")
    return found


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Start a browser and end it. Playwright's event loop runs in this thread meanwhile: start none of your own."""
    # Chromium refuses to be root with its sandbox on.
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=[*QUIET, *sandbox], timeout=START_MS)
        try:
            yield browser
        finally:
            browser.close()
