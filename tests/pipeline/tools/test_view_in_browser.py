"""The page of `grcsf view` in a browser: it draws, by itself, and takes no name for markup."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.colours import ON_BLACK, REFERENCE
from tests.pipeline.tools.viewed import SCRIPT

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium is installed (apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")

DRAWN = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # also without a graphics card
PATIENCE_MS = 300_000  # on a machine that is busy


@pytest.fixture(scope="module")
def page(page_server):
    """The page, with what it complains of, shows by itself, and asks for."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, timeout=PATIENCE_MS, args=DRAWN)
        page = browser.new_page(viewport={"width": 1000, "height": 400})
        page.set_default_timeout(PATIENCE_MS)
        page.heard, page.asked = [], []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(page_server.address)
        settled(page)
        yield page
        browser.close()


def settled(page):
    page.locator("main[aria-busy=false]").wait_for()


def pixels(page):
    """What the canvas shows, after the next frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = Image.open(io.BytesIO(page.locator("canvas").screenshot()))
    return np.asarray(picture.convert("RGB")).astype(int)


def hue(picture, colour):
    """How many pixels are tinted as this colour is."""
    shade = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    shade, tinted = shade - shade.mean(), picture - picture.mean(axis=2, keepdims=True)
    length = np.linalg.norm(tinted, axis=2)
    likeness = tinted @ shade / (np.maximum(length, 1) * np.linalg.norm(shade))
    return int(((likeness > 0.95) & (length > 30)).sum())


def test_it_draws_and_asks_for_nothing_elsewhere(page, page_server):
    picture = pixels(page)
    assert picture.std() > 20
    assert hue(picture, REFERENCE) > 200
    values = page.locator("#layers .value").all_inner_texts()
    assert values[5] == "1", "it opens at the lesion, also where its axes are oblique"
    own = [url.removeprefix(page_server.address) for url in page.asked if "data:" not in url]
    assert own[:4] == ["", "view.css", "niivue.umd.js", "view.js"]
    assert not [path for path in own if ":" in path]
    assert page.heard == []


def test_layers_are_switched_by_keyboard(page):
    page.locator("h1").click()
    shown = page.locator("#layers li").filter(has_text="reference").get_by_role("checkbox")
    page.keyboard.press("6")
    assert not shown.is_checked()
    settled(page)
    assert hue(pixels(page), REFERENCE) == 0
    other = page.locator("#layers li").filter(has_text="grcsf").get_by_role("checkbox")
    other.focus()
    page.keyboard.press("Space")
    assert other.is_checked()
    settled(page)
    assert hue(pixels(page), ON_BLACK[1]) > 200
    page.keyboard.press("6")
    page.keyboard.press("8")


def test_the_window_follows_its_fields(page):
    before = pixels(page)
    assert page.locator("#window").input_value() == "100"
    page.locator("#level").fill("500")
    assert pixels(page).mean() < before.mean() / 2, "all of it is darker than the window"
    page.get_by_role("button", name="As networks see it").click()
    assert page.locator("#level").input_value() == "50"
    np.testing.assert_array_equal(pixels(page), before)


def test_a_name_stays_text_and_the_keys_lead_on(page):
    page.locator("h1").click()
    assert page.locator("h1").inner_text() == "turned"
    page.keyboard.press("n")
    page.get_by_text("2 of 4").wait_for()
    settled(page)
    assert page.locator("h1").inner_text() == SCRIPT
    assert page.locator("#cases option").nth(1).inner_text() == f"{SCRIPT} · 0.833"
    assert page.title() == f"{SCRIPT}, tiny"
    assert page.locator("#scores tr").nth(1).inner_text().split()[:2] == ["unetpp", "0.833"]
    assert page.locator("img, main script").count() == 0
    assert page.heard == []


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_is_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    needed, given = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert needed <= given == width
