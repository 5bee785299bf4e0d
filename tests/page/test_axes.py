"""report.html of a sweep: axes as columns, filters, colours and parallel coordinates; means."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adamwprune import page
from adamwprune.page import data
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import RunResult
from adamwprune.report.present import Request
from tests.support.browser import Browser
from tests.support.records import expand, synthetic

SWEEP = {"LR": "0.001 0.01 0.1", "BATCH_SIZE": "128 256", "SEED": "0 1 2", "DATASET": "mnist5k"}


def test_axes_are_columns_and_colours():
    specs = expand("sgd", **SWEEP)
    found = data.of(specs, [synthetic(spec) for spec in specs], {}, Request())
    assert found["axes"] == [
        {"name": "BATCH_SIZE", "heading": "batch size", "values": ["128", "256"]},
        {"name": "LR", "heading": "lr", "values": ["0.001", "0.01", "0.1"]},
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
    assert first.strip().startswith("128, 0.001"), "what is the same may be cut off"
    box = "document.querySelectorAll('#table tbody td.score')[0].getBoundingClientRect()"
    assert report.js(f"{box}.right") <= 420
    report.width(0)


DRAWN = "Bokeh.documents[0].roots()[0].renderers"  # intervals, lines, single values


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three axes: eight groups of three seeds."""
    specs = expand("adamw", **{**SWEEP, "LR": "0.001 0.004", "WEIGHT_DECAY": "0 0.01"})
    return page.write(tmp_path_factory.mktemp("cube"), specs, [synthetic(s) for s in specs])


def test_widths_tell_apart_what_colours_and_dashes_leave_alike(report, cube):
    report.open(cube)
    looks = f"""(({{ colour, dash, width }}) => new Set(colour.map((one, at) =>
        `${{one}} ${{dash[at]}} ${{width[at]}}`)).size)({DRAWN}[1].data_source.data)"""
    assert report.js(looks) == 8, "each mean looks otherwise"
    samples = """[...document.querySelectorAll('.dash')].filter((each) => each.checkVisibility())
        .map((each) => each.parentElement.textContent)"""
    assert report.js(samples) == ["0.001", "0.004", "0", "0.01"]
    report.choose("#colour", "weight decay")
    assert report.js(looks) == 8


def test_on_a_small_screen_rows_and_axes_have_names_that_differ(report, cube):
    report.width(420)
    report.open(cube)
    names = """[...document.querySelectorAll('#table tbody th')].map((cell) => {
        const [text, range] = [cell.lastChild, document.createRange()];
        const seen = [...text.data].findIndex((_, at) => {
          range.setStart(text, at);
          range.setEnd(text, at + 1);
          return range.getBoundingClientRect().right > cell.getBoundingClientRect().right - 16;
        });
        return seen < 0 ? text.data : text.data.slice(0, seen);
    })"""
    assert len(set(report.js(names))) == 8, "what tells rows apart is in sight"
    assert report.js(names)[1].startswith("128, 0.001, 0.01")
    heading = "document.querySelectorAll('#table thead th')[1].innerText.trim()"
    assert report.js(heading) == "batch size, lr, weight decay"
    boxes = report.js("""[...document.querySelectorAll('#parallel .heading')].map((each) => {
        const { left, right } = each.getBoundingClientRect();
        return [left, right];
    })""")
    assert len(boxes) == 4
    gaps = [after[0] - before[1] for before, after in itertools.pairwise(boxes)]
    assert min(gaps) > 4, "pixels between the names of two axes"
    right = "document.querySelector('#parallel svg').getBoundingClientRect().right"
    assert report.js(right) <= 420, "the score's axis is in sight"
    report.width(0)


def test_a_legend_s_name_does_not_lie_on_its_buttons(report, cube):
    report.open(cube)
    gaps = report.js("""[...document.querySelectorAll('.legend:not([hidden])')].map((each) => {
        const range = document.createRange();
        range.selectNodeContents(each.firstElementChild);
        const button = each.querySelector("button").getBoundingClientRect();
        return button.left - range.getBoundingClientRect().right;
    })""")
    assert len(gaps) == 3
    assert min(gaps) > 4


def test_intervals_of_two_runs_are_not_drawn(report, tmp_path):
    specs = expand("sgd", **{**SWEEP, "SEED": "0 1"})
    two = expand("sgd", **SWEEP, EPOCHS="11")
    for added, bands, told in (
        ([], 0, "6 means of two runs, of 12 runs."),
        (two, 6, "6 means with 95% intervals (Student's t) and 6 means of two runs, of 30 runs."),
    ):
        every = [*specs, *added]
        report.open(page.write(tmp_path, every, [synthetic(spec) for spec in every]))
        assert report.js(f"{DRAWN}[1].data_source.data.xs.length") == 6 + bands
        assert report.js(f"{DRAWN}[0].data_source.data.xs.length") == bands
        left = " Intervals of two runs are wider than any panel and are left out."
        assert report.one("#told").text == told + left


def test_many_intervals_are_not_drawn_until_few_are_left(report, tmp_path):
    specs = expand("sgd", **{**SWEEP, "LR": "0.001 0.003 0.01 0.03 0.1"})
    report.open(page.write(tmp_path, specs, [synthetic(spec) for spec in specs]))
    bands = f"{DRAWN}[0].data_source.data.xs.length"
    assert report.js(bands) == 0
    assert report.one("#told").text == (
        "10 means, of 30 runs. Intervals are drawn where there are 8 means or fewer."
    )
    report.choose("#facet-BATCH_SIZE", "256")
    assert report.js(bands) == 5
    assert "5 means with 95% intervals" in report.one("#told").text


# -- the scale of the error ------------------------------------------------------------


def course(spec: RunSpec, accuracies: Sequence[float]) -> RunResult:
    """A run with these test accuracies."""
    record = synthetic(spec)
    pairs = zip(record.history, accuracies, strict=True)
    return replace(record, history=[{**entry, "test_accuracy": a} for entry, a in pairs])


@pytest.fixture(scope="module")
def dipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three courses that end between 98.7% and 99.2%; one dips to 75%."""
    specs = expand("sgd", LR="0.001 0.01 0.1", EPOCHS="4")
    courses = [[0.97, 0.98, 0.75, 0.987], [0.97, 0.98, 0.985, 0.99], [0.97, 0.98, 0.985, 0.992]]
    records = [course(spec, own) for spec, own in zip(specs, courses, strict=True)]
    return page.write(tmp_path_factory.mktemp("dipped"), specs, records)


def test_one_dip_does_not_squeeze_the_curves(report, dipped):
    report.open(dipped)
    assert "log scale of the error" in report.one("#plot").get_attribute("aria-label")
    ys = f"{DRAWN}[1].data_source.data.ys"
    assert report.js(f"[...{ys}[0]]") == pytest.approx([3, 2, 25, 1.3]), "what lacks to 100%"
    (_, (worst, best)) = report.js("report.chart.ranges()")
    assert worst > 25 > 0.8 > best > 0, "all is in sight, and the best on top"
    height = "Bokeh.index.roots[0].frame.y_scale.compute(arguments[0])"
    part = (report.js(height, 1.3) - report.js(height, 0.8)) / (
        report.js(height, worst) - report.js(height, best)
    )
    assert part > 0.12, "of the axis, which is 0.02 of a linear one"
    ticks = report.js("""(() => {
        const axis = Bokeh.documents[0].roots()[0].left[0];
        const { major } = axis.ticker.get_ticks(0.7, 27, null, null);
        return axis.formatter.doFormat(major, {});
    })()""")
    assert ticks == ["99", "98", "95", "90", "80"]


def test_the_scale_of_the_error_is_pointed_at_zoomed_and_switched_off(report, dipped):
    report.open(dipped)
    (_, before) = report.js("report.chart.ranges()")
    report.click("#zoom-in")
    (_, (worst, best)) = report.js("report.chart.ranges()")
    assert worst / best == pytest.approx((before[0] / before[1]) ** 0.7)
    report.click("#zoom-all")
    assert report.js("report.chart.ranges()")[1] == before
    report.one("#plot")
    x, y = report.js("""(() => {
        const box = document.querySelector("#plot").getBoundingClientRect();
        const { x_scale, y_scale } = Bokeh.index.roots[0].frame;
        return [x_scale.compute(3) - box.width / 2, y_scale.compute(25) - box.height / 2];
    })()""")
    report.hover("#plot", round(x) - 3, round(y))
    report.hover("#plot", round(x), round(y))
    report.until("document.querySelector('#told').textContent.includes('epoch 3: accuracy 75.00%')")
    report.click("#log")
    (_, (low, high)) = report.js("report.chart.ranges()")
    assert 70 < low < 75 < 99 < high < 101


def test_the_scale_is_linear_where_no_course_dips(report, tmp_path):
    specs = expand("sgd", LR="0.001 0.01", EPOCHS="2")
    records = [course(spec, [0.97, 0.98]) for spec in specs]
    report.open(page.write(tmp_path, specs, records))
    assert not report.js("document.querySelector('#log').checked")
    (_, (low, high)) = report.js("report.chart.ranges()")
    assert 96 < low < 97 < 98 < high < 99


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
