"""Create the virtual environment and install what pyproject.toml lists; stdlib only.

Usage: setup_venv.py DIRECTORY [EXTRA]

The EXTRA ``configure`` is the few packages, 10 MB, that configuring and planning need; without one
everything is installed that training needs. pip's own settings hold: PIP_INDEX_URL and the like.
"""

import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  before tomllib, which an older one lacks
    sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0])

import tomllib

CONFIGURE = ("kconfiglib", "pyyaml", "rich")
LARGE = (
    "PyTorch's default build takes 5.8 GB on the disk, and minutes. PIP_EXTRA_INDEX_URL, set to "
    "an index that PyTorch's installation page names, takes another build, as that for CPUs"
)
SOURCE = Path(__file__).resolve().parents[1]


def main() -> int:
    folder, extras = Path(sys.argv[1]), sys.argv[2:]
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    if extras == ["configure"]:
        wanted = [each for each in wanted if each.lower().startswith(CONFIGURE)]
    else:
        for extra in extras:
            wanted += project["optional-dependencies"][extra]
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"creating the virtual environment {folder}", flush=True)
        if subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False).returncode:
            print("error: cannot create it; on Debian and Ubuntu: apt install python3-venv")
            return 2
    print(f"installing {', '.join(wanted)}", flush=True)
    if any(each.startswith("torch") for each in wanted):
        print(LARGE, flush=True)
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    if not sys.stdout.isatty():  # on a terminal pip shows how far it is
        install.append("--quiet")
    if subprocess.run([*install, *wanted], check=False).returncode:
        print(
            "error: the packages could not be installed. Without a package index, use an "
            "interpreter that has them: make PYTHON=python3 VENV="
        )
        return 2
    (folder / "-".join([".installed", *extras])).touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
