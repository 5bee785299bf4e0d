"""Create the virtual environment and install what pyproject.toml lists; stdlib only.

Usage: setup_venv.py DIRECTORY [EXTRA]
"""

import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  before tomllib, which an older one lacks
    sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0])

import tomllib

SOURCE = Path(__file__).resolve().parents[1]


def main() -> int:
    folder, extras = Path(sys.argv[1]), sys.argv[2:]
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"creating the virtual environment {folder}", flush=True)
        if subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False).returncode:
            print("error: cannot create it; on Debian and Ubuntu: apt install python3-venv")
            return 2
    print(f"installing {', '.join(wanted)} (PyTorch is large: minutes)", flush=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
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
