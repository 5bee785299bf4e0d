"""report.html: what is in it, that nothing in it runs or is loaded, and that it can be used.

Tests of the second half drive a headless Chromium and are skipped where there is none.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from adamwprune import page
from adamwprune.base.errors import UserError
from adamwprune.page import data, html, vendor
from adamwprune.page.data import Uncounted
from adamwprune.plan.spec import RunSpec
from adamwprune.records.record import FROZEN, RunResult
from adamwprune.report import comparisons, tables
from adamwprune.report.comparisons import Commands
from adamwprune.report.groups import settings
from adamwprune.report.present import Request
from adamwprune.report.statistics import judge
from tests.support.browser import Browser
from tests.support.commands import make_here
from tests.support.records import expand, in_bits, marked, synthetic

EVIL = "</script><img src=x onerror=window.broken=1><!--<script>&amp;\u2028'\"`${1}"
ADD_SEEDS = 'make SEED="0 1 2"'


@pytest.fixture(scope="module")
def seeds() -> list[RunSpec]:
    """Three seeds of adam and adamw: dense, magnitude and movement at two targets."""
    return expand(
        "memory-comparison", OPTIMIZER="adam adamw", SEED="0 1 2", TARGET_SPARSITY="0.5 0.9"
    )


@pytest.fixture(scope="module")
def shown(seeds: list[RunSpec]) -> dict[str, Any]:
    """Data in which one run failed, one is missing and one is stale."""
    failed = replace(synthetic(seeds[3], status="failed"), error="Traceback …\nValueError: nan")
    records = [synthetic(spec) for spec in seeds[6:]] + [failed, *map(synthetic, seeds[:3])]
    stale = Uncounted("stale", "changed since: train.loop", synthetic(seeds[4]))
    others = {seeds[4].run_id: stale, seeds[5].run_id: Uncounted("missing", "interrupted")}
    return data.of(seeds, records, others, Request())


def rendered(shown: dict[str, Any]) -> str:
    """The page, in the look of four groups."""
    specs = expand("memory-comparison", OPTIMIZER="adam adamw", TARGET_SPARSITY="0.5 0.9")
    return html.render(shown, data.look(specs), "0")


def evil(spec: RunSpec) -> tuple[RunSpec, RunResult]:
    """A run whose every text is an attack."""
    named = RunSpec({**spec.values, "OPTIMIZER": EVIL, "PRUNING_SCOPE": EVIL})
    record = synthetic(named)
    place = dict.fromkeys(data.ORIGIN, EVIL)
    return named, replace(record, environment=place, code={"digest": EVIL}, weights=EVIL)


class Elements(HTMLParser):
    """Tags with their attributes, and the texts of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, text: str) -> None:
        if self._in_script:
            self.scripts[-1] += text


# -- what is in it -----------------------------------------------------------------


def test_groups_are_the_rows_of_the_table(seeds):
    records = [synthetic(spec) for spec in seeds]
    verdicts = judge(settings(seeds, records))
    rows = tables.result_rows(seeds, records, verdicts.leading)
    groups = data.of(seeds, records, {}, Request())["groups"]
    assert [g["score_text"] for g in groups] == [r.score.text() for r in rows if r.score]
    assert [g["leading"] for g in groups] == [row.leading for row in rows]
    assert any(g["leading"] for g in groups)
    assert [len(g["runs"]) for g in groups] == [3] * len(rows)
    assert groups[1]["interval"] == "{:.2f}–{:.2f}".format(*rows[1].interval or ())


def test_verdicts_are_those_of_the_terminal(seeds):
    records = [synthetic(spec) for spec in seeds]
    verdicts = judge(settings(seeds, records))
    told = data.of(seeds, records, {}, Request())["verdicts"]
    lines = comparisons.sentences(verdicts, Commands())
    assert [line["text"] for line in told["lines"]] == [line.strip() for line in lines]
    assert sum(told["counts"].values()) == len(told["rows"]) == len(verdicts.comparisons)
    assert told["rows"][0]["cells"][-1] == verdicts.comparisons[0].verdict


@pytest.mark.parametrize("count", [1, 2])
def test_no_winner_below_three_seeds_and_the_command_for_more(count):
    words = " ".join(map(str, range(count)))
    specs = expand("memory-comparison", OPTIMIZER="adamw", TARGET_SPARSITY="0.9", SEED=words)
    told = data.of(specs, [synthetic(spec) for spec in specs], {}, Request())["verdicts"]
    assert told["counts"]["better"] == told["counts"]["worse"] == told["counts"]["tied"] == 0
    assert told["counts"]["too few seeds"] == len(told["rows"]) > 0
    assert [line["text"] for line in told["lines"] if line["command"]] == [ADD_SEEDS]


def test_what_does_not_count_is_marked_and_in_no_mean(shown):
    assert [run["status"] for run in shown["runs"][3:6]] == ["failed", "stale", "missing"]
    failed, stale, missing = shown["runs"][3:6]
    assert failed["error"].endswith("ValueError: nan")
    assert stale["why"] == "changed since: train.loop"
    assert stale["score"] is not None
    assert missing["score"] is missing["total"] is None
    group = shown["groups"][1]
    assert group["runs"] == [3, 4, 5]
    assert (group["n"], group["score"], group["status"]) == (0, None, "1 failed, 2 missing")


def test_published_records_keep_their_mark(quick):
    run = data.of(quick[:1], [marked(synthetic(quick[0]), FROZEN)], {}, Request())["runs"][0]
    assert (run["status"], run["marks"]) == ("done", [FROZEN])


def test_every_curve_and_where_it_comes_from(shown, seeds):
    record = synthetic(seeds[0])
    assert shown["curves"]["test_accuracy"][0] == [
        float(f"{100 * entry['test_accuracy']:.6g}") for entry in record.history
    ]
    assert shown["curves"]["sparsity"][3] is None  # it failed before its first epoch
    commit = shown["origin"]["commit"]
    assert commit == {"texts": ["0123abc"], "runs": [*[0] * 5, -1, *[0] * (len(seeds) - 6)]}


def test_a_dense_group_of_two_settings_is_there_once():
    settings = ({"OPTIMIZER": "adamw", "PRUNING_SCHEDULE": each} for each in ("cubic", "linear"))
    both = [spec for each in settings for spec in expand("memory-comparison", **each)]
    specs = list(dict.fromkeys(both))
    assert len(specs) == len(both) - 1
    found = data.of(specs, [synthetic(spec) for spec in specs], {}, Request())
    assert [axis["name"] for axis in found["axes"]] == ["PRUNING_SCHEDULE"]
    axes = [group["axes"] for group in found["groups"] if not group["target"]]
    assert axes == [{"PRUNING_SCHEDULE": ""}]
    assert len(found["runs"]) == len(specs)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "99", None, True, [1]])
def test_what_is_no_finite_number_is_null(quick, value):
    record = synthetic(quick[0])
    history: list[Any] = [{**record.history[0], "test_loss": value}, *record.history[1:]]
    found = data.of(quick[:1], [replace(record, history=history)], {}, Request())
    assert found["curves"]["test_loss"][0][0] is None
    assert found["curves"]["test_loss"][0][1] is not None
    json.loads(html.embed(found))


def test_a_column_holds_each_text_once():
    values = ["a", None, 1e-3, "a", True, {"x": [1]}, ""]
    found = data.column(values)
    assert found["texts"] == ["a", "0.001", "True", '{"x": [1]}', ""]
    assert [found["texts"][n] if n >= 0 else None for n in found["runs"]] == [
        "a", None, "0.001", "a", "True", '{"x": [1]}', ""]  # fmt: skip


def test_the_command_that_repeats_a_run():
    commands = Commands({"O": "out", "RUN": "other"}, "memory-comparison")
    assert commands.reproduce("x") == "make reproduce O=out CONFIG=memory-comparison RUN=x"


# -- nothing in it runs or is loaded -------------------------------------------------


@pytest.mark.parametrize("text", [EVIL, "</SCRIPT>", "<!--", "\ud800", "]]>", "\\u003c"])
def test_embedded_data_is_data(text):
    embedded = html.embed({"a": [text]})
    assert not set(embedded) & set("<>&\u2028\u2029")
    assert embedded.isascii()
    assert json.loads(embedded) == {"a": [text]}


def test_no_text_of_a_record_is_markup(tmp_path, quick):
    spec, record = evil(quick[1])
    lost = RunSpec({**spec.values, "SEED": 1})
    failed = RunSpec({**spec.values, "SEED": 2})
    records = [record, replace(synthetic(failed, status="failed"), error=EVIL)]
    plain = Request(commands=Commands({"O": EVIL}))
    uncounted = {lost.run_id: Uncounted("stale", EVIL, evil(lost)[1])}
    text = page.write(tmp_path, [spec, lost, failed], records, uncounted, plain).read_text()
    normal = page.write(tmp_path, quick[:3], [synthetic(quick[1])]).read_text()
    assert [tag for tag, _ in Elements(text).found] == [tag for tag, _ in Elements(normal).found]
    shown = json.loads(Elements(text).scripts[0])
    assert shown["groups"][0]["optimizer"] == EVIL
    assert shown["origin"]["command"]["texts"] == [EVIL]
    assert text.count(EVIL) == 0


def test_only_its_own_scripts_may_run_and_nothing_is_loaded(shown):
    elements = Elements(rendered(shown))
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in elements.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    digests = [hashlib.sha256(text.encode()).digest() for text in elements.scripts[1:]]
    assert rules["script-src"].split() == [
        f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests
    ]
    for _, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))


def test_the_library_is_named_with_its_licence(shown):
    library = vendor.library()
    text = rendered(shown)
    assert f"BokehJS {library.version}, licence {library.licence}" in text
    assert "Redistributions in binary form must reproduce" in library.terms
    assert library.scripts[0] in text


def test_without_the_library_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(vendor, "PACKAGE", "nosuchpackage")
    with pytest.raises(UserError, match="needs nosuchpackage"):
        page.write(tmp_path, [], [])
    assert not list(tmp_path.iterdir())


def test_the_same_records_give_the_same_bytes(tmp_path, quick):
    records = [synthetic(spec) for spec in quick]
    first = page.write(tmp_path / "a", quick, records).read_bytes()
    assert page.write(tmp_path / "b", quick, records).read_bytes() == first


def test_a_report_that_says_the_same_stays_as_it_is(tmp_path, quick):
    records = [synthetic(spec) for spec in quick]
    path = page.write(tmp_path, quick, records)
    before = path.stat().st_mtime_ns
    assert page.write(tmp_path, quick, records).stat().st_mtime_ns == before
    for others in (records[1:], [marked(records[0], FROZEN), *records[1:]]):
        page.write(tmp_path, quick, others)
        assert path.stat().st_mtime_ns != before
        before = path.stat().st_mtime_ns
    path.write_text("not a report")
    assert len(page.write(tmp_path, quick, records).read_text()) > 1_000_000


def test_the_command_writes_it_without_training(tmp_path):
    done = make_here(tmp_path, "html-report", "CONFIG=quickstart")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "results" / "report.html"
    assert done.stdout.splitlines()[-1] == f"{path}: 10 runs, for a browser"
    found = json.loads(Elements(path.read_text()).scripts[0])
    assert {run["status"] for run in found["runs"]} == {"missing"}


# -- in a browser ------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, shown: dict[str, Any]) -> Path:
    """A report of thirty runs in groups of three seeds."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(rendered(shown))
    return file


@pytest.fixture
def report(browser: Browser, path: Path) -> Iterator[Browser]:
    """The report, opened anew; whatever a test did, it made no error and loaded nothing."""
    for kind in ("performance", "browser"):
        browser.driver.get_log(kind)
    browser.open(path)
    yield browser
    errors = [e for e in browser.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    urls = loaded(browser)
    assert path.as_uri() in urls  # the log is one of what was asked for
    assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []
    browser.emulate(prefers_color_scheme="light")
    browser.width(0)


def loaded(browser: Browser) -> list[str]:
    """What pages from files asked for since the last call; the browser's own page may be late."""
    events = (json.loads(e["message"])["message"] for e in browser.driver.get_log("performance"))
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in asked if each["documentURL"].startswith("file:")]


def numbers(texts: Sequence[str]) -> list[float]:
    """The means in a column, without rows that have none."""
    return [float(text.split()[0]) for text in texts if text]


def test_the_table_is_sorted_by_its_headings(report):
    assert len(report.column("accuracy")) == 10
    report.heading("accuracy %").click()
    found = numbers(report.column("accuracy"))
    assert found == sorted(found, reverse=True)
    assert report.heading("accuracy %").find_element("xpath", "..").get_attribute("aria-sort") == (
        "descending"
    )
    report.heading("accuracy %").click()
    assert numbers(report.column("accuracy")) == found[::-1]
    assert report.column("accuracy")[-1] == ""  # what has no number stands below, either way
    report.heading("optimizer").click()
    assert report.column("optimizer") == ["adam"] * 5 + ["adamw"] * 5


def test_lower_is_better_where_it_is(browser, tmp_path, quick):
    """The first click puts the best on top; the chart begins with the metric, named with it."""
    other = [RunSpec({**spec.values, "DATASET": "mnist"}) for spec in quick[:3]]
    bits = [in_bits(synthetic(spec)) for spec in quick]
    for records in (bits, [*bits, *map(synthetic, other)]):
        specs = [record.spec for record in records]
        browser.open(page.write(tmp_path, specs, records))
        label = "document.querySelector('#plot').ariaLabel"
        assert browser.js(label).startswith("test bits per byte (lower is better) over the epochs")
        heading = "bits per byte" if records is bits else "result"
        browser.heading(heading).click()
        column = browser.column(heading)
        found = numbers(column[: len(bits)])
        assert found == sorted(found)
        order = browser.heading(heading).find_element("xpath", "..").get_attribute("aria-sort")
        assert order == ("ascending" if records is bits else "descending")
    assert all(text.endswith("bits per byte") for text in column[:10])
    accuracies = numbers(column[10:])
    assert accuracies == sorted(accuracies, reverse=True), "metrics stand apart, each best first"


def test_the_filters_hold_for_the_table_and_the_chart(report):
    assert report.js("document.querySelector('#plot').dataset.runs") == "28"
    report.one("#words").send_keys("adamw 90%")
    report.until("document.querySelector('#found').textContent === '6 of 30 runs'")
    assert report.column("target") == ["90%", "90%"]
    assert report.js("document.querySelector('#plot').dataset.runs") == "6"
    report.choose("#facet-method", "movement")
    assert report.column("method") == ["movement"]
    report.one("#words").send_keys(" nothing")
    report.until("document.querySelector('#found').textContent === '0 of 30 runs'")
    assert "No run matches" in report.one("#table tbody").text
    report.click("#clear")
    assert len(report.column("optimizer")) == 10
    assert report.one("#words").get_attribute("value") == ""
    report.choose("#facet-status", "failed")
    assert report.js("document.querySelector('#found').textContent") == "1 of 30 runs"


def test_a_group_opens_to_its_runs_and_says_what_is_wrong(report):
    report.click("#table tbody tr:nth-child(2)")
    assert report.column("seed")[:6] == ["n = 3", "n = 0 of 3", "0", "1", "2", "n = 3"]
    states = [text.split(" ", 1)[1] for text in report.column("status")[1:5]]
    assert states == ["1 failed, 2 missing", "failed", "stale", "missing"]
    report.click("#each")
    assert len(report.column("seed")) == 30
    assert set(report.column("seed")) == {"0", "1", "2"}


def test_runs_are_put_into_the_chart_and_taken_out(report):
    runs = "document.querySelector('#plot').dataset.runs"
    report.click("#table tbody tr:first-child input")
    assert report.js(runs) == "25"
    report.click("#by-optimizer button:nth-of-type(2)")
    assert report.js(runs) == "10"
    pressed = report.one("#by-optimizer button:nth-of-type(2)").get_attribute("aria-pressed")
    assert pressed == "false"
    head = "#table thead input"
    assert report.js(f"document.querySelector('{head}').indeterminate")
    report.click(head)
    assert report.js(runs) == "28"
    report.click(head)
    assert report.js(runs) == "0"


def test_a_row_under_the_pointer_is_highlighted_in_the_chart(report):
    hot = "document.querySelector('#plot').dataset.hot"
    report.hover("#table tbody tr:nth-child(3)")
    assert report.js(hot) == "6 7 8"
    report.hover("h1")
    assert report.js(hot) == ""


def test_a_curve_under_the_pointer_is_highlighted_in_the_table(report):
    report.click("#every-run")
    report.one("#plot")
    x, y = report.js(
        """(() => {
        const box = document.querySelector("#plot").getBoundingClientRect();
        const view = Bokeh.index.roots[0];
        const value = report.data.curves.test_accuracy[9][4];
        return [view.frame.x_scale.compute(5) - box.width / 2,
                view.frame.y_scale.compute(100 - value) - box.height / 2]; // by its error
        })()"""
    )
    report.hover("#plot", round(x) - 3, round(y))
    report.hover("#plot", round(x), round(y))
    report.until("document.querySelectorAll('#table tr.hot').length === 1")
    number = int(report.js("document.querySelector('#plot').dataset.hot"))
    run = report.js("report.runs[arguments[0]].label", number)
    assert report.js("document.querySelector('#tip').innerText").startswith(run)
    assert "epoch 5: accuracy" in report.js("document.querySelector('#told').textContent")
    assert report.js("document.querySelector('#table tr.hot').entry.runs").count(number) == 1


def test_the_chart_is_zoomed_and_shows_other_measures(report):
    ranges = "report.chart.ranges()"
    report.click("#log")  # off
    whole = report.js(ranges)
    report.click("#zoom-in")
    (left, right), (low, high) = report.js(ranges)
    assert right - left == pytest.approx(0.7 * (whole[0][1] - whole[0][0]))
    assert high - low == pytest.approx(0.7 * (whole[1][1] - whole[1][0]))
    report.click("#zoom-all")
    assert report.js(ranges) == whole
    report.click("#zoom-end")
    assert report.js(ranges)[0][0] > 5
    report.choose("#measure", "sparsity")
    (_, _), (low, high) = report.js(ranges)
    assert low < 0 < 90 < high < 100
    report.choose("#measure", "test loss")
    assert report.js("document.querySelector('#log').checked")
    assert report.js(ranges)[1][0] > 0
    report.click("#log")
    assert report.js("document.querySelector('#plot').ariaLabel").startswith(
        "test loss (nats; lower is better) over"
    )


def test_two_configurations_are_compared(report):
    report.choose("#first", "adam magnitude 90%, seed 0")
    report.choose("#second", "adamw magnitude 90%, seed 2")
    rows = "[...document.querySelectorAll('#diff tbody:first-of-type tr')].map((r) => r.innerText)"
    found = [line.split("\t") for line in report.js(rows)]
    assert found[0][0].startswith("Configuration: 3 of ")
    assert found[1:] == [["OPTIMIZER", "adam", "adamw"], ["SEED", "0", "2"],
                         ["WEIGHT_DECAY", "0.0", "0.0001"]]  # fmt: skip
    assert report.one("#difference").text == "3 symbols differ: OPTIMIZER, SEED, WEIGHT_DECAY."
    report.click("#all-symbols")
    everything = [line.split("\t") for line in report.js(rows)]
    assert ["EPOCHS", "10", "10"] in everything
    report.click("#swap")
    assert ["SEED", "2", "0"] in [line.split("\t") for line in report.js(rows)]


def test_the_table_is_walked_through_with_the_keyboard(report):
    from selenium.webdriver.common.keys import Keys

    hot = "document.querySelector('#plot').dataset.hot"
    label = "document.activeElement.entry.group.label"
    report.driver.execute_script("document.querySelector('#expand').focus()")
    for _ in range(3 + len(report.all("#table thead button"))):
        report.keys(Keys.TAB)
        if report.js("document.activeElement.tagName") == "TR":
            break
    assert report.js(label) == "adam dense"
    report.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert report.js(label) == "adam magnitude 90%"
    assert report.js(hot) == "6 7 8"
    report.keys(Keys.ARROW_RIGHT)
    assert report.js("document.activeElement.ariaExpanded") == "true"
    report.keys(Keys.ARROW_DOWN)
    assert report.js(hot) == "6"
    report.keys(" ")
    assert report.js("document.querySelector('#plot').dataset.runs") == "27"
    report.keys(Keys.ENTER)
    assert report.one("#run-title").text == "adam magnitude 90%, seed 0"
    report.keys(Keys.ESCAPE)
    assert not report.js("document.querySelector('#run').open")
    assert report.js("document.activeElement.entry.run.number") == 6
    report.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert report.js("document.activeElement.ariaExpanded") == "false"
    report.keys(Keys.END)
    assert report.js(label) == "adamw movement 90%"
    assert report.js("document.querySelectorAll('tbody tr[tabindex=\"0\"]').length") == 1


def test_the_chart_answers_to_the_keyboard(report):
    from selenium.webdriver.common.keys import Keys

    report.click("#every-run")
    report.driver.execute_script("document.querySelector('#plot').focus()")
    report.keys(Keys.ARROW_DOWN)
    assert report.one("#told").text.startswith("adam dense, seed 0 – epoch 10: accuracy ")
    report.keys(Keys.ARROW_DOWN, Keys.ARROW_LEFT)
    assert report.one("#told").text.startswith("adam dense, seed 1 – epoch 9: accuracy ")
    assert report.js("document.querySelector('#plot').dataset.hot") == "1"
    before = report.js("report.chart.ranges()")
    report.keys("+")
    assert report.js("report.chart.ranges()") != before
    report.keys("0")
    assert report.js("report.chart.ranges()") == before
    report.keys(Keys.ENTER)
    assert report.one("#run-title").text == "adam dense, seed 1"


def test_a_run_says_where_it_comes_from_and_how_it_is_repeated(report):
    report.click("#each")
    report.click("#table tbody tr:nth-child(1) .more")
    body = report.one("#run-body").text
    for line in ("0123abc", "Imaginary CPU @ 2.60GHz", "2.14.1", "BATCH_SIZE", "Wall clock"[1:]):
        assert line in body
    lines = [code.text for code in report.all("#run-body code")]
    assert lines == [f"make reproduce RUN={report.js('report.runs[0].id')}"]
    report.click("#run-body .copy")
    report.until(
        "['Copied', 'Selected'].includes(document.querySelector('#run-body .copy').innerText)"
    )
    report.click("#close")
    report.click("#table tbody tr:nth-child(4) .more")
    assert "ValueError: nan" in report.one("#run-body pre").text
    assert "make retry" in [code.text for code in report.all("#run-body code")]


def test_light_and_dark(report):
    paper = "getComputedStyle(document.querySelector('section')).backgroundColor"
    chart = (
        "Bokeh.index.roots[0].model.background_fill_color.value ?? "
        "Bokeh.index.roots[0].model.background_fill_color"
    )
    light = report.js(paper)
    report.emulate(prefers_color_scheme="dark")
    report.until(f"{paper} !== '{light}'")
    report.until(f"({chart}) === '#1a1e23'")  # bokeh follows in a frame
    report.click("#theme")
    assert report.one("#theme").text == "Theme: light"
    assert report.js(paper) == light
    report.until(f"({chart}) === '#ffffff'")
    report.click("#theme")
    report.until(f"({chart}) === '#1a1e23'")  # bokeh follows in a frame
    report.click("#theme")
    assert report.one("#theme").text == "Theme: system"


@pytest.mark.parametrize("pixels", [360, 800, 1400, 2300])
def test_the_page_is_not_wider_than_the_window(report, pixels):
    report.width(pixels)
    report.until(f"document.documentElement.scrollWidth <= {pixels}")  # bokeh follows in a frame
    assert report.js("document.querySelector('#canvas').offsetWidth") > 0.6 * min(pixels, 1000) / 2


def test_every_control_has_a_name(report):
    nameless = [
        element.get_attribute("outerHTML")
        for element in report.all("button, input, select, table, [role], [tabindex='0']")
        if element.is_displayed()
        and element.aria_role not in ("none", "generic", "row", "alert", "status")
        and not element.accessible_name
    ]
    assert nameless == []
    assert report.js("document.querySelector('#table').getAttribute('role')") == "treegrid"


def test_no_text_of_a_record_runs(report, tmp_path, quick):
    spec, record = evil(quick[1])
    other = RunSpec({**spec.values, "SEED": 1})
    uncounted = {other.run_id: Uncounted("stale", EVIL)}
    report.open(page.write(tmp_path, [spec, other], [record], uncounted))
    assert report.column("optimizer") == [EVIL.replace("\u2028", "\n")] or EVIL in report.js(
        "document.querySelector('#table tbody').textContent"
    )
    report.click("#table tbody tr")
    report.hover("#table tbody tr:nth-child(2)")
    report.click("#table tbody tr:nth-child(2) .more")
    assert EVIL in report.js("document.querySelector('#run-body').textContent")
    report.click("#close")
    report.click("#table tbody tr:nth-child(3) .more")
    report.click("#close")
    report.click("#all-symbols")
    assert report.js("document.querySelectorAll('img').length") == 0
    assert report.js("window.broken") is None


def test_runs_by_steps_are_measured_at_evaluations(seeds):
    spec = seeds[0]
    plain = {name: value for name, value in spec.values.items() if name != "EPOCHS"}
    short = RunSpec({**plain, "STEPS": 20})
    assert data.of([spec], [], {}, Request())["course"] == "epoch"
    assert data.of([short], [], {}, Request())["course"] == "evaluation"


def test_samples_are_shown_as_text_where_there_are_any(report, tmp_path, quick):
    records = [synthetic(spec) for spec in quick[:2]]
    texts = {quick[1].run_id: f"To be\n{EVIL}"}
    report.open(page.write(tmp_path, quick[:2], records, samples=texts))
    shown = "document.querySelector('#sample-list').textContent"
    assert EVIL.replace("\u2028", "\n") in report.js(shown).replace("\u2028", "\n")
    assert report.js("document.querySelectorAll('#sample-list details').length") == 1
    assert report.js("document.querySelectorAll('img').length") == 0
    report.click("#table tbody tr:nth-child(2) .more")
    assert "A sample of its text" in report.js("document.querySelector('#run-body').textContent")
    report.click("#close")
    report.open(page.write(tmp_path, quick[:2], records))
    assert report.js("document.querySelector('#samples').hidden")


def test_very_many_rows_are_all_there_in_the_end(report, tmp_path, reseeded):
    specs = [reseeded(spec, seed) for spec in expand("quickstart") for seed in range(40)]
    report.open(page.write(tmp_path, specs, [synthetic(spec) for spec in specs]))
    report.click("#each")
    report.until("document.querySelectorAll('#table tbody tr').length === 400")
    report.driver.execute_script("document.querySelector('#table tbody tr').focus()")
    from selenium.webdriver.common.keys import Keys

    report.keys(Keys.END)
    assert report.js("document.activeElement.rowIndex") == 400


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 1,300 learning rates: each is a row, and a setting of its own."""
    base = RunSpec({**expand("quickstart")[0].values, "EPOCHS": 2})
    specs = [RunSpec({**base.values, "LR": 1e-5 * (n + 1)}) for n in range(1300)]
    return page.write(tmp_path_factory.mktemp("long"), specs, [synthetic(spec) for spec in specs])


ROWS = "[...document.querySelectorAll('#table tbody tr')].map((row) => Number(row.ariaRowIndex))"
IN_SIGHT = """(() => {
    const frame = document.querySelector("#table-frame").getBoundingClientRect();
    const top = frame.top + document.querySelector("#table thead tr").offsetHeight;
    return [...document.querySelectorAll("#table tbody tr")].filter((row) => {
        const place = row.getBoundingClientRect();
        return place.bottom > top + 1 && place.top < frame.bottom - 1;
    }).map((row) => Number(row.ariaRowIndex));
    })()"""


def test_of_thousands_of_rows_a_part_is_in_the_document(report, long):
    report.open(long)
    frame = "document.querySelector('#table-frame')"
    assert report.one("#table").get_attribute("aria-rowcount") == "1301"
    report.until(f"{ROWS}.length === 500")  # and no more follow
    height = report.js(f"{frame}.scrollHeight")
    for part in (0.1, 0.5, 0.55, 1.0, 0.9, 0.3, 0.0):
        report.driver.execute_script(
            f"{frame}.scrollTop = arguments[0] * ({frame}.scrollHeight - {frame}.clientHeight)",
            part,
        )
        report.until(f"{IN_SIGHT}.length > 10")
        rows, seen = report.js(ROWS), report.js(IN_SIGHT)
        assert len(rows) <= 500
        assert rows == list(range(rows[0], rows[0] + len(rows)))
        assert seen[0] == pytest.approx(2 + part * (1300 - len(seen)), abs=2)
        assert report.js(f"{frame}.scrollHeight") == pytest.approx(height, abs=1)
        assert len(report.all("#table tbody tr[tabindex='0']")) == 1


def test_the_keyboard_reaches_every_one_of_thousands_of_rows(report, long):
    from selenium.webdriver.common.keys import Keys

    report.open(long)
    at = "Number(document.activeElement.ariaRowIndex)"
    report.driver.execute_script("document.querySelector('#table tbody tr').focus()")
    for key, row in ((Keys.END, 1301), (Keys.ARROW_UP, 1300), (Keys.PAGE_UP, 1290), (Keys.HOME, 2),
                     (Keys.PAGE_DOWN, 12)):  # fmt: skip
        report.keys(key)
        assert report.js(at) == row
        assert row in report.js(IN_SIGHT)
        assert report.js("document.querySelector('#plot').dataset.hot") == str(row - 2)
    report.driver.execute_script("document.querySelector('#table-frame').scrollTop = 30_000")
    report.until(f"{at} > 500")  # the row it was at is gone: it is still in the table
    report.keys(Keys.ENTER)
    assert "adam" in report.one("#run-title").text
    report.click("#close")
    report.heading("optimizer").click()
    assert report.js(ROWS)[0] == 2
    report.one("#words").send_keys("0.01299")
    report.until(f"{ROWS}.length === 1")


def test_a_curve_far_down_is_found_in_the_table(report, long):
    report.open(long)
    report.driver.execute_script("report.highlight([1200]); report.table.reveal(1200, false)")
    report.until("document.querySelectorAll('#table tr.hot').length === 1")
    assert 1202 in report.js(IN_SIGHT)
    assert report.js("document.querySelector('#table tr.hot').entry.run.number") == 1200
