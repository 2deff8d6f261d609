"""The operator page in a real browser, against a whole running installation."""

import itertools
import os
import re
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from analytics.detectors.gates import PassageRules
from devices.rejects import Reason
from devices.vocabulary import METRICS, DeviceClass
from engines.demo import Demo
from engines.page import SIZES, TRUCK, clean, moved_m, opened, positions, publish, until, wait_for_motion, wait_live
from store.device_health import Cause

CUT_OFF = """() => {
    const watched = '.figure, .figure h2, .figure .value, header *, .chart-head *, .panel-head *';
    return [...document.querySelectorAll(watched)]
        .filter(element => getComputedStyle(element).display !== 'inline')
        .filter(element => element.scrollWidth > element.clientWidth + 1)
        .map(element => element.id || element.className || element.tagName);
}"""


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
        # Half a truck is drawn below its place.
        bottom = legend["y"] - canvas["y"] - 20
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
    topic = "port/CNNGB-DEMO/vehicle/PAGE-1/telemetry"

    with clean(browser, demo) as page:
        wait_live(page)
        page.fill("#device-search", "PAGE-1")
        publish(demo, topic, '{"v":1,"m":{"x_m":120,"y_m":60,"speed_mps":4.2}}')
        expect(page.locator("#device-list li b")).to_have_text("PAGE-1")
        until(page, "quayflow.positions()['PAGE-1'] !== undefined")
        at = positions(page)["PAGE-1"]
        assert (at["x"], at["y"]) == (120, 60)
        publish(demo, topic, '{"v":1,"m":{"speed_mps":"abc"}}')
        expect(page.locator("#refusal-count")).to_have_text(re.compile("[1-9]"))
        page.click("#tab-refusals")
        refusal = page.locator(".refusal").first
        expect(refusal).to_contain_text("/m/speed_mps")
        expect(refusal).to_contain_text("wrong type")
        expect(refusal).to_contain_text(topic)


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


def test_a_broker_that_stands_still_is_said_within_six_seconds_and_heals_by_itself(
    browser: Browser, demo: Demo
) -> None:
    with clean(browser, demo) as page:
        wait_live(page)
        link = page.locator("#link")
        os.kill(demo.pids["mosquitto"], signal.SIGSTOP)
        try:
            expect(link).to_have_attribute("data-state", "unheard", timeout=6_000)
            expect(page.locator("#banner")).to_contain_text("Nothing has come from the MQTT broker for")
        finally:
            os.kill(demo.pids["mosquitto"], signal.SIGCONT)
        expect(link).to_have_attribute("data-state", "live")
        expect(page.locator("#banner")).to_be_hidden()
        wait_for_motion(page)


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
