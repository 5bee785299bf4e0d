"""Leases, one situation at a time: on a file system that shows what was, and on the real one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from adamwprune.base import files
from adamwprune.base.errors import UserError
from adamwprune.records import lease
from adamwprune.records.lease import DURATION, FOLDER, Heart, Leases, attempts, live_holder
from tests.support.shared import STALE, Client, Killed, Server

RUN = Path("/results/run")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def server() -> Server:
    server = Server()
    server.make(RUN)
    return server


def leases(server: Server, skew: float = 0.0, **settings) -> Leases:
    """Those of a client whose clock is off by ``skew`` seconds."""
    return Leases(files=Client(server, **settings), now=lambda: server.time + skew)


def test_a_dead_holder_s_run_is_taken_over_after_the_duration_whatever_the_clocks_say(server):
    assert leases(server, -3600).take(RUN).attempt == 1
    other = leases(server, 3600)
    assert other.take(RUN) is None
    server.time += DURATION - 1
    assert other.take(RUN) is None
    server.time += 1
    assert other.take(RUN).attempt == 2


def test_a_duration_that_the_holder_named_is_waited_for(server):
    one = Leases(duration=300, files=Client(server), now=lambda: server.time)
    assert one.take(RUN)
    other = leases(server)
    assert other.take(RUN) is None
    server.time += 299
    assert other.take(RUN) is None
    server.time += 1
    assert other.take(RUN)


def test_who_renews_in_time_is_never_displaced_though_others_see_it_late(server):
    held = leases(server).take(RUN)
    other = leases(server, 7200)
    for second in range(3600):
        server.time += 1
        if second % int(DURATION / lease.BEATS) == 0:
            assert held.renew()
        assert other.take(RUN) is None
    assert DURATION > STALE + DURATION / lease.BEATS


def test_a_lease_that_was_released_is_taken_at_once(server):
    leases(server).take(RUN).release("stopped")
    assert leases(server).take(RUN).attempt == 2


def test_of_two_that_take_an_expired_lease_one_has_it(server):
    leases(server).take(RUN)
    both = [leases(server), leases(server)]
    assert [each.take(RUN) for each in both] == [None, None]
    server.time += DURATION
    taken = [each.take(RUN) for each in both]
    assert [each and each.attempt for each in taken] == [2, None]


def test_who_lost_its_lease_learns_it_at_the_next_heartbeat(server):
    held = leases(server).take(RUN)
    assert held.renew()
    other = leases(server)
    other.take(RUN)
    server.time += DURATION
    assert other.take(RUN)
    assert not held.renew()


def test_an_attempt_that_died_while_it_took_over_has_not_fenced_the_one_before(server):
    """The third does it for both."""
    one = leases(server)
    held = one.take(RUN)
    client = Client(server)
    two = Leases(files=client, now=lambda: server.time)
    assert two.take(RUN) is None
    server.time += DURATION

    def die(folder):
        raise Killed

    client.remove = die
    with pytest.raises(Killed):
        two.take(RUN)
    three = leases(server)
    assert three.take(RUN) is None
    server.time += DURATION
    assert three.take(RUN).attempt == 3
    with pytest.raises(FileNotFoundError):
        one.files.write(held.work / "checkpoint", b"old")


def test_what_is_looked_up_after_a_run_was_taken_is_up_to_date(server):
    client = Client(server)
    mine = Leases(files=client, now=lambda: server.time)
    assert client.read(RUN / "record") is None
    held = leases(server).take(RUN)
    held.files.write(RUN / "record", b"done")
    held.release("done")
    assert client.read(RUN / "record") is None  # still
    assert mine.take(RUN)
    assert client.read(RUN / "record") == b"done"


# -- on the real file system -----------------------------------------------------------


def write_slowly(path: Path, take_over, point: str) -> None:
    """Replace a file, and be taken over from at this point."""
    with files.replacing(path) as stream:
        if point == "opened":
            take_over()
        stream.write(b"oldest")
        if point == "written":
            take_over()


@pytest.mark.parametrize("point", ["before", "opened", "written"])
def test_a_write_that_was_suspended_anywhere_changes_nothing_after_a_takeover(tmp_path, point):
    run, path = tmp_path / "run", tmp_path / "run" / "checkpoint.pt"
    run.mkdir()
    clock = Clock()
    mine, other = Leases(now=clock), Leases(now=clock)
    work = mine.take(run).work
    other.take(run)
    clock.time = DURATION

    def take_over():
        assert other.take(run)
        path.write_bytes(b"newer")

    with files.fenced(run, work):
        files.write_bytes(path, b"older")
        if point == "before":
            take_over()
        with pytest.raises(FileNotFoundError):
            write_slowly(path, take_over, point)
        files.unlink(path)
    assert path.read_bytes() == b"newer"
    assert {each.name for each in run.iterdir()} == {FOLDER, "checkpoint.pt"}
    files.write_bytes(path, b"anybody's")  # the fence is gone with the run


def test_the_attempts_say_who_they_were_and_how_they_ended(tmp_path):
    one = Leases({"worker": "one"}).take(tmp_path, step=7)
    one.release("crashed")
    Leases({"worker": "two"}).take(tmp_path)
    told = [(each.number, each.holder["worker"], each.released) for each in attempts(tmp_path)]
    assert told == [(1, "one", "crashed"), (2, "two", None)]
    assert attempts(tmp_path)[0].holder["step"] == 7
    assert attempts(tmp_path / "nowhere") == []


def test_live_is_judged_by_the_file_server_s_clock(tmp_path, monkeypatch):
    assert live_holder(tmp_path) is None
    held = Leases().take(tmp_path)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert live_holder(tmp_path)["pid"] == os.getpid()
    old = held.place / lease.HEARTBEAT
    os.utime(old, ns=(0, old.stat().st_mtime_ns - int(DURATION * 1e9) - 1))
    assert live_holder(tmp_path) is None
    held.renew()
    assert live_holder(tmp_path)
    held.release("done")
    assert live_holder(tmp_path) is None


def test_a_heart_keeps_leases_until_they_are_lost(tmp_path):
    runs = [tmp_path / name for name in ("one", "two")]
    with Heart(duration=0.06) as heart:
        held = [Leases().take(run) for run in runs]
        for each in held:
            heart.keep(each)
        files_of = [each.place / lease.HEARTBEAT for each in held]
        end = time.monotonic() + 60
        while any(path.read_text() < "3" for path in files_of):
            assert time.monotonic() < end
        taken_over_by = runs[0] / FOLDER / "2"
        taken_over_by.mkdir()
        while runs[0] not in heart.lost:
            assert time.monotonic() < end
        assert heart.drop(runs[0]) is None
        assert heart.drop(runs[1]) is held[1]


def test_who_waits_for_a_run_is_told_for_whom(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "POLL", 0.01)
    held, told = Leases().take(tmp_path), []

    def wait(who):
        told.append(who)
        held.release("done")

    with lease.held(tmp_path, wait) as work:
        assert work.parent.name == "2"
    assert told == [lease.named(lease.holder())]
    assert attempts(tmp_path)[-1].released == "ended"


def test_a_lease_is_taken_through_no_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link; a run is held in a directory of its own"):
        Leases().take(tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []
