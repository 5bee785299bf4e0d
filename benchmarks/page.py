"""The report for a browser: how long it takes to write one of many runs, and to open it."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from adamwprune.page import FILE
from adamwprune.records.record import RunResult
from benchmarks import commands, metrics, processes
from benchmarks.matrix import make
from benchmarks.metrics import Metric, Options, at_most

SECTION = "page"
SEEDS, OPTIMIZERS = 5, ("sgd", "adam", "adamw", "adamwadv", "adamwspam")
RATES = 200  # learning rates: with the others 5,000 runs in 1,000 groups and 200 settings
EPOCHS = 10
_PATIENCE = 300.0  # seconds until the page must be ready
_FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run",
          "disable-background-networking", "window-size=1400,1000")  # fmt: skip
_MARKS = """return Object.fromEntries([...performance.getEntriesByType("paint"),
    ...performance.getEntriesByType("mark")].map((each) => [each.name, each.startTime / 1000]))"""


@dataclass(frozen=True)
class Opening:
    """Seconds since the navigation, and ``busy``: of the page's own thread on a processor."""

    painted: float
    readable: float
    ready: float
    busy: float


def prepare(options: Options) -> tuple[Path, int]:
    """A directory with the records of very many runs, and how many there are."""
    folder = options.scratch / "page"
    rates, seeds = (2, 2) if options.quick else (RATES, SEEDS)
    specs = commands.configured(
        folder,
        "adamw",
        DATASET="mnist5k",
        EPOCHS=str(EPOCHS),
        OPTIMIZER=" ".join(OPTIMIZERS),
        LR=" ".join(f"{(n + 1) / 1e5:g}" for n in range(rates)),
        SEED=" ".join(map(str, range(seeds))),
    )
    commands.synthesise(folder, specs, longer(commands.template(options)))
    return folder, len(specs)


def longer(record: RunResult) -> RunResult:
    """The record as if it were of ``EPOCHS`` epochs: their curve is flat."""
    first = record.history[0]
    history = [
        {**first, "epoch": number, "step": number * first["step"]}
        for number in range(1, EPOCHS + 1)
    ]
    return replace(record, history=history)


def measure(options: Options) -> list[Metric]:
    """Write the report ``options.repetitions`` times, and open it as often."""
    folder, runs = prepare(options)
    path, words = folder / "results" / FILE, make({"O": str(folder)}, "html-report")
    written, memory = [], []
    for _ in range(options.repetitions):
        path.unlink(missing_ok=True)
        done = processes.run(words)
        written.append(done.seconds)
        memory.append(done.rss / 1e6)

    def named(name: str) -> str:
        return f"{name}, {runs:,} runs"

    found = [
        metrics.of(SECTION, named("make html-report"), "s", written),
        metrics.of(SECTION, named("its peak memory, all processes"), "MB", memory),
        metrics.of(SECTION, named("size of report.html"), "MB", [path.stat().st_size / 1e6]),
    ]
    opened = openings(path, options.repetitions)
    if not opened:
        return found
    goal = None if options.quick else at_most(3.0)
    return [
        *found,
        metrics.of(SECTION, named("first paint"), "s", [o.painted for o in opened]),
        metrics.of(SECTION, named("table to be read"), "s", [o.readable for o in opened]),
        metrics.of(SECTION, named("chart drawn, page ready"), "s", [o.ready for o in opened], goal),
        metrics.of(SECTION, named("processor time of that"), "s", [o.busy for o in opened]),
    ]


def openings(path: Path, count: int) -> list[Opening]:
    """The page opened so many times in a headless Chromium; none without one and its driver."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    try:
        webdriver = import_module("selenium.webdriver")
    except ImportError:
        return []
    if not all(programs):
        return []
    with browser(webdriver, *map(str, programs)) as driver:
        return [opening(driver, path) for _ in range(count)]


@contextmanager
def browser(webdriver: Any, program: str, driver: str) -> Iterator[Any]:
    """A Chromium that counts what its pages take of a processor."""
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in _FLAGS:
        options.add_argument(f"--{flag}")
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        found.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        yield found
    finally:
        found.quit()


def opening(driver: Any, path: Path) -> Opening:
    """Load the page anew and wait until its chart is drawn."""
    driver.get("about:blank")
    before = busy(driver)
    driver.get(path.as_uri())
    until = time.monotonic() + _PATIENCE
    while "report:ready" not in (marks := _marks(driver)):
        if time.monotonic() > until:
            raise TimeoutError(f"{path}: the page was not ready after {_PATIENCE:.0f} s")
        time.sleep(0.05)
    after = busy(driver)
    return Opening(
        marks.get("first-contentful-paint", marks["report:readable"]),
        marks["report:readable"],
        marks["report:ready"],
        after - before if after > before else after,  # counted anew in another process
    )


def _marks(driver: Any) -> Mapping[str, float]:
    found: Mapping[str, float] = driver.execute_script(_MARKS)
    return found


def busy(driver: Any) -> float:
    """Seconds that the page's main thread was on a processor."""
    found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(each["value"] for each in found if each["name"] == "TaskDuration"))
