"""The report's pages in a browser: complete, readable on any screen and on paper, by keyboard.

Each test opens a report with all slices in its page, and one with a page for each case. The names
of the cases are such as would be markup, if anything took them for it.
"""

import re
import shlex
import shutil
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from pipeline.compare import compare
from pipeline.evaluate import evaluate
from pipeline.postprocess import postprocess
from pipeline.report import report
from pipeline.settings import Dataset
from pipeline.storage.zarr_store import write_store
from tests.pipeline.results import RESIDUALS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium is installed (apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")

SHAPE = (5, 24, 20)
SCRIPT = "\"'&amp;<img src=x onerror=alert(1)><script>alert(2)"
ADDRESS = "50%20#top?a=b&c"  # in a link it is neither a place in a page nor a question
LONG = "a-very-long-name" * 11
SECTIONS = ["comparison", "size", "cohorts", "residuals", "cases", "data", "check", "training"]
SECTIONS += ["settings"]
CONFIGURED_BY = ["--config", "my study.yaml", "--set", '{"seed": 1}']
PAPER = {"width": 718, "height": 1000}  # A4 at 96 pixels an inch, less 1 cm on either side
PATIENCE_MS = 300_000  # on a machine that is busy
SMALLEST = 11.0  # pixels of letters
SETTINGS = {
    "source": {"adapter": "nnunet", "root": "somewhere"},
    "slices": {"size": (32, 32), "window": (0, 100)},
    "mae": {"shared": {"preset": "tiny"}},
    "residuals": {"mrm": RESIDUALS},
    "experiments": {
        "unetpp": {"model": "unetpp"},
        "grcsf": {"model": "grcsf", "residuals": "mrm"},
        "a-network-of-a-long-name-with-residual-maps": {"model": "unet"},
    },
    "evaluation": {"baseline": "unetpp", "bootstrap_samples": 100},
}


@pytest.fixture(scope="module")
def tree(results_tree_at, tmp_path_factory, box):
    """Three test cases with names that are hard to show, as three methods predict them."""
    tree = results_tree_at(tmp_path_factory.mktemp("browser"))
    dataset, random = Dataset.model_validate(SETTINGS), np.random.default_rng(0)
    lesions = {
        SCRIPT: box(SHAPE, (1, 4), (4, 9), (3, 9)) | box(SHAPE, (2, 3), (9, 12), (3, 9)),
        ADDRESS: box(SHAPE, (1, 2), (3, 7), (3, 5)),
        LONG: np.zeros(SHAPE, bool),
    }
    for case, lesion in lesions.items():
        image = random.integers(0, 60, SHAPE, dtype=np.int16)
        group, note = f"{case[:20]}<b>", "header & body <i>differ"
        tree.add_case(case, image, lesion.astype(np.uint8), group=group, notes=[note])
        maps = random.random((2, SHAPE[0], 16, 16)).astype(np.float16)
        store = tree.layout.residual_store("mrm", case)
        write_store(store, {"residual": maps}, {"fingerprint": case}, slice_axis=1)
    tree.write_split([list(lesions)], {"bad": ["case bad: <em>truncated"]})
    for shift, name in enumerate(dataset.experiments):
        shifted = {case: np.roll(lesion * 0.9, shift, axis=2) for case, lesion in lesions.items()}
        tree.add_predictions(name, 1, shifted)
        tree.add_model(name, 1, 1_000_000)
        postprocess(tree.layout, name, 1, dataset.postprocess)
        evaluate(tree.layout, name, (1,), dataset.evaluation, dataset.postprocess, 0, 1)
    compare(tree.layout, list(dataset.experiments), (1,), dataset.evaluation, seed=0)
    return tree


@pytest.fixture(scope="module")
def pages(tree):
    """Every page of both reports: the one that is whole, the one that is not, its cases' pages."""
    dataset, folder = Dataset.model_validate(SETTINGS), tree.layout.report.parent
    with pytest.MonkeyPatch.context() as patch:
        # too little for all slices, which take 0.020, and enough for one of each case
        patch.setattr("pipeline.evaluation.report_page.case_figures.LARGEST_MB", 0.016)
        report(tree.layout, dataset, 0, CONFIGURED_BY)
        apart = folder.rename(folder.with_name("apart"))
    report(tree.layout, dataset, 0, CONFIGURED_BY)
    cases = sorted(apart.glob("cases/*.html"))
    assert len(cases) == 3
    return [path.as_uri() for path in (folder / "report.html", apart / "report.html", *cases)]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A new page, which collects what it complains of, shows by itself, and asks for."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.heard, page.asked = [], []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()


def test_a_page_asks_for_nothing_has_no_error_and_takes_no_name_for_markup(page, pages):
    for address in pages:
        page.asked.clear()
        page.goto(address)
        assert [url for url in page.asked if not url.startswith("data:")] == [address]
        shown = page.locator("figcaption b").all_inner_texts()
        own = unquote(urlsplit(address).path).rpartition("/")[2].removesuffix(".html")
        assert shown == ([SCRIPT, ADDRESS, LONG] if own == "report" else [own])
        assert page.locator("img[src=x], b b, em, td i").count() == 0
        commands = map(shlex.split, page.locator("code", has_text="grcsf view").all_inner_texts())
        options = [*CONFIGURED_BY, "--dataset", "tiny"]
        assert [*commands] == [["grcsf", "view", case, *options] for case in shown]
    assert page.heard == []


def test_the_cases_pages_and_the_report_lead_to_one_another(page, pages):
    page.goto(pages[1])
    links = page.get_by_role("link", name="all slices with lesion or prediction")
    for number, case in enumerate((SCRIPT, ADDRESS, LONG), start=1):
        links.nth(number - 1).click()
        assert page.locator("h1").inner_text() == case
        page.get_by_role("link", name="Report of").click()
        assert page.url == f"{pages[1]}#case-{number}"


def test_every_section_is_reached_by_keyboard(page, pages):
    page.goto(pages[0])
    there = page.locator("section").evaluate_all("(all) => all.map((one) => one.id)")
    assert there == SECTIONS
    reached = []
    while len(reached) < 30 and f"#{SECTIONS[-1]}" not in reached:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('href')"))
    assert [f"#{name}" for name in SECTIONS] == reached[-len(SECTIONS) :]
    for name in SECTIONS:
        page.locator(f'nav a[href="#{name}"]').press("Enter")
        page.wait_for_function("(hash) => location.hash === hash", arg=f"#{name}")
        top = page.locator(f"#{name}").bounding_box()["y"]
        assert -1 <= top < page.viewport_size["height"]


def test_the_arrow_keys_lead_through_the_slices(page, pages):
    page.goto(pages[0])
    figure = page.locator("#case-1")
    slider, place = figure.get_by_role("slider"), figure.locator(".place")
    image, lines = figure.locator(".first image"), figure.locator(".near path")

    def seen():
        return place.inner_text(), image.get_attribute("href"), lines.first.get_attribute("d")

    assert place.inner_text() == "Slice 3 of 5", "the slice with most lesion"
    slider.focus()
    shown = {}
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        shown[key] = seen()
        assert slider.get_attribute("aria-valuetext") == shown[key][0]
    assert [where for where, *_ in shown.values()] == [f"Slice {z} of 5" for z in (2, 3, 4)]
    assert len({picture for _, picture, _ in shown.values()}) == 3
    assert len({path for *_, path in shown.values()}) == 2, "the lesion is larger in the middle"
    assert figure.locator(".near use").first.bounding_box()["width"] > 50
    assert page.locator("#case-3").get_by_role("slider").count() == 0, "one slice needs none"


def test_without_script_the_fullest_slice_is_shown(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(pages[0])
    assert page.locator(".place").all_inner_texts() == [f"Slice {z} of 5" for z in (3, 2, 3)]
    assert page.locator(".slider:visible").count() == 0
    context.close()


WIDER = """() => [document.documentElement.scrollWidth, innerWidth]"""
SMALL = """(least) => {
  const small = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const style = getComputedStyle(node.parentElement);
    if (node.data.trim() && parseFloat(style.fontSize) < least) small.push(node.data.trim());
  }
  for (const chart of document.images)
    if (chart.width < 0.8 * chart.naturalWidth) small.push(chart.alt);
  return small;
}"""


@pytest.mark.parametrize("width", [360, 1440])
def test_it_is_readable_at_any_width(page, pages, width):
    page.set_viewport_size({"width": width, "height": 800})
    for address in pages:
        page.goto(address)
        needed, given = page.evaluate(WIDER)
        assert needed <= given == width
        assert page.evaluate(SMALL, SMALLEST) == []
        panels = page.locator(".panel svg").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect().width)"
        )
        assert min(panels) > 100
        assert max(panels) - min(panels) < 1, "a case's pictures are equally wide"


CUT = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const clips = getComputedStyle(one).overflowX !== "visible" && !one.closest("svg");
  const right = one.closest("svg") ? 0 : one.getBoundingClientRect().right;
  return right > innerWidth + 1 || (clips && one.scrollWidth > one.clientWidth + 1);
}).map((one) => one.outerHTML.slice(0, 200))"""


def test_paper_shows_all_sections_and_cuts_nothing_at_the_side(page, pages):
    page.emulate_media(media="print")
    page.set_viewport_size(PAPER)
    for address in pages:
        page.goto(address)
        page.locator("details").evaluate_all("(all) => all.forEach((one) => (one.open = true))")
        assert page.evaluate(CUT) == []
    page.goto(pages[0])
    titles = page.locator("h2").all_inner_texts()
    margins = dict.fromkeys(("top", "right", "bottom", "left"), "1cm")
    printed = page.pdf(format="A4", margin=margins, outline=True, tagged=True)
    sizes = re.findall(rb"/MediaBox \[0 0 (\S+) (\S+)\]", printed)
    assert sizes
    for size in sizes:
        assert [float(side) for side in size] == pytest.approx([595, 842], abs=1), "A4"
    outline = re.findall(rb"/Title \(([^)]*)\)", printed)
    assert [title.decode() for title in outline if title.decode() in titles] == titles
