"""The commands of the documentation, run as they are written, on the files that it gives."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.commands import ROOT, environment

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"(?:^`([^`\n]+)`(?:, after `([^\n]+)`)?:\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
PAGES = [
    "first-hour.md",
    "your-own-members.md",
    "trackers.md",
    "data.md",
]
INTERACTIVE = {"make menuconfig"}  # tested in tests/config/test_menuconfig.py
# What the first hour's commands do not set themselves, so that they take seconds.
TINY = {"EPOCHS": "1", "OPTIMIZER": "adamw", "PRUNING_METHOD": "magnitude none",
        "TARGET_SPARSITY": "0.9", "PRUNING_WARMUP": "10", "SEED": "0"}  # fmt: skip
# One worker: starting one, which imports torch, takes longer than the runs.
ONE_WORKER = "JOBS=1"


def blocks(page: str) -> list[tuple[str, str, str, str]]:
    """(file, line that it comes after, language, text) of each fenced block."""
    return BLOCK.findall((ROOT / "docs" / page).read_text())


def commands(page: str) -> list[str]:
    """What the page's shell blocks tell a reader to type."""
    return [line for _, _, kind, text in blocks(page) if kind == "sh" for line in text.splitlines()]


def copied(folder: Path) -> Path:
    """The tracked tree without its pictures and records."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("images/", "results/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def follow(page: str, tree: Path) -> None:
    """Write the files that the page gives, as it gives them."""
    for name, anchor, _, text in blocks(page):
        path = tree / name
        if not name:
            continue
        if not anchor:
            assert not path.exists(), f"{name} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            continue
        lines = path.read_text().splitlines(keepends=True)
        (place,) = (i for i, line in enumerate(lines) if line.strip() == anchor)
        path.write_text("".join([*lines[: place + 1], text, *lines[place + 1 :]]))


def run(command: str, tree: Path, *more: str) -> str:
    """The output of a command of the page, which must succeed."""
    words = shlex.split(command)
    if words[0] == "make":
        listing = "list-defconfigs" in words  # about no configuration
        words += [f"PYTHON={sys.executable}", "VENV=", *more, *([] if listing else [ONE_WORKER])]
    else:
        python = {"python": [sys.executable], "adamwprune": [sys.executable, "-m", "adamwprune"]}
        words[:1] = python[words[0]]
    env = {**environment(), "PYTHONPATH": str(tree / "lib")}
    done = subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_members_are_what_their_page_says(tmp_path):
    tree = copied(tmp_path)
    follow("your-own-members.md", tree)
    plan, table, elsewhere, together = (run(each, tree) for each in commands("your-own-members.md"))
    assert "2 runs: 2 missing" in plan
    assert re.search(r"^mlp on mnist5k", table, re.M)
    assert re.search(r"^done +mlp-mnist5k-sgd-none-s0", elsewhere, re.M)
    assert re.search(r"^mlp on zero-to-four", together, re.M)
    assert re.search(r"^nesterov +dense .*\bdone$", together, re.M)
    assert re.search(r"^nesterov +scaled +90% .*\bdone$", together, re.M)


def test_the_first_hour(tmp_path):
    tree = copied(tmp_path)
    found = commands("first-hour.md")
    assert set(found) >= INTERACTIVE
    for command in found:
        if command in INTERACTIVE:
            continue
        more = [f"{k}={v}" for k, v in TINY.items() if f"{k}=" not in command]
        if "list-defconfigs" in command:
            more = []
        if "SEED=" in command:
            more = [each for each in more if not each.startswith(("TARGET", "PRUNING_WARMUP"))]
        output = run(command, tree, *more)
        if command == "make plan":
            assert "2 done" in output
    assert (tree / "results" / "report.html").is_file()
    assert (tree / "results" / "export.csv").is_file()


def flowers(folder: Path) -> None:
    """Photographs of two classes, as the page wants them to lie."""
    for path in ("train/rose", "train/tulip", "test/rose", "test/tulip"):
        (folder / path).mkdir(parents=True)
        for n in range(4):
            image = Image.effect_noise((40 + 8 * n, 48), 64).convert("RGB")
            image.save(folder / path / f"{n}.jpg")


def test_data_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = copied(tmp_path / "tree")
    flowers(tree / "data" / "flowers")
    for command in commands("data.md"):
        if "cifar" in command and not command.endswith(" plan"):
            continue  # a download
        output = run(command, tree)
        if command.endswith(" plan"):
            assert "1 run: 1 missing" in output
        else:
            assert re.search(r"^resnet8 on image-folder", output, re.M)
    assert list((tmp_path / "cache").rglob("about.json"))


def test_trackers(tmp_path):
    pytest.importorskip("tensorboard")
    tree = copied(tmp_path)
    for command in commands("trackers.md"):
        more = [f"{k}={v}" for k, v in TINY.items()] if command.startswith("make") else []
        output = run(command, tree, *more)
        assert "note" not in output, output
    events = tree.glob("results/tracking/tensorboard/*/events.out.tfevents.*")
    assert len({path.parent for path in events}) == 3, "two of make, one of train.py"


def test_the_targets_of_the_readme_exist():
    use = (ROOT / "README.md").read_text().split("## Use")[1].split("```")[1]
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.M))
    targets |= {f"defconfig-{path.name}" for path in (ROOT / "defconfigs").iterdir()}
    for line in use.strip().splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "make"
        named = {word for word in words[1:] if "=" not in word}
        assert named <= targets, line


def test_every_link_of_the_pages_leads_somewhere():
    for page in map((ROOT / "docs").joinpath, PAGES):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
