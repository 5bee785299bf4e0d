"""What each tracker writes is read back, and nothing is sent."""

import contextlib
import json
import os
import socketserver
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adamwprune.records.store import publish
from adamwprune.trackers.supervisor import Tracking
from tests.trackers.conftest import MEMBERS, ends_within, needs, record, written


def written_twice(name: str, run: Path) -> Path:
    """The tracker's folder after two exports, the first of a run with other epochs."""
    publish(run, record(epochs=4))
    assert written(name, run.parent, run.name) == []
    publish(run, record())
    assert written(name, run.parent, run.name) == []
    return run.parent / "tracking" / name


STEPS = [8, 16, 24]


@needs("tensorboard")
def test_tensorboard_s_event_files(recorded):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    folder = written_twice("tensorboard", recorded)
    assert [path.name for path in folder.iterdir()] == [recorded.name]
    events = EventAccumulator(str(folder / recorded.name))
    events.Reload()
    accuracy = events.Scalars("test_accuracy")
    assert [(each.step, round(each.value, 6)) for each in accuracy] == [
        (8, 0.6),
        (16, 0.7),
        (24, 0.8),
    ]
    assert [each.wall_time - 1767323045 for each in accuracy] == [2, 4, 6], "started, and seconds"
    assert all(len(events.Scalars(tag)) == len(STEPS) for tag in events.Tags()["scalars"])
    (summary,) = events.Tensors("summary")
    rows = summary.tensor_proto.string_val[0].decode().splitlines()
    assert {"| status | done |", "| pruning_zeros | 12 |"} < set(rows)
    assert "| memory_optimizer_exp_avg_bytes | 400 |" in rows
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.group_name == recorded.name
    assert start.hparams["OPTIMIZER"].string_value == "sgd"
    assert start.hparams["EPOCHS"].number_value == 2


@needs("tensorboard")
def test_tensorboard_has_no_chart_of_one_point(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = record(epochs=1)
    (tmp_path / done.run_id).mkdir()
    publish(tmp_path / done.run_id, done)
    assert written("tensorboard", tmp_path, done.run_id) == []
    events = EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / done.run_id))
    events.Reload()
    assert events.Tags()["scalars"] == []
    assert events.Tensors("summary")


def wandb_records(path: Path) -> Iterator:
    """The records of a .wandb file: a LevelDB log of protocol buffers after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at < len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole one, or the last part of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def wandb_run(path: Path) -> dict:
    """Config, history, summary and exit status of an offline run."""
    found: dict = {"config": {}, "history": [], "summary": {}}
    for each in wandb_records(path):
        if each.HasField("run") and not found.get("run"):
            found["run"] = each.run
            found["config"] = {e.key: json.loads(e.value_json) for e in each.run.config.update}
        if each.HasField("history"):
            row = {"/".join(i.nested_key) or i.key: i.value_json for i in each.history.item}
            found["history"].append({k: json.loads(v) for k, v in row.items()})
        if each.HasField("summary"):
            for item in each.summary.update:
                key = "/".join(item.nested_key) or item.key
                found["summary"][key] = json.loads(item.value_json)
        if each.HasField("exit"):
            found["exit"] = each.exit.exit_code
    return found


@needs("wandb")
@pytest.mark.slow
def test_wandb_s_offline_run(recorded, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = written_twice("wandb", recorded)
    (run,) = folder.glob("offline-run-*")
    found = wandb_run(next(run.glob("*.wandb")))
    assert (found["run"].display_name, found["run"].run_group) == (recorded.name, "study")
    assert found["run"].project == "adamwprune"
    assert found["config"]["OPTIMIZER"] == "sgd"
    assert found["config"]["run_id"] == recorded.name
    assert [row["_step"] for row in found["history"]] == STEPS
    assert [row["test_accuracy"] for row in found["history"]] == [0.6, 0.7, 0.8]
    assert found["summary"]["pruning_zeros"] == 12
    assert found["summary"]["memory_optimizer_exp_avg_bytes"] == 400
    assert found["exit"] == 0


@needs("wandb")
def test_wandb_mode_is_the_user_s(recorded, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert written("wandb", recorded.parent, recorded.name) == []
    assert not list((recorded.parent / "tracking/wandb").glob("*run*"))


@needs("trackio")
def test_trackio_s_database(recorded):
    folder = written_twice("trackio", recorded)
    with contextlib.closing(sqlite3.connect(folder / "adamwprune.db")) as database:
        rows = list(database.execute("select run_name, step, metrics from metrics order by id"))
        ((config,),) = database.execute("select config from configs")
    assert {name for name, _, _ in rows} == {recorded.name}
    assert [step for _, step, _ in rows] == [*STEPS, 24], "the summary is at the last step"
    metrics = [json.loads(text) for _, _, text in rows]
    assert [row.get("test_accuracy") for row in metrics] == [0.6, 0.7, 0.8, None]
    assert metrics[-1]["summary/pruning_zeros"] == 12
    found = json.loads(config)
    assert (found["OPTIMIZER"], found["_Group"]) == ("sgd", "study")


SPY = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        if not isinstance(arguments[1], (str, bytes)) or event == "socket.getaddrinfo":
            with open(os.environ["SPY"], "a") as file:
                print(event, arguments[1:], file=file)

sys.addaudithook(note)
"""


@pytest.fixture
def spied(tmp_path, monkeypatch) -> Path:
    """A file with what Python does with the network from now on; Unix sockets are no network."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy/sitecustomize.py").write_text(SPY)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "spy"), os.environ["PYTHONPATH"]])
    )
    monkeypatch.setenv("SPY", str(tmp_path / "sent"))
    return tmp_path / "sent"


@pytest.fixture
def received(monkeypatch) -> Iterator[list[bytes]]:
    """What reaches the network's place, by whatever program: every server, and every proxy.

    W&B sends from wandb-core, a program in Go: no hook of Python's sees it.
    """
    found: list[bytes] = []

    class Receiver(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            found.append(self.request.recv(1 << 16))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        for name in ("WANDB_BASE_URL", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, place)
            monkeypatch.setenv(name.lower(), place)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        # One who is logged in everywhere.
        for token in ("WANDB_API_KEY", "HF_TOKEN", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            monkeypatch.setenv(token, "x" * 40)
        yield found
        server.shutdown()


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in MEMBERS])
def test_nothing_is_sent(name, recorded, spied, received, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert written(name, recorded.parent, recorded.name) == []
    assert received == []
    assert not spied.exists(), spied.read_text()
    probe = "import socket; socket.getaddrinfo('localhost', 1)"
    subprocess.run([sys.executable, "-c", probe], check=True)
    assert spied.exists(), "the spy does its work"


@needs("wandb")
def test_what_wandb_sends_where_it_may_would_be_seen(recorded, received, monkeypatch):
    """Otherwise the test above proves nothing."""
    monkeypatch.setenv("WANDB_MODE", "online")
    with Tracking(["wandb"], recorded.parent, "", print, 0.0) as tracked:
        tracked.news(recorded.name)
        ends_within(60, lambda: received)
    assert b"User-Agent: wandb-core" in received[0]
