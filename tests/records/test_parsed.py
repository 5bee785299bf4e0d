"""What is kept of parsed modules: it saves time and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adamwprune.base import files
from adamwprune.records import code, content, parsed
from adamwprune.records.content import Content
from adamwprune.records.parsed import FILE, KEPT, Parsed
from tests.records.test_code import RUNS

A_RUN = RUNS["adamwprune state"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a process that has parsed nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    another_process(monkeypatch)
    return files.user_cache() / FILE


def another_process(monkeypatch):
    monkeypatch.setattr(code, "_PARSED", Parsed())
    code._source.cache_clear()


def not_again(*_):
    raise AssertionError("parsed again")


def test_another_process_parses_nothing_and_finds_the_same(monkeypatch):
    found = code.Sources().of(A_RUN)
    another_process(monkeypatch)
    monkeypatch.setattr(content, "read", not_again)
    assert code.Sources().of(A_RUN).modules == found.modules


def test_a_process_reads_what_has_not_changed_once(monkeypatch):
    found = code.Sources().of(A_RUN)
    monkeypatch.setattr(Path, "read_bytes", not_again)
    assert code.Sources().of(A_RUN).modules == found.modules


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:1000],
        lambda text: "[" * 100_000,
        lambda text: "[1, 2]",
        lambda text: text.replace('"digest": "', '"digest": ["', 1).replace('",', '"],', 1),
        lambda text: text.replace('"used"', '"use"'),
        lambda text: json.dumps({key: {"digest": "0"} for key in json.loads(text)}),
    ],
)
def test_a_damaged_cache_is_none(cache, monkeypatch, damage):
    found = code.Sources().of(A_RUN)
    sound = cache.read_text()
    cache.write_text(damage(sound))
    another_process(monkeypatch)
    assert code.Sources().of(A_RUN).modules == found.modules
    assert json.loads(cache.read_text()) == json.loads(sound)


def test_a_directory_that_cannot_be_written_is_none(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert code.Sources().of(A_RUN).modules


def test_a_content_belongs_to_its_text_its_package_and_the_modules_there_are():
    same = parsed.key(b"import a", "adamwprune.train", "train/a.py")
    assert same == parsed.key(b"import a", "adamwprune.train", "train/a.py")
    assert same != parsed.key(b"import b", "adamwprune.train", "train/a.py")
    assert same != parsed.key(b"import a", "adamwprune.tasks", "train/a.py")
    assert same != parsed.key(b"import a", "adamwprune.train", "train/a.py\0train/b.py")


def test_the_newest_are_kept(cache):
    several = Parsed()
    for number in range(KEPT + 1):
        several.of(str(number), lambda: Content("", (), (), {}))
    several.save()
    known = list(json.loads(cache.read_text()))
    assert known == [str(number) for number in range(1, KEPT + 1)]
