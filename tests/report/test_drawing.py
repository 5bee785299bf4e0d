"""A figure is a function of its records, whatever matplotlib's user has set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROBE = """
import os
before = dict(os.environ), os.getcwd()
from adamwprune.report import style
assert (dict(os.environ), os.getcwd()) == before, "the user's settings are the user's"
import matplotlib
from matplotlib import rcParams, rcParamsDefault
changed = [n for n in rcParams if n != "backend" and rcParams[n] != rcParamsDefault[n]]
with style.sheet():
    print(changed, matplotlib.get_backend(), rcParams["lines.linewidth"], rcParams["timezone"])
"""


def test_no_setting_of_a_user_and_no_broken_one_changes_a_figure(tmp_path: Path) -> None:
    """By each of the ways in which matplotlib takes them."""
    home, own, here = (tmp_path / name for name in ("home", "own", "here"))
    settings = "lines.linewidth: 9\ntimezone: Asia/Tokyo\naxes.facecolor: red\n"
    for folder in (home / ".config" / "matplotlib", own, here):
        folder.mkdir(parents=True)
        (folder / "matplotlibrc").write_text(settings)
    (own / "stylelib").mkdir()
    for name in ("default", "broken"):
        (own / "stylelib" / f"{name}.mplstyle").write_bytes(b"\xff\xfe" + settings.encode())
    (here / "matplotlibrc").write_bytes(b"\xff broken")
    theirs = {
        **{"MPLBACKEND": "module://matplotlib_inline.backend_inline", "HOME": str(home)},
        **{"MATPLOTLIBRC": str(own), "MPLCONFIGDIR": str(own)},
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=here,
        env={**os.environ, **theirs},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] agg 1.6 UTC\n", "")
