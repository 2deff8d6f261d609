"""The panel of one device on the operator page, in a real browser, against a whole running installation."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from engines.demo import Demo, running_demo
from engines.page import SIZES, WAIT_MS, clean, opened, publish, wait_heard, wait_live


def test_the_panel_of_a_device_ticks_and_adopts_an_unknown_name(browser: Browser, demo: Demo) -> None:
    topic = "port/CNNGB-DEMO/quay-crane/PAGE-2/telemetry"

    publish(demo, topic, '{"v":1,"m":{"load_t":2,"hoist mm":14500,"it\'s":1}}')
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
        expect(row.locator(".preview")).to_have_text("= 14.500 m")
        row.locator(".adopt").click()
        expect(row).to_have_class("adopted")
        expect(page.locator("#device-names-said")).to_contain_text("“hoist mm” is Hoist height")
        expect(page.locator('#device-names li[data-name="it\'s"] .adopt')).to_be_disabled()
        adopted = "fetch('/v1/devices/PAGE-2').then(a => a.json()).then(d => d.latest.hoist_height_m?.value === 15.5)"
        deadline = time.monotonic() + WAIT_MS / 1000
        while not page.evaluate(adopted):
            assert time.monotonic() < deadline, "the adopted name counts"
            publish(demo, topic, '{"v":1,"m":{"hoist mm":15500}}')
            page.wait_for_timeout(500)
        row.locator(".give-up").click()
        expect(row.locator(".adopt")).to_be_visible()

        publish(demo, topic, '{"v":1,"m":{"load_t":"heavy"}}')
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
    topic = "port/CNNGB-DEMO/quay-crane/PAGE-4/telemetry"
    # One message that is kept in part, one of which nothing is kept, and one that cannot be read.
    for payload in ('{"v":1,"m":{"load_t":2,"hoist mm":14500}}', '{"v":1,"m":{"hoist mm":14600}}', '{"v":1,"m":'):
        publish(demo, topic, payload)
    with clean(browser, demo) as page:
        wait_live(page)
        page.fill("#device-search", "PAGE-4")
        row = page.locator("#device-list li")
        expect(row).to_have_class("unknown-names", timeout=WAIT_MS)
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
    settings = {"QUAYFLOW_CHANGE_SECRET": "open-sesame-open-sesame"}
    topic = "port/CNNGB-DEMO/quay-crane/PAGE-5/telemetry"
    with running_demo(tmp_path, verb="up", settings=settings) as demo:
        with clean(browser, demo) as page:
            # Nothing has come yet, so there is no age of it.
            expect(page.locator("#figure-age .details")).to_contain_text("no messages at present")
            expect(page.locator("#figure-age .value b")).to_have_text("–")
        publish(demo, topic, '{"v":1,"m":{"load_t":2,"hoist mm":1}}')
        wait_heard(demo, "PAGE-5")
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


def test_a_command_is_sent_and_what_becomes_of_it_is_followed(browser: Browser, demo: Demo) -> None:
    with clean(browser, demo, "/#device=CNNGB-DEMO~quay-crane~QC02") as page:
        wait_live(page)
        log, said = page.locator("#command-log li"), page.locator("#command-said")
        expect(page.locator("#command-hint")).to_contain_text("A simulated device knows status, and set_rate")
        page.click("#command-send")
        expect(said).to_have_text("Command: a name is needed.")
        expect(page.locator("#command-name")).to_be_focused()
        expect(page.locator("#command-name")).to_have_attribute("aria-invalid", "true")

        page.fill("#command-name", "set_rate")
        page.fill(".arg-name", "hz")
        page.click("#command-send")
        expect(said).to_have_text('Parameter hz: a value is missing; "" is an empty text.')
        expect(page.locator(".arg-value")).to_be_focused()
        page.fill(".arg-value", "4")
        page.keyboard.press("Enter")
        expect(log.first).to_have_attribute("data-state", "done")
        expect(log.first).to_contain_text("set_rate hz=4")
        expect(log.first).to_contain_text("✔ acknowledged: done · hz 4")
        expect(said).to_be_hidden()

        page.fill(".arg-value", "fast")
        page.click("#command-send")
        expect(log).to_have_count(2)
        expect(log.first).to_have_attribute("data-state", "refused")
        expect(log.first).to_contain_text(
            "✘ refused; the device says “ArgumentError: hz: expected a number, got 'fast'”"
        )
        page.fill("#command-name", "fly")
        page.click(".arg-remove")
        page.click("#command-send")
        expect(log.first).to_contain_text("'fly': this device knows status, set_rate")
        page.click("[data-language=zh]")
        expect(log.first).to_contain_text(
            "✘ 设备拒绝，设备原话：“UnknownCommandError: 'fly': this device knows status, set_rate”"
        )
        # Another device has nothing to do with it; back at the first it is still there.
        page.click("#device-list li[data-uid$=QC03]")
        expect(log).to_have_count(0)
        page.click("#device-list li[data-uid$=QC02]")
        expect(log).to_have_count(3)
    audited = subprocess.run(
        [
            sys.executable,
            "-m",
            "quayflow",
            "device",
            "command",
            "QC02",
            "set_rate",
            "--argument",
            "hz=5",
            "--data",
            str(demo.data),
        ],
        timeout=60,
        check=False,
    )
    assert audited.returncode == 0


def test_a_command_that_nobody_answers_says_so_and_can_be_asked_for_again(browser: Browser, demo: Demo) -> None:
    topic = "port/CNNGB-DEMO/vehicle/PAGE-6"
    publish(demo, f"{topic}/telemetry", '{"v":1,"m":{"speed_mps":1}}')
    wait_heard(demo, "PAGE-6")
    with opened(browser, demo, "/#device=CNNGB-DEMO~vehicle~PAGE-6") as (page, seen):
        wait_live(page)
        entry = page.locator("#command-log li")
        page.select_option("#command-timeout", "5")
        page.fill("#command-name", "status")
        page.click("#command-send")
        expect(entry).to_have_attribute("data-state", "sent")
        expect(entry).to_contain_text("sent, waiting for the device: ")
        expect(entry).to_contain_text("of 5 s")
        expect(entry).to_have_attribute("data-state", "unanswered", timeout=WAIT_MS)
        expect(entry).to_contain_text("no answer within 5 s: whether it was done is not known")
        command_id = entry.get_attribute("data-id")
        page.click("#command-log .again")
        expect(entry).to_have_attribute("data-state", "sent")
        answer = json.dumps({"v": 1, "id": command_id, "ok": True, "data": {"online": True}})
        page.wait_for_timeout(1_000)
        publish(demo, f"{topic}/cmd-ack", answer)
        expect(entry).to_have_attribute("data-state", "done", timeout=WAIT_MS)
        expect(entry).to_have_count(1)
        assert [each for each in seen.complaints if "504" not in each] == []
        assert page.evaluate("window.quayflow.problems()") == []


def test_refusals_and_definitions_are_chinese_on_the_chinese_page(browser: Browser, demo: Demo) -> None:
    topic = "port/CNNGB-DEMO/quay-crane/PAGE-7/telemetry"
    payloads = (
        '{"v":1,"m":{"load_t":"heavy"}}',
        '{"v":1,"m":{"load_t":2,"hoist_height_m":9999,"hoist mm":7}}',
        '{"v":2,"m":{"load_t":2}}',
        '{"v":1,"m":',
        '{"v":1,"m":{"load_t":2},"extra":1}',
        '{"v":1,"ts":"2099-11-30T00:00:00Z","m":{"load_t":2}}',
        '{"v":1,"ts":"today","m":{"load_t":2}}',
        '{"v":1,"m":{}}',
        '{"m":{"load_t":2}}',
        '{"v":1,"device":"QC01","m":{"load_t":2}}',
        '{"v":1,"m":{"load_t":NaN}}',
    )
    for payload in payloads:
        publish(demo, topic, payload)
    wait_heard(demo, "PAGE-7")
    with clean(browser, demo, "/?lang=zh#device=CNNGB-DEMO~quay-crane~PAGE-7") as page:
        wait_live(page)
        details = page.locator("#device-refusals .refusal .particulars")
        expect(details).to_have_count(len(payloads) + 1, timeout=WAIT_MS)
        said = details.all_inner_texts()
        english = re.compile(r"\\b(?:expected|is not|required|at most|ahead|payload says|version|Input)\\b")
        assert [each for each in said if english.search(each) or not re.search("[\\u4e00-\\u9fff]", each)] == []
        together = "\\n".join(said)
        for value in (
            "9999 m：应在 -50 到 100 之间",
            "文本 'heavy'",
            "字段“v”",
            "'extra'",
            "最多允许 300 秒",
            "'QC01'",
            '"hoist mm"',
        ):
            assert value in together
        page.focus("#figure-moves")
        about = page.locator("#about")
        expect(about).to_contain_text("每小时吊次 (moves_per_hour v1)")
        expect(about).to_contain_text("岸桥完成的集装箱吊次")
        expect(about).not_to_contain_text("elapsed")


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
