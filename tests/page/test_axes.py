"""report.html of a sweep: axes as columns, filters, colours and parallel coordinates; means."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adamwprune import page
from adamwprune.page import data
from adamwprune.report.present import Request
from tests.support.browser import Browser
from tests.support.records import expand, synthetic

SWEEP = {"LR": "0.001 0.01 0.1", "BATCH_SIZE": "128 256", "SEED": "0 1 2", "DATASET": "mnist5k"}


def test_axes_are_columns_and_colours():
    specs = expand("sgd", **SWEEP)
    found = data.of(specs, [synthetic(spec) for spec in specs], {}, Request())
    assert found["axes"] == [
        {"name": "BATCH_SIZE", "heading": "batch size"},
        {"name": "LR", "heading": "lr"},
    ]
    assert found["groups"][0]["axes"] == {"BATCH_SIZE": "128", "LR": "0.001"}
    assert "No value is called best" in found["best"][0]["text"]
    colours = data.look(specs)["colours"]
    assert list(colours["axis0"]) == ["128", "256"]
    assert len(set(colours["axis1"].values())) == 3
    assert found["reach"][:2] == [None, None]
    assert [round(each, 3) for each in found["reach"][2:]] == [8.985, 2.484]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of six groups of three seeds."""
    specs = expand("sgd", **SWEEP)
    return page.write(tmp_path_factory.mktemp("axes"), specs, [synthetic(s) for s in specs])


@pytest.fixture
def report(browser: Browser, path: Path) -> Iterator[Browser]:
    """The report, opened anew; whatever a test did, it made no error."""
    browser.driver.get_log("browser")
    browser.open(path)
    yield browser
    errors = [e for e in browser.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert errors == []


def test_a_value_on_an_axis_filters_table_and_lines(report):
    assert len(report.all("#parallel .line")) == 6
    report.driver.execute_script(
        "document.querySelector('#parallel [data-value=\"0.01\"]').dispatchEvent("
        "new Event('click'))"
    )
    assert report.column("lr") == ["0.01", "0.01"]
    assert len(report.all("#parallel .line.off")) == 4
    assert report.js("document.querySelector('#facet-LR').value") == "0.01"
    report.click("#clear")
    assert len(report.all("#parallel .line.off")) == 0


def test_curves_are_means_unless_every_run_is_asked_for(report):
    told = "document.querySelector('#told').textContent"
    assert report.js(told) == "6 means with 95% intervals (Student's t), of 18 runs."
    report.click("#every-run")
    assert report.js(told) == "18 single runs, of 18 runs."


def test_a_mean_is_that_of_its_runs(report):
    from selenium.webdriver.common.keys import Keys

    report.driver.execute_script("document.querySelector('#plot').focus()")
    report.keys(Keys.ARROW_DOWN)
    curves = "report.data.curves.test_accuracy"
    mean = report.js(f"[0, 1, 2].reduce((sum, run) => sum + {curves}[run].at(-1), 0) / 3")
    told = report.one("#told").text
    assert told.startswith("sgd dense, batch size 128, lr 0.001, mean of n = 3")
    assert f"accuracy {mean:.2f}% (" in told
    report.keys(Keys.ENTER)
    assert report.js("report.view.open.has(0)")


def test_colours_tell_the_longest_axis_apart(report):
    assert report.js("document.querySelector('#colour').selectedOptions[0].textContent") == "lr"


def test_dashes_tell_apart_what_colours_do_not(report):
    parts = """[...document.querySelectorAll('.dash')].filter((each) => each.checkVisibility())
        .map((each) => each.parentElement.textContent)"""
    lines = """(({ colour, dash }) => new Set(colour.map((one, at) => `${one} ${dash[at]}`)).size)(
        Bokeh.documents[0].roots()[0].renderers[1].data_source.data)"""
    assert report.js(parts) == ["128", "256"]
    assert report.js(lines) == 6, "each mean looks otherwise"
    report.choose("#colour", "batch size")
    assert report.js(parts) == ["0.001", "0.01", "0.1"]
    assert report.js(lines) == 6


def test_on_a_small_screen_the_score_stands_beside_the_name(report):
    report.width(420)
    report.until("document.querySelectorAll('#table thead th')[2].innerText.includes('accuracy')")
    first = report.js("document.querySelector('#table tbody tr').cells[1].innerText")
    assert "sgd, dense" in first, "the whole name, since the method's column is far to the right"
    assert first.strip().startswith("batch size 128, lr 0.001"), "what is the same may be cut off"
    box = "document.querySelectorAll('#table tbody td.score')[0].getBoundingClientRect()"
    assert report.js(f"{box}.right") <= 420
    report.width(0)


VISIBLE = """(() => {
  const e = document.activeElement, s = getComputedStyle(e);
  if (e === document.body) return "end";
  const isSeen = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2;
  return isSeen ? "" : e.outerHTML.slice(0, 80);
})()"""


@pytest.mark.parametrize("width", [0, 420])
def test_the_focus_is_seen_wherever_it_goes(report, width):
    from selenium.webdriver.common.keys import Keys

    report.width(width)
    report.driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    seen = 0
    for _ in range(200):
        report.keys(Keys.TAB)
        unseen = report.js(VISIBLE)
        if unseen == "end":
            break
        assert not unseen
        seen += 1
    assert 20 < seen < 200
    report.width(0)
