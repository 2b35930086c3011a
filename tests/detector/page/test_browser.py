"""The page in a real browser, on a phone and on a wide screen, by day and by night, and on paper."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.detector.page.browser import Browser, browser, needs_chromium
from tests.detector.page.conftest import Made

pytestmark = needs_chromium

WIDTHS, SCHEMES = (400, 1600), ("light", "dark")

# Every piece of text with its colour, its size in pixels on the screen, and what lies behind it.
TEXTS = r"""
(() => {
  const rgba = colour => { const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
      if (colour[3] !== 0) throw new Error("a background that is half transparent");
    }
    return [255, 255, 255, 1];
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("thead")?.getBoundingClientRect().width === 1) continue;
    const style = getComputedStyle(element), drawing = element.closest("svg");
    const units = drawing?.viewBox.baseVal?.width, scale = units ? drawing.getBoundingClientRect().width / units : 1;
    found.push({
      text: text.slice(0, 40), size: parseFloat(style.fontSize) * scale,
      ink: rgba(drawing ? style.fill : style.color), paper: behind(element),
    });
  }
  return found;
})()
"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What lies beyond the right edge, but for the one table that scrolls by itself.
BEYOND = """
[...document.querySelectorAll("main *:not(.wide *)")]
  .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth)
  .map(one => one.outerHTML.slice(0, 80))
"""
# Where each plot is, and the colours that what it is about is drawn in.
PLOTS = r"""
[...document.querySelectorAll("svg.histogram, svg.roc")].map(plot => {
  const box = plot.getBoundingClientRect();
  const colours = plot.matches(".histogram")
    ? [".clean-area", ".attack-area"].map(area => getComputedStyle(plot.querySelector(area)).fill)
    : [getComputedStyle(plot.querySelector(".curve")).stroke];
  return {
    box: [box.x + scrollX, box.y + scrollY, box.width, box.height],
    colours: colours.map(colour => colour.match(/\d+/g).map(Number)),
  };
})
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(
    params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=lambda one: f"{one[0]}-{one[1]}"
)
def shown(request: pytest.FixtureRequest, tab: Browser, full: Made) -> Browser:
    width, scheme = request.param
    tab.open(full.page, width=width, scheme=scheme)
    return tab


def luminance(colour: list[float]) -> float:
    """Relative luminance, WCAG 2.2."""
    shares = np.array(colour[:3]) / 255
    return float(
        np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    )


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast ratio, WCAG 2.2."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_nothing_is_wider_than_the_window(shown: Browser) -> None:
    assert shown.run(TOO_WIDE) == 0
    assert shown.run(BEYOND) == []


def test_nothing_is_fetched_run_or_complained_of(shown: Browser, full: Made) -> None:
    asked = [event["request"]["url"] for event in shown.happened("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:image/png;base64,")] == [full.page.as_uri()]
    assert shown.happened("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
    assert shown.happened("Page.javascriptDialogOpening") == []
    images = "[...document.images]"
    assert shown.run(f"{images}.length > 0 && {images}.every(one => one.complete && one.naturalWidth > 0)")


def test_all_text_can_be_read(shown: Browser) -> None:
    texts = shown.run(TEXTS)
    assert len(texts) > 200
    assert [text for text in texts if contrast(text["ink"], text["paper"]) < 4.5] == []
    assert [text for text in texts if text["size"] < 11] == []


def test_the_largest_number_keeps_to_its_column(shown: Browser) -> None:
    beyond = """
    [...document.querySelectorAll(".misses .number")].filter(number => {
      number.textContent = "100.0 %";
      const words = document.createRange();
      words.selectNodeContents(number);
      return words.getBoundingClientRect().right > number.nextElementSibling.getBoundingClientRect().left;
    }).length
    """
    assert shown.run(beyond) == 0


def test_light_and_dark_differ(tab: Browser, full: Made) -> None:
    papers = []
    for scheme in SCHEMES:
        tab.open(full.page, width=1600, scheme=scheme)
        papers.append(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


def test_the_plots_are_not_blank(shown: Browser, full: Made) -> None:
    plots = shown.run(PLOTS)
    assert len(plots) == 2 * len(full.calibration.attacks)
    shown.run("document.querySelectorAll('svg text').forEach(name => name.remove())")  # some are of the same colours
    for plot in plots:
        assert plot["box"][2] > 250
        pixels = np.asarray(Image.open(io.BytesIO(shown.screenshot(plot["box"]))).convert("RGB"))
        for colour in plot["colours"]:
            assert (pixels == colour).all(axis=2).sum() > 100


def test_the_dot_of_the_threshold_lies_on_its_curve(tab: Browser, full: Made) -> None:
    tab.open(full.page, width=1600, scheme="light")
    far = """
    [...document.querySelectorAll("svg.roc")].map(plot => {
      const dot = plot.querySelector(".point"), [x, y] = [dot.cx.baseVal.value, dot.cy.baseVal.value];
      const curve = document.querySelector(plot.querySelector("use.curve").getAttribute("href"));
      let best = Infinity;
      for (let at = 0; at <= curve.getTotalLength(); at += 0.1) {
        const point = curve.getPointAtLength(at);
        best = Math.min(best, Math.hypot(point.x - x, point.y - y));
      }
      return best;
    })
    """
    distances = tab.run(far)
    assert len(distances) == len(full.calibration.attacks)
    assert max(distances) < 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_on_paper_it_is_dark_on_white(tab: Browser, full: Made, scheme: str) -> None:
    tab.open(full.page, width=718, scheme=scheme, media="print")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [text for text in tab.run(TEXTS) if contrast(text["ink"], text["paper"]) < 4.5] == []
    assert tab.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_without_attacks_fits_too(tab: Browser, bare: Made, width: int) -> None:
    tab.open(bare.page, width=width, scheme="light")
    assert tab.run(TOO_WIDE) == 0
    assert tab.happened("Log.entryAdded", "Runtime.exceptionThrown") == []
    assert [text for text in tab.run(TEXTS) if contrast(text["ink"], text["paper"]) < 4.5] == []
