"""make watch: who is answered, what a page is told while runs go on, and that it keeps its place.

Runs are written as a runner writes them; none is trained.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.page import data
from adamwprune.page.live import seen, server
from adamwprune.page.live.seen import Answer, Watched
from adamwprune.page.live.server import Server
from adamwprune.plan.spec import RunSpec
from adamwprune.records import state, store
from adamwprune.records.code import Code, Sources
from adamwprune.records.locks import lock
from adamwprune.records.metrics import FORMER
from adamwprune.records.record import RunResult
from tests.support.records import synthetic

SOURCES = Sources()
LONG_AGO = 10**18  # ns: before any tick of a clock that could hide a change


class Matrix:
    """A matrix of ten runs in an empty directory, and what its runs leave there."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.specs = experiment.matrix.specs
        self.root = experiment.root
        self.held = ExitStack()  # the locks of the runs that go on

    def folder(self, spec: RunSpec) -> Path:
        """A run's directory, which is made."""
        folder = self.root / spec.run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def record(self, spec: RunSpec, status: str = "done") -> RunResult:
        """What the code that is here would have written."""
        code = SOURCES.of(spec).to_json()
        return replace(synthetic(spec, status=status), code=code)

    def end(self, *specs: RunSpec, status: str = "done") -> None:
        """Runs end: their records are there, and nobody holds them."""
        self.held.close()
        for spec in specs:
            (self.folder(spec) / store.PROGRESS).unlink(missing_ok=True)
            store.publish(self.folder(spec), self.record(spec, status))

    def begin(self, spec: RunSpec) -> None:
        """A process trains a run, and has not said anything yet."""
        self.held.enter_context(lock(self.folder(spec) / store.LOCK, lambda pid: None))

    def go_on(self, spec: RunSpec, epochs: int, **more: Any) -> None:
        """A run has finished so many epochs, and says so."""
        history = self.record(spec).history[:epochs]
        lines = "".join(f"{json.dumps(entry)}\n" for entry in history)
        (self.folder(spec) / store.METRICS).write_text(lines)
        said = {"epoch": epochs + 1, "step": epochs * spec.steps_per_epoch, "rate": 50.0,
                "test_accuracy": history[-1]["test_accuracy"] if history else None,
                "updated": 1.7e9, "device": "cpu", "code": SOURCES.of(spec).digest,
                **more}  # fmt: skip
        (self.folder(spec) / store.PROGRESS).write_text(json.dumps(said))


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Matrix]:
    """The quick start's; every look is a new one."""
    monkeypatch.setenv("MAKEFLAGS", f" -- CONFIG=quickstart O={tmp_path}")
    monkeypatch.setattr(seen, "EVERY", 0.0)
    monkeypatch.setattr(seen, "SHARE", 0)
    made = Matrix(Experiment.load(Workspace.from_environment()))
    with made.held:
        yield made


@contextmanager
def served(watched: Any, port: int = 0) -> Iterator[Server]:
    """A server, by default on a free port."""
    with Server(port) as made:
        thread = threading.Thread(target=made.show, args=(watched,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def serving(matrix: Matrix) -> Iterator[Server]:
    """A server of these runs."""
    with served(Watched(matrix.experiment)) as made:
        yield made


@pytest.fixture(scope="module")
def door() -> Iterator[Server]:
    """A server with one answer, for those who ask where they should not."""
    answer = Answer.holding("runs", "text/plain")
    with served(SimpleNamespace(document=None, report=None, live=lambda: answer)) as made:
        yield made


def ask(
    serving: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection(server.ADDRESS, serving.server_port, timeout=60)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
    for name, text in named.items():
        for each in text.split("|"):
            connection.putheader(name, each)
    connection.endheaders()
    found = connection.getresponse()
    body = found.read()
    connection.close()
    return found.status, dict(found.getheaders()), body


def told(watched: Watched, matrix: Matrix, spec: RunSpec) -> dict[str, Any] | None:
    """What a page is told of one run beside the report's values."""
    number = [run["id"] for run in json.loads(watched.report().body)["runs"]].index(spec.run_id)
    return json.loads(watched.live().body)["runs"].get(str(number))


# -- who is answered ---------------------------------------------------------------


def test_it_listens_on_this_machine_only(door):
    assert door.socket.getsockname()[0] == "127.0.0.1"
    assert door.url == f"http://127.0.0.1:{door.socket.getsockname()[1]}/"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", 200),
        ("localhost:1", 200),  # the port of a tunnel
        ("LOCALHOST:65000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8765", 421),
        ("localhost@evil.example", 421),
        ("0.0.0.0", 421),
        ("[::1", 421),
        ("", 421),
        ("localhost|evil.example", 421),
    ],
)
def test_only_who_names_this_machine_is_answered(door, host, expected):
    status, headers, body = ask(door, "/live.json", Host=host)
    assert status == expected
    assert (b"runs" in body) == (expected == 200)
    assert "Access-Control-Allow-Origin" not in headers


def test_who_names_no_host_is_refused(door):
    with socket.create_connection(door.socket.getsockname(), timeout=60) as connection:
        connection.sendall(b"GET /live.json HTTP/1.0\r\n\r\n")
        assert b" 421 " in connection.recv(100)


@pytest.mark.parametrize(
    "path",
    ["/index.html", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
     "/.index.json", "/live.json/", "/results/", "live.json", "http://localhost/live.json", "*"],
)  # fmt: skip
def test_there_is_nothing_but_the_page_and_its_data(door, path):
    assert ask(door, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(door, method):
    status, headers, body = ask(door, "/live.json", method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"only GET and HEAD\n")
    assert ask(door, "/live.json", "BREW")[0] == 501


@pytest.mark.parametrize("path", ["/", "/live.json", "/report.json"])
def test_head_is_get_without_a_body(serving, path):
    status, headers, body = ask(serving, path)
    assert (status, int(headers["Content-Length"])) == (200, len(body))
    again, others, nothing = ask(serving, path, "HEAD")
    assert (again, others["ETag"], others["Content-Length"]) == (
        200, headers["ETag"], headers["Content-Length"])  # fmt: skip
    assert nothing == b""


def test_the_page_may_ask_where_it_came_from_and_load_nothing_else(serving):
    _, headers, body = ask(serving, "/")
    policy = body.decode().split('Content-Security-Policy" content="')[1].split('"')[0]
    assert "connect-src &#x27;self&#x27;" in policy
    assert policy.startswith("default-src &#x27;none&#x27;")
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"


# -- what a page is told -------------------------------------------------------------


def test_who_has_the_newest_is_told_nothing(serving, matrix):
    for path in ("/live.json", "/report.json", "/"):
        tag = ask(serving, path)[1]["ETag"]
        assert ask(serving, path, If_None_Match=tag)[::2] == (304, b"")
        assert ask(serving, path, If_None_Match='"other"')[0] == 200
    tag = ask(serving, "/live.json")[1]["ETag"]
    matrix.end(matrix.specs[0])
    status, _, body = ask(serving, "/live.json", If_None_Match=tag)
    assert status == 200
    assert f'"{json.loads(body)["report"]}"' == ask(serving, "/report.json")[1]["ETag"]


def test_what_is_compressed_is_the_same(serving):
    import gzip

    plain = ask(serving, "/report.json")[2]
    _, headers, body = ask(serving, "/report.json", Accept_Encoding="br, gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == plain


def test_a_run_says_how_far_it_is(matrix):
    spec = matrix.specs[3]
    watched = Watched(matrix.experiment)
    assert told(watched, matrix, spec) is None
    matrix.begin(spec)
    assert told(watched, matrix, spec) == {
        "status": "running", "curves": data.curves([], FORMER)}  # fmt: skip
    matrix.go_on(spec, 2)
    now = told(watched, matrix, spec) or {}
    assert (now["epoch"], now["step"], now["steps"]) == (
        3, 2 * spec.steps_per_epoch, spec.total_steps)  # fmt: skip
    assert now["left"] == (spec.total_steps - 2 * spec.steps_per_epoch) / 50
    left = json.loads(watched.live().body)["left"]
    runs = len(matrix.specs) * spec.total_steps - 2 * spec.steps_per_epoch
    assert left["p50"] == pytest.approx(runs / 50, rel=0.1), "one after the other, at that rate"
    assert left["p90"] > left["p50"]
    assert now["curves"] == data.curves(matrix.record(spec).history[:2], FORMER)
    matrix.go_on(spec, 3)
    assert len((told(watched, matrix, spec) or {})["curves"]["lr"]) == 3
    before = watched.report().digest
    matrix.end(spec)
    assert told(watched, matrix, spec) is None
    assert watched.report().digest != before


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"step": "x", "rate": -1, "epoch": [], "device": 7}', "[" * 100_000]
)
def test_a_damaged_progress_is_no_progress(matrix, text):
    spec = matrix.specs[0]
    watched = Watched(matrix.experiment)
    matrix.begin(spec)
    matrix.go_on(spec, 2)
    (matrix.folder(spec) / store.PROGRESS).write_text(text)
    now = told(watched, matrix, spec) or {}
    assert now["status"] == "running"
    assert not now.get("step")
    assert len(now["curves"]["test_accuracy"]) == 2


@pytest.mark.parametrize("tail", ['{"epoch": 3, "test_acc', "[]\n", "\xff\n", "NaN"])
def test_what_is_half_written_is_no_epoch(matrix, tail):
    spec = matrix.specs[0]
    matrix.go_on(spec, 2)
    path = matrix.folder(spec) / store.METRICS
    path.write_bytes(path.read_bytes() + tail.encode("latin-1"))
    assert seen.finished(matrix.folder(spec)) == matrix.record(spec).history[:2]


def test_a_number_that_is_none_is_a_gap_in_the_curve(matrix):
    spec = matrix.specs[0]
    watched = Watched(matrix.experiment)
    matrix.begin(spec)
    path = matrix.folder(spec) / store.METRICS
    path.write_text('{"test_accuracy": 0.5}\n{"test_accuracy": NaN}\n{"test_accuracy": 1}\n')
    assert (told(watched, matrix, spec) or {})["curves"]["test_accuracy"] == [50, None, 100]


@pytest.mark.parametrize("name", data.measures(FORMER))
@pytest.mark.parametrize("value", ["1" + 400 * "0", "1e307", "1.797e308", "-1e999"])
def test_a_number_too_large_to_show_is_a_gap_too(matrix, name, value):
    spec = matrix.specs[0]
    watched = Watched(matrix.experiment)
    matrix.begin(spec)
    (matrix.folder(spec) / store.METRICS).write_text(f'{{"{name}": {value}}}\n{{"{name}": 1}}\n')
    shown = (told(watched, matrix, spec) or {})["curves"][name]
    scale = 100 if data.measures(FORMER)[name].get("unit") == "%" else 1
    fits = scale == 1 and value in ("1e307", "1.797e308")
    assert shown == [float(value) if fits else None, scale]


@pytest.mark.parametrize("rate", [5e-324, 1e-300])
def test_a_rate_that_says_nothing_gives_no_time(matrix, rate):
    spec = matrix.specs[0]
    watched = Watched(matrix.experiment)
    matrix.begin(spec)
    matrix.go_on(spec, 2, rate=rate)
    now = told(watched, matrix, spec) or {}
    assert (now["rate"], now["left"]) == (None, None)


def test_what_cannot_be_looked_at_is_told_on_the_page(matrix, monkeypatch):
    watched = Watched(matrix.experiment)

    def refuse() -> dict[str, tuple[int, int]]:
        raise PermissionError(13, "Permission denied", "/the/source.py")

    monkeypatch.setattr(seen.code, "stamps", refuse)
    assert json.loads(watched.live().body)["note"] == "/the/source.py: Permission denied"


def failing(error: Exception) -> Any:
    """What a server asks, where every answer fails."""

    def fail() -> Answer:
        raise error

    return SimpleNamespace(document=fail, report=fail, live=fail)


@pytest.mark.parametrize("error", [PermissionError(13, "not yours"), ValueError("no number")])
def test_an_answer_that_fails_is_told_here_and_there(error, capsys):
    with served(failing(error)) as made:
        status, _, body = ask(made, "/live.json")
    assert (status, b"terminal" in body) == (500, True)
    assert str(error) in capsys.readouterr().err


def test_a_page_that_went_away_is_nothing_to_tell(capsys):
    with served(failing(BrokenPipeError(32, "gone"))) as made:
        assert ask(made, "/live.json")[0] == 500
    assert capsys.readouterr().err == ""


def test_what_was_interrupted_keeps_its_curve(matrix):
    spec = matrix.specs[0]
    matrix.go_on(spec, 4)
    (matrix.folder(spec) / store.CHECKPOINTS[0]).touch()
    now = told(Watched(matrix.experiment), matrix, spec) or {}
    assert (now["status"], len(now["curves"]["test_accuracy"])) == ("interrupted", 4)


def test_the_report_s_values_are_those_of_the_report(matrix):
    watched = Watched(matrix.experiment)
    matrix.end(*matrix.specs[:4])
    matrix.end(matrix.specs[4], status="failed")
    watched.live()
    records = Catalogue.of(matrix.experiment).records()
    others = {spec.run_id: data.Uncounted("missing") for spec in matrix.specs[5:]}
    wanted = data.of(matrix.specs, records, others, matrix.experiment.request)
    assert json.loads(watched.report().body) == json.loads(json.dumps(wanted))
    assert [run["status"] for run in wanted["runs"]].count("failed") == 1


def test_other_code_makes_records_stale(matrix, monkeypatch):
    matrix.end(matrix.specs[0])
    watched = Watched(matrix.experiment)
    assert json.loads(watched.report().body)["runs"][0]["status"] == "done"
    monkeypatch.setattr(Sources, "of", lambda self, spec: Code({"adamwprune.train.loop": "0"}))
    monkeypatch.setattr(seen.code, "stamps", dict)
    watched.live()
    assert json.loads(watched.report().body)["runs"][0]["status"] == "stale"


def test_a_record_that_comes_too_soon_is_told_beside_the_report(matrix, monkeypatch):
    monkeypatch.setattr(seen, "SHARE", 10**9)
    watched = Watched(matrix.experiment)
    matrix.end(matrix.specs[0])
    watched.live()  # the first is worked out at once, and the next only after very long
    before = watched.report().digest
    matrix.end(matrix.specs[1])
    now, history = told(watched, matrix, matrix.specs[1]), matrix.record(matrix.specs[1]).history
    assert now == {"status": "done", "curves": data.curves(history, FORMER)}
    assert watched.report().digest == before
    assert told(watched, matrix, matrix.specs[0]) is None


def test_a_damaged_record_is_told_and_the_rest_stays(matrix):
    matrix.end(*matrix.specs[:2])
    watched = Watched(matrix.experiment)
    before = watched.report().digest
    path = matrix.folder(matrix.specs[2]) / store.RESULT
    path.write_text("{")
    assert (told(watched, matrix, matrix.specs[2]) or {})["status"] == "damaged"
    assert str(path) in json.loads(watched.live().body)["note"]
    assert watched.report().digest == before
    path.unlink()
    assert json.loads(watched.live().body)["note"] == ""


def test_what_rests_is_not_read_again(matrix, monkeypatch):
    matrix.end(*matrix.specs[:5])
    for spec in matrix.specs[:5]:
        os.utime(matrix.folder(spec), ns=(LONG_AGO, LONG_AGO))
    watched = Watched(matrix.experiment)
    looks: list[RunSpec] = []
    decide = state.decide

    def noted(*given: Any, **rules: bool) -> state.State:
        looks.append(given[1])
        return decide(*given, **rules)

    monkeypatch.setattr(state, "decide", noted)
    monkeypatch.setattr(store, "read_result", None)  # whoever called it would fail
    answer = watched.live()
    assert looks == []
    assert watched.live().digest == answer.digest
    matrix.begin(matrix.specs[0])
    os.utime(matrix.folder(matrix.specs[0]))
    watched.live()
    assert looks == [matrix.specs[0]]


# -- the command ----------------------------------------------------------------------


def start(folder: Path, port: str) -> subprocess.Popen[str]:
    """make watch, in a process group of its own, as a terminal has it."""
    root = Path(__file__).resolve().parents[2]
    words = ["make", "-f", str(root / "Makefile"), "VENV=", f"PYTHON={sys.executable}",
             "CONFIG=quickstart", f"O={folder}", f"WATCH_PORT={port}", "watch"]  # fmt: skip
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("port", ["x", "-1", "65536", "٣", "1 2"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(UserError, match="a port is a number below 65536; WATCH_PORT=0 takes"):
        server.port_of(port)


def test_the_usual_port_is_one_for_everybody():
    assert server.port_of("") == server.PORT > 1023


def test_a_taken_port_is_told_with_the_remedy(tmp_path):
    with Server(0) as other:
        process = start(tmp_path, str(other.server_port))
        _, errors = process.communicate()
    assert errors.splitlines()[0] == (
        f"error: port {other.server_port} of 127.0.0.1: Address already in use; "
        "WATCH_PORT=0 takes a free one"
    )


def test_ctrl_c_ends_it_quietly_and_torch_was_never_there(tmp_path):
    process = start(tmp_path, "0")
    assert process.stdout is not None
    line = next(each for each in process.stdout if "http://" in each)
    port = int(line.split("127.0.0.1:")[1].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    processes = (path.name for path in Path("/proc").iterdir() if path.name.isdigit())
    group = [int(pid) for pid in processes if _group(int(pid)) == process.pid]
    mapped = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in group)
    assert "python" in mapped
    assert "libtorch" not in mapped
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate() == ("", "")


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


# -- in a browser ---------------------------------------------------------------------


def test_the_page_fills_and_keeps_its_place(browser, matrix, serving):
    adamw = [spec for spec in matrix.specs if spec["OPTIMIZER"] == "adamw"]
    matrix.end(*adamw[:2])
    matrix.begin(adamw[2])
    browser.visit(serving.url)
    browser.until("document.querySelector('#subject').textContent.includes('1 running')")
    assert browser.js("document.querySelector('#subject').textContent").endswith(
        "10 runs, 2 done, 1 running, 7 missing"
    )
    # What the user sets.
    browser.heading("accuracy %").click()
    browser.one("#words").send_keys("adamw")
    browser.choose("#facet-optimizer", "adamw")
    browser.until("document.querySelector('#found').textContent === '5 of 10 runs'")
    browser.click("#table tbody tr:first-child input")
    browser.click("#zoom-end")
    browser.js("document.querySelector('#table tbody tr:nth-child(2)').focus()")
    browser.js("scrollTo(0, 333)")
    kept = ("[Math.round(document.querySelector('#words').getBoundingClientRect().top),"
        " report.chart.ranges(), document.querySelector('#words').value,"
            " document.querySelector('#facet-optimizer').value,"
            " document.querySelector('[aria-sort=descending]').innerText,"
            " document.querySelectorAll('#table tbody input:not(:checked)').length,"
            " document.activeElement.dataset.key]")  # fmt: skip
    before = browser.js(kept)
    number = browser.js("report.runs.findIndex((run) => run.id === arguments[0])", adamw[2].run_id)
    curve = f"report.data.curves.test_accuracy[{number}]?.length"
    for epochs in (1, 4):
        matrix.go_on(adamw[2], epochs)
        browser.until(f"{curve} === {epochs}")
        so_far = 100 * matrix.record(adamw[2]).history[epochs - 1]["test_accuracy"]
        assert f"{so_far:.2f} so far" in browser.column("accuracy")
        bar = browser.js("document.querySelector('#table progress').value")
        assert bar == epochs * adamw[2].steps_per_epoch
    assert browser.js("document.querySelector('#plot').dataset.runs") == "2"
    matrix.end(adamw[2])
    browser.until("document.title === '3/10 done – AdamWPrune'")
    accuracies = [float(text) for text in browser.column("accuracy") if text]
    assert len(accuracies) == 3
    assert accuracies == sorted(accuracies, reverse=True)
    assert browser.js("document.querySelector('#table progress')") is None
    after = browser.js(kept)
    assert after == before
    assert browser.js("document.querySelector('#live-told').textContent") == ""


def test_the_page_says_that_its_server_is_gone_and_goes_on_when_it_is_back(browser, matrix):
    live = "document.querySelector('#live-told').textContent"
    matrix.end(*matrix.specs[:3])
    watched = Watched(matrix.experiment)
    port = 0
    for done in (3, 4):
        with served(watched, port) as serving:
            port = serving.server_port
            if done == 3:
                browser.visit(serving.url)
            browser.until(f"document.title.startsWith('{done}/10') && {live} === ''")
        browser.until(f"{live}.startsWith('make watch does not answer')")
        assert len([text for text in browser.column("accuracy") if text]) == done
        assert browser.js("document.querySelector('#plot').dataset.runs") == str(done)
        matrix.end(matrix.specs[3])


def test_another_matrix_at_the_same_address_is_loaded(browser, matrix, serving):
    browser.visit(serving.url)
    other = replace(matrix.experiment, matrix=replace(
        matrix.experiment.matrix, cells=matrix.experiment.matrix.cells[:4]))  # fmt: skip
    serving.answers = {"/": Watched(other).document, "/live.json": Watched(other).live}
    browser.until("window.report?.runs?.length === 4 || report.runs.length === 4")
