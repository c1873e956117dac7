"""report.html in a real browser, without a network: on a screen, on a phone, in print, and clicked."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = next(
        (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None
    )
    if executable is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(small_run: Path) -> Path:
    return small_run / "report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report on a screen; an error in its script, or a request to anywhere, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


def test_every_picture_shows_and_every_link_leads_somewhere(page: Any, report: Path) -> None:
    broken = page.evaluate("[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length")
    assert broken == 0
    assert page.evaluate("document.images.length") >= 3
    for target in page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"):
        if target.startswith("#"):
            assert page.locator(target).count() == 1, target
        else:
            assert (report.parent / target).is_file(), target
    page.click("nav a:has-text('Slides')")
    assert page.evaluate("location.hash") == "#cohort"
    assert page.locator("#slides").is_visible()


def rows(page: Any, column: int) -> list[str]:
    return list(
        page.evaluate(
            "[...document.querySelectorAll('#slides tbody tr')].filter(r => !r.hidden)"
            f".map(r => r.cells[{column}].textContent)"
        )
    )


def test_the_table_of_slides_sorts_and_filters(page: Any) -> None:
    heads = page.locator("#slides th").all_text_contents()
    probability = next(i for i, text in enumerate(heads) if text == "focus_mil")
    everything = rows(page, 0)
    page.click("#slides th.sort:has-text('focus_mil')")
    scored = [float(v) for v in rows(page, probability) if v != "–"]
    assert scored == sorted(scored)
    page.click("#slides th.sort:has-text('focus_mil')")
    assert [float(v) for v in rows(page, probability) if v != "–"] == scored[::-1]
    assert sorted(rows(page, 0)) == sorted(everything)
    page.focus("#slides th.sort:has-text('slide')")
    page.keyboard.press("Enter")
    assert rows(page, 0) == sorted(everything)
    page.fill("#filter", everything[3])
    assert rows(page, 0) == [everything[3]]
    page.fill("#filter", "")
    assert len(rows(page, 0)) == len(everything)


def test_what_is_folded_opens(page: Any) -> None:
    configuration = page.locator("details:has-text('Configuration')")
    assert not configuration.locator("pre").is_visible()
    configuration.locator("summary").click()
    assert "run:" in configuration.locator("pre").inner_text()


def test_a_phone_needs_no_sideways_scrolling(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport=PHONE, is_mobile=True, offline=True)
    opened = context.new_page()
    opened.goto(report.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    too_wide = (
        "[...document.querySelectorAll('main > *')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert opened.evaluate(too_wide) == 0
    context.close()


def test_print_has_everything_open_and_within_the_paper(page: Any) -> None:
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 less its margins, at 96 dpi
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.pdf(format="A4").startswith(b"%PDF")
