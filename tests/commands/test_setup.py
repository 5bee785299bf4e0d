"""What is installed when: configuring needs no PyTorch, and pip's progress is seen."""

import subprocess
import sys

import pytest

from tests.support.commands import ROOT, environment


def fake_venv(folder):
    """A virtual environment whose pip only notes what it was asked for."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@" >> "$0.asked"\n')
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("extra", "marker", "torch"),
    [(["configure"], ".installed-configure", False), ([], ".installed", True)],
)
def test_configuring_installs_no_torch(tmp_path, extra, marker, torch):
    python = fake_venv(tmp_path / "venv")
    script = [sys.executable, str(ROOT / "scripts" / "setup_venv.py"), str(tmp_path / "venv")]
    subprocess.run([*script, *extra], check=True, capture_output=True)
    asked = python.with_name("python.asked").read_text()
    assert ("torch" in asked) is torch
    assert {"kconfiglib", "PyYAML", "rich"} <= {
        word.split("==")[0].split(">=")[0] for word in asked.split()
    }
    assert (tmp_path / "venv" / marker).is_file()


@pytest.mark.parametrize(
    ("target", "marker"),
    [("plan", ".installed-configure"), ("menuconfig", ".installed-configure"),
     ("defconfig-sgd", ".installed-configure"), ("all", ".installed"), ("train", ".installed")],
)  # fmt: skip
def test_what_trains_needs_everything(tmp_path, target, marker):
    make = ["make", "-n", "-C", str(ROOT), f"VENV={tmp_path}/venv", target]
    done = subprocess.run(make, capture_output=True, text=True, env=environment(), check=True)
    (line,) = [each for each in done.stdout.splitlines() if "setup_venv" in each]
    assert line.endswith("configure") is (marker == ".installed-configure")
