"""make clean, mrproper and distclean: clean.py LEVEL.

Needs nothing but Python 3.8, and never removes a file that git tracks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import _library  # noqa: F401
from adamwprune.base.console import run_command
from adamwprune.base.errors import UserError
from adamwprune.base.files import expanded
from adamwprune.base.wording import DUBIOUS
from adamwprune.config.makeflags import make_variables

SOURCE_TREE = Path(__file__).resolve().parent.parent
LEVELS = ("clean", "mrproper", "distclean")
CACHES = (
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    ".import_linter_cache",
)
KNOWN = {"O", "VENV", "KCONFIG_CONFIG", "YES", "V", "PYTHON"}
KEPT = (".git", "data", "results")  # no caches of ours are in there


def main() -> int:
    """Remove what the level names; distclean asks first."""
    level = sys.argv[1] if len(sys.argv) == 2 else ""
    if level not in LEVELS:
        raise UserError(f"usage: clean.py {'|'.join(LEVELS)}")
    variables = make_variables(os.environ.get("MAKEFLAGS", ""))
    unknown = sorted(set(variables) - KNOWN)
    if unknown:
        raise UserError(f"make {level} takes {', '.join(sorted(KNOWN))}; not {', '.join(unknown)}")
    doomed = [path for path in targets(level, variables) if exists(path)]
    tracked = tracked_files()
    asks = level == "distclean" and (variables.get("YES") or os.environ.get("YES")) != "1"
    if asks and doomed and not agreed(doomed):
        print("nothing was removed")
        return 1
    for path in doomed:
        remove(path, tracked)
    return 0


def targets(level: str, variables: Mapping[str, str]) -> list[Path]:
    """What a level removes, whether it is there or not.

    With O= that is the output directory's; the environment and the data, which other output
    directories use too, stay.
    """
    output = expanded(variables.get("O") or ".")
    shared = [] if variables.get("O") else environments(expanded(variables.get("VENV") or ".venv"))
    paths = [*caches(), *(output / "results" / name for name in ("figures", "report.html"))]
    if level in ("mrproper", "distclean"):
        named = variables.get("KCONFIG_CONFIG") or os.environ.get("KCONFIG_CONFIG")
        config = expanded(named) if named else output / ".config"
        if config.exists() and not config.is_file():
            raise UserError(f"{config}: is no configuration, and is not removed")
        paths += [config, config.with_name(config.name + ".old"), *shared]
    if level == "distclean":
        results = output / "results"
        if results.is_dir():
            paths += [
                path
                for path in sorted(results.iterdir())
                if path.name != "published" and path not in paths
            ]
        paths += [] if variables.get("O") else [Path("data")]
    return paths


def environments(venv: Path) -> list[Path]:
    """The virtual environment, if it is one: ``VENV=.`` means the whole tree, and worse."""
    here = {place for root in (SOURCE_TREE, Path.cwd()) for place in (root, *root.parents)}
    return [venv] if (venv / "pyvenv.cfg").is_file() and venv.resolve() not in here else []


def caches() -> Iterator[Path]:
    """Caches and build artefacts in the source tree."""
    for folder, names, files in os.walk(SOURCE_TREE):
        if "pyvenv.cfg" in files:  # a virtual environment's caches are its own
            names.clear()
        found = [name for name in names if name in CACHES or name.endswith(".egg-info")]
        yield from (Path(folder, name) for name in found)
        skipped = KEPT if Path(folder) == SOURCE_TREE else ()
        names[:] = [name for name in names if name not in found and name not in skipped]
    yield SOURCE_TREE / "build"


def agreed(doomed: list[Path]) -> bool:
    """Whether the user, shown what will be removed, says y; an error without a terminal."""
    if not sys.stdin.isatty():
        raise UserError("distclean removes results and data; without a terminal it needs YES=1")
    for path in doomed:
        print(f"  {path}")
    return input("Remove all of these? [y/N] ").strip().lower() in ("y", "yes")


def tracked_files() -> set[Path]:
    """What git tracks in the source tree; nothing where there is no git or no repository.

    Raises :class:`UserError` where git refuses a repository: nobody knows what may be removed.
    """
    command = ["git", "-C", str(SOURCE_TREE), "ls-files", "-z"]
    try:
        environment = {**os.environ, "LC_ALL": "C"}
        listed = subprocess.run(command, env=environment, capture_output=True, check=False)
    except OSError:
        return set()
    if listed.returncode:
        if b"dubious ownership" in listed.stderr:
            raise UserError(DUBIOUS.format(tree=SOURCE_TREE))
        return set()
    return {SOURCE_TREE / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}


def remove(path: Path, tracked: set[Path]) -> None:
    """Remove a file, a link or a directory, leaving tracked files where they are."""
    place = path.parent.resolve() / path.name
    if place in tracked:
        return
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    elif any(place in each.parents for each in tracked):
        for inner in path.iterdir():
            remove(inner, tracked)
    else:
        shutil.rmtree(str(path))


def exists(path: Path) -> bool:
    """Whether there is something, be it a link to nothing."""
    return path.is_symlink() or path.exists()


if __name__ == "__main__":
    run_command(main)
