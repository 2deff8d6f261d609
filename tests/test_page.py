"""The operator page in a real browser, against a whole running installation."""

import itertools
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from analytics.detectors.gates import PassageRules
from devices.rejects import Reason
from devices.vocabulary import METRICS, DeviceClass
from engines.chromium import running_chromium
from engines.demo import Demo, running_demo
from store.device_health import Cause

WAIT_MS = 20_000
SIZES = ((1366, 768), (1920, 1080))
LIVE = "window.quayflow?.state().link === 'live' && Object.keys(window.quayflow.positions()).length > 60"
CUT_OFF = """() => {
    const watched = '.figure, .figure h2, .figure .value, header *, .chart-head *, .panel-head *';
    return [...document.querySelectorAll(watched)]
        .filter(element => getComputedStyle(element).display !== 'inline')
        .filter(element => element.scrollWidth > element.clientWidth + 1)
        .map(element => element.id || element.className || element.tagName);
}"""
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


OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Demo]:
    assert (root / "api/static/index.html").is_file(), "the page is not built: npm --prefix web run build"
    with running_demo(tmp_path_factory.mktemp("demo"), "--seed", "7") as running:
        yield running
    assert running.result is not None
    assert running.result["ledger_balanced"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while it runs, no test in this thread can start an event loop.
    with running_chromium() as browser:
        yield browser


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


def test_a_moving_truck_moves_smoothly_and_nothing_complains(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo) as page:
        wait_live(page)
        name = wait_for_motion(page)
        # Between two updates of a second the truck is drawn at many places, none far from the one before.
        way = page.evaluate(
            """async name => {
                const way = [];
                for (let frame = 0; frame < 40; frame += 1) {
                    way.push(window.quayflow.positions()[name]);
                    await new Promise(requestAnimationFrame);
                    await new Promise(requestAnimationFrame);
                }
                return way;
            }""",
            name,
        )
        steps = [moved_m(a, b) for a, b in itertools.pairwise(way)]
        assert max(steps) < 6
        assert sum(step > 0 for step in steps) > 3 or sum(steps) == 0


def test_every_figure_is_filled_and_explains_itself(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo) as page:
        wait_live(page)
        for name in ("moves", "gates", "messages", "age", "ledger", "devices"):
            expect(page.locator(f"#figure-{name} .value b")).to_have_text(re.compile(r"\d|balanced"))
        expect(page.locator("#figure-ledger")).to_have_attribute("data-verdict", "ok")
        expect(page.locator("#figure-moves .trace rect")).to_have_count(4)
        page.focus("#figure-moves")
        about = page.locator("#about")
        expect(about).to_contain_text("moves_per_hour v1")
        expect(about).to_contain_text(re.compile(r"Complete through\s*\d\d:\d\d:\d\d"))
        expect(about).to_contain_text("Coverage")
        expect(about).to_contain_text("/v1/throughput?group_by=crane")
        page.keyboard.press("Escape")
        expect(about).to_be_hidden()


def test_texts_follow_the_language_and_the_choice_is_remembered(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo) as page:
        wait_live(page)
        expect(page.locator("#figure-moves h2")).to_have_text("Quay crane moves")
        page.click("[data-language=zh]")
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        expect(page.locator("#figure-moves h2")).to_have_text("岸桥作业效率")
        expect(page.locator("#link-text")).to_have_text("实时")
        expect(page.locator("#chart-metric option").first).to_have_text("小车位置")
        page.reload()
        expect(page.locator("#figure-gates h2")).to_have_text("闸口过车")
    with clean(browser, demo, "/?lang=zh") as page:
        expect(page.locator("#figure-gates h2")).to_have_text("闸口过车")
    with clean(browser, demo, locale="zh-CN") as page:
        expect(page.locator("#figure-gates h2")).to_have_text("闸口过车")


def test_colours_follow_the_system_until_a_person_chooses(browser: Browser, demo: Demo) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with clean(browser, demo) as page:
        wait_live(page)
        dark = page.evaluate(background)
        page.click("[data-theme-choice=light]")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        assert page.evaluate(background) != dark
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
    with clean(browser, demo, color_scheme="light") as page:
        expect(page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_all_fits_on_one_screen(browser: Browser, demo: Demo, size: tuple[int, int], language: str) -> None:
    width, height = size
    with clean(browser, demo, f"/?lang={language}", viewport={"width": width, "height": height}) as page:
        wait_live(page)
        # Of a port that has just begun, the chart waits for its first points.
        expect(page.locator("#plot canvas")).to_be_visible(timeout=20_000)
        extent = "(root => [root.scrollWidth, root.scrollHeight])(document.documentElement)"
        assert page.evaluate(extent) == [width, height]
        assert page.evaluate(CUT_OFF) == []
        # Every crane and every lane is on the map, inside the canvas.
        canvas = page.locator("#map").bounding_box()
        assert canvas is not None
        fixed = [at for name, at in positions(page).items() if re.match(r"[QY]C|GATE", name)]
        assert len(fixed) == 14
        assert all(0 < at["px"] < canvas["width"] and 0 < at["py"] < canvas["height"] for at in fixed)
        # So is every truck, wherever it has driven meanwhile, and none lies behind the legend.
        wait_for_motion(page)
        legend = page.locator(".legend").bounding_box()
        assert legend is not None
        bottom = legend["y"] - canvas["y"]
        trucks = {name: at for name, at in positions(page).items() if TRUCK.fullmatch(name)}
        assert len(trucks) > 40
        assert [name for name, at in trucks.items() if not (0 < at["px"] < canvas["width"] and at["py"] < bottom)] == []


def test_a_device_is_chosen_on_the_map_in_the_list_and_with_the_keyboard(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo) as page:
        wait_live(page)
        canvas = page.locator("#map").bounding_box()
        assert canvas is not None
        crane = positions(page)["QC03"]
        page.mouse.click(canvas["x"] + crane["px"], canvas["y"] + 20)
        expect(page.locator("#chart-device")).to_have_text("QC03")
        expect(page.locator("#device-list [aria-selected=true] b")).to_have_text("QC03")
        expect(page.locator("#map-tooltip")).to_contain_text("QC03")
        page.focus("#map")
        page.keyboard.press("n")
        expect(page.locator("#chart-device")).to_have_text("QC04")
        page.fill("#device-search", "gate-in")
        expect(page.locator("#device-list li")).to_have_count(2)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        expect(page.locator("#chart-device")).to_have_text(re.compile("GATE-IN-"))


def test_the_map_zooms_pans_and_shows_all_again(browser: Browser, demo: Demo) -> None:
    def distance(page: Page) -> float:
        at = positions(page)
        return float(at["QC01"]["px"] - at["QC04"]["px"])

    with clean(browser, demo) as page:
        wait_live(page)
        first = distance(page)
        page.focus("#map")
        page.keyboard.press("+")
        until(page, f"Math.abs(quayflow.positions().QC01.px - quayflow.positions().QC04.px) > {first * 1.2}")
        page.mouse.move(500, 400)
        page.mouse.wheel(0, 600)
        until(page, f"Math.abs(quayflow.positions().QC01.px - quayflow.positions().QC04.px) < {first}")
        page.keyboard.press("0")
        until(page, f"Math.abs(quayflow.positions().QC01.px - quayflow.positions().QC04.px - {first}) < 30")


def test_the_chart_shows_a_metric_and_hands_out_its_request_and_figures(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo, permissions=["clipboard-read", "clipboard-write"]) as page:
        wait_live(page)
        page.select_option("#chart-metric", "hoist_height_m")
        page.click("[data-range='1h']")
        until(page, "(chart => chart.metric === 'hoist_height_m' && chart.points > 0)(quayflow.state().chart)")
        command = page.locator("#chart-request").inner_text()
        path = "/v1/devices/CNNGB-DEMO~quay-crane~QC01/telemetry?metric=hoist_height_m&start=-1h"
        assert command == f"curl -s '{demo.url}{path}'"
        page.click("#chart-csv")
        expect(page.locator("#chart-csv")).to_have_text("Copied")
        head, first, *_ = page.evaluate("navigator.clipboard.readText()").splitlines()
        assert head == (
            "time,count,mean_hoist_height_m (m),min_hoist_height_m (m),max_hoist_height_m (m),sum_hoist_height_m (m)"
        )
        assert len(first.split(",")) == 6


def test_events_arrive_as_they_happen(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo) as page:
        wait_live(page)
        known = page.evaluate("quayflow.state().events")
        # A truck passes a gate of this demo every quarter of a minute, and is known to have passed after the gap.
        patience_ms = 90_000 + PassageRules().gap_ns / 1e6
        until(page, f"quayflow.state().events > {known}", patience_ms)
        expect(page.locator("#events .event").first).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))


def test_what_a_person_publishes_appears_and_what_is_wrong_is_named(browser: Browser, demo: Demo) -> None:
    publish = shutil.which("mosquitto_pub")
    assert publish is not None, "mosquitto_pub is not installed: apt install mosquitto-clients"
    topic = "port/CNNGB-DEMO/vehicle/PAGE-1/telemetry"

    def send(payload: str) -> None:
        command = [publish, "-p", str(demo.broker_port), "-q", "1", "-t", topic, "-m", payload]
        subprocess.run(command, check=True, timeout=20)

    with clean(browser, demo) as page:
        wait_live(page)
        page.fill("#device-search", "PAGE-1")
        send('{"v":1,"m":{"x_m":120,"y_m":60,"speed_mps":4.2}}')
        expect(page.locator("#device-list li b")).to_have_text("PAGE-1")
        until(page, "quayflow.positions()['PAGE-1'] !== undefined")
        at = positions(page)["PAGE-1"]
        assert (at["x"], at["y"]) == (120, 60)
        send('{"v":1,"m":{"speed_mps":"abc"}}')
        expect(page.locator("#refusal-count")).to_have_text(re.compile("[1-9]"))
        page.click("#tab-refusals")
        refusal = page.locator(".refusal").first
        expect(refusal).to_contain_text("/m/speed_mps")
        expect(refusal).to_contain_text("wrong type")
        expect(refusal).to_contain_text(topic)


def test_the_panel_of_a_device_ticks_and_adopts_an_unknown_name(browser: Browser, demo: Demo) -> None:
    publish = shutil.which("mosquitto_pub")
    assert publish is not None, "mosquitto_pub is not installed: apt install mosquitto-clients"
    topic = "port/CNNGB-DEMO/quay-crane/PAGE-2/telemetry"

    def send(payload: str) -> None:
        command = [publish, "-p", str(demo.broker_port), "-q", "1", "-t", topic, "-m", payload]
        subprocess.run(command, check=True, timeout=20)

    send('{"v":1,"m":{"load_t":2,"hoist mm":14500,"it\'s":1}}')
    with clean(browser, demo, permissions=["clipboard-read", "clipboard-write"]) as page:
        wait_live(page)
        page.fill("#device-search", "PAGE-2")
        expect(page.locator("#device-list li b")).to_have_text("PAGE-2")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#device-title")).to_have_text("PAGE-2")
        expect(page.locator("#device-verdict")).to_contain_text("Live")
        command = page.locator("#device-command")
        expect(command).to_contain_text(f"-p {demo.broker_port} -q 1 -t {topic}")
        page.click("#device-copy")
        assert page.evaluate("navigator.clipboard.readText()") == command.inner_text()

        # The tick is for what arrives from now on; the command itself is what makes it green.
        tick = page.locator("#device-waiting")
        expect(tick).to_have_attribute("data-state", "waiting")
        subprocess.run(["bash", "-c", command.inner_text()], check=True, timeout=20)
        expect(tick).to_have_attribute("data-state", "accepted")
        expect(tick).to_contain_text("✔ Accepted since this was opened: 1")

        row = page.locator('#device-names li[data-name="hoist mm"]')
        expect(row.locator("select")).to_have_value("hoist_height_m")
        expect(row.locator(".preview")).to_have_text("= 14.5 m")
        row.locator(".adopt").click()
        expect(row).to_have_class("adopted")
        expect(page.locator("#device-names-said")).to_contain_text("“hoist mm” is Hoist height")
        expect(page.locator('#device-names li[data-name="it\'s"] .adopt')).to_be_disabled()
        adopted = "fetch('/v1/devices/PAGE-2').then(a => a.json()).then(d => d.latest.hoist_height_m?.value === 15.5)"
        deadline = time.monotonic() + WAIT_MS / 1000
        while not page.evaluate(adopted):
            assert time.monotonic() < deadline, "the adopted name counts"
            send('{"v":1,"m":{"hoist mm":15500}}')
            page.wait_for_timeout(500)
        row.locator(".give-up").click()
        expect(row.locator(".adopt")).to_be_visible()

        send('{"v":1,"m":{"load_t":"heavy"}}')
        expect(page.locator("#device-refused")).to_contain_text("wrong type")
        expect(page.locator("#device-refusals .refusal").first).to_contain_text("heavy")
        page.click("[data-language=zh]")
        expect(page.locator("#device-open")).to_have_text("详情")
        expect(page.locator("#device-refusals .refusal b").first).to_have_text("类型错误")
        page.focus("#device-close")
        page.keyboard.press("Escape")
        expect(page.locator("#device")).to_be_hidden()
        assert page.evaluate("document.activeElement.id") == "device-list"


def test_refusals_are_counted_as_they_are_listed_and_the_mark_goes_with_the_adoption(
    browser: Browser, demo: Demo
) -> None:
    publish = shutil.which("mosquitto_pub")
    assert publish is not None, "mosquitto_pub is not installed: apt install mosquitto-clients"
    topic = "port/CNNGB-DEMO/quay-crane/PAGE-4/telemetry"
    # One message that is kept in part, one of which nothing is kept, and one that cannot be read.
    for payload in ('{"v":1,"m":{"load_t":2,"hoist mm":14500}}', '{"v":1,"m":{"hoist mm":14600}}', '{"v":1,"m":'):
        command = [publish, "-p", str(demo.broker_port), "-q", "1", "-t", topic, "-m", payload]
        subprocess.run(command, check=True, timeout=20)
    with clean(browser, demo) as page:
        wait_live(page)
        page.fill("#device-search", "PAGE-4")
        row = page.locator("#device-list li")
        expect(row).to_have_class("unknown-names")
        expect(row).to_have_attribute("title", "sends names that are not known")
        row.click()
        page.click("#device-open")
        counts = page.locator("#device-refused-counts li")
        expect(counts).to_have_text(
            ["not decodable whole messages 1", "unknown metric whole messages 1 · values 2"], timeout=WAIT_MS
        )
        expect(page.locator("#device-refusals .refusal")).to_have_count(3)
        expect(page.locator("#device-facts")).to_contain_text("… refused whole2")
        page.click("#tab-refusals")
        expect(page.locator("#refusal-count")).to_have_text(re.compile(r"whole messages \d+ · values \d+"))
        page.click("#device-names .adopt")
        expect(page.locator("#device-names-said")).to_contain_text("“hoist mm” is Hoist height")
        expect(row).not_to_have_class("unknown-names")
        # It does not come back with the next list of devices, nor in another browser.
        page.reload()
        page.fill("#device-search", "PAGE-4")
        expect(page.locator("#device-facts dd").first).to_be_visible()
        page.wait_for_timeout(2_000)
        expect(row).not_to_have_class("unknown-names")


def test_a_change_asks_for_the_secret_of_the_installation_once(browser: Browser, tmp_path: Path) -> None:
    publish = shutil.which("mosquitto_pub")
    assert publish is not None, "mosquitto_pub is not installed: apt install mosquitto-clients"
    settings = {"QUAYFLOW_CHANGE_SECRET": "open-sesame-open-sesame"}
    topic = "port/CNNGB-DEMO/quay-crane/PAGE-5/telemetry"
    with running_demo(tmp_path, verb="up", settings=settings) as demo:
        send = [
            publish,
            "-p",
            str(demo.broker_port),
            "-q",
            "1",
            "-t",
            topic,
            "-m",
            '{"v":1,"m":{"load_t":2,"hoist mm":1}}',
        ]
        subprocess.run(send, check=True, timeout=20)
        with opened(browser, demo, "/#device=CNNGB-DEMO~quay-crane~PAGE-5") as (page, seen):
            names, form = page.locator("#device-names li"), page.locator("#device-secret")
            said, secret = page.locator("#device-names-said"), page.locator("#device-secret-text")
            expect(form).to_be_hidden()
            names.locator(".adopt").click()
            expect(said).to_contain_text("the secret of this installation (change_secret)")
            expect(secret).to_be_focused()
            expect(secret).to_have_attribute("type", "password")
            secret.fill("guessed")
            secret.press("Enter")
            expect(said).to_have_text("That was not the secret. Try again.")
            expect(secret).to_have_value("")
            secret.fill("open-sesame-open-sesame")
            page.click("#device-secret button")
            expect(said).to_contain_text("“hoist mm” is Hoist height")
            expect(form).to_be_hidden()
            # It is asked for once, and kept nowhere but in the open page.
            names.locator(".give-up").click()
            expect(said).to_contain_text("means nothing any more")
            assert (
                page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])").count(
                    "sesame"
                )
                == 0
            )
            page.reload()
            names.locator(".adopt").click()
            expect(secret).to_be_focused()
            refusals = [each for each in seen.complaints if "401" not in each]
            assert refusals == []
            assert seen.strangers == []


def test_a_device_that_is_registered_and_was_never_heard_is_in_the_list(browser: Browser, demo: Demo) -> None:
    add = [sys.executable, "-m", "quayflow", "device", "add", "PAGE-3", "--class", "vehicle", "--data", str(demo.data)]
    subprocess.run(add, check=True, timeout=60, capture_output=True)
    with clean(browser, demo) as page:
        page.fill("#device-search", "PAGE-3")
        row = page.locator("#device-list li")
        expect(row.locator("span")).to_have_text("never heard", timeout=WAIT_MS)
        row.click()
        page.click("#device-open")
        expect(page.locator("#device-verdict")).to_contain_text("Never heard")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_panel_fits_beside_the_list(browser: Browser, demo: Demo, size: tuple[int, int], language: str) -> None:
    width, height = size
    path = f"/?lang={language}#device=CNNGB-DEMO~quay-crane~QC02"
    with clean(browser, demo, path, viewport={"width": width, "height": height}) as page:
        wait_live(page)
        expect(page.locator("#device-facts dd").first).to_be_visible()
        expect(page.locator("#chart-device")).to_have_text("QC02")
        panel, canvas = page.locator("#device").bounding_box(), page.locator("#map").bounding_box()
        assert panel is not None
        assert canvas is not None
        assert abs(panel["width"] - canvas["width"]) < 4
        wide = "(body => body.scrollWidth - body.clientWidth)(document.querySelector('.device-body'))"
        assert page.evaluate(wide) <= 0
        # Another device chosen in the list takes the place of the first.
        page.click("#device-list li[data-uid$=QC03]")
        expect(page.locator("#device-title")).to_have_text("QC03")


def test_the_api_documentation_needs_no_other_host(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo, "/docs") as page:
        expect(page.locator(".opblock").first).to_be_visible()
        page.get_by_text("/v1/throughput", exact=True).first.click()
        expect(page.get_by_text("group_by").first).to_be_visible()


def test_a_lost_connection_is_shown_and_heals_by_itself(browser: Browser, demo: Demo) -> None:
    with opened(browser, demo) as (page, seen):
        wait_live(page)
        assert seen.complaints == []
        link = page.locator("#link")
        os.kill(demo.pids["api"], signal.SIGKILL)
        expect(link).to_have_attribute("data-state", "reconnecting")
        expect(link).to_have_attribute("data-state", "live", timeout=60_000)
        wait_for_motion(page)
        expect(page.locator("#banner")).to_be_hidden()


def test_reduced_motion_is_honoured(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo, reduced_motion="reduce") as page:
        wait_live(page)
        wait_for_motion(page)
        assert page.evaluate("document.getAnimations().length") == 0


def test_every_metric_reason_and_class_has_a_text(root: Path) -> None:
    texts = (root / "web/src/i18n/en.ts").read_text(encoding="utf-8")
    named = {
        prefix: set(re.findall(rf'^  "{prefix}\.([^"]+)":', texts, re.MULTILINE))
        for prefix in ("metric", "reason", "class", "cause")
    }
    assert named["metric"] == {metric.name for metric in METRICS}
    assert named["reason"] == set(Reason)
    assert named["class"] == set(DeviceClass)
    assert named["cause"] == {*Cause, "disabled"}
