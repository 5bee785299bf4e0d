"""kconfiglib's menuconfig, changed to load, save and check values strictly, and to count runs.

Unchanged, it saves to the file that was loaded last, ignores errors in a file that it loads, and
accepts any text for a number that Kconfig calls a string. The functions that do so are replaced
here; the rest of the interface is kconfiglib's.
"""

from __future__ import annotations

import importlib
import locale
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from adamwprune.base.errors import UserError
from adamwprune.base.files import expanded
from adamwprune.config import sources, strict
from adamwprune.config.run_count import Count, RunCount
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree

_MESSAGE_LINES = 12  # of an error box; more would not fit a small terminal
REDRAW = 25  # ms without a key after which a count that is not final is drawn again
NO_KEY = -1  # what curses returns for a key when that time is over
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")


@dataclass(frozen=True)
class Session:
    """What a menu works on: the configuration, and the only file that its Save writes."""

    tree: Tree
    config: Path
    minimal: Path
    count: Callable[[], str] | None = None  # the runs that the configuration makes, in words

    @classmethod
    def start(
        cls,
        workspace: Workspace,
        count: Count | None = None,
        time: Callable[[Tree], str] | None = None,
    ) -> Session:
        """Load what is to be edited; :class:`ConfigError` lists what does not hold in it.

        ``time``: how long the missing runs take, in words, empty where that is not known.
        """
        tree = Tree()
        sources.load_to_edit(workspace, tree)
        told = None if count is None else partial(_counted, tree, count, time)
        return cls(tree, workspace.config, workspace.output / "defconfig", told)

    def needs_save(self) -> bool:
        """Whether ``.config`` says something else than the menu."""
        try:
            return self.config.read_text(encoding="utf-8") != sources.full_text(self.tree)
        except FileNotFoundError:
            return True

    def load(self, path: Path) -> str:
        """Replace all values by a file's; a file with an error leaves them as they were."""
        assignments = strict.read_config(path, self.tree)
        strict.apply(Tree(self.tree.root), assignments)
        self.tree.reset()
        strict.apply(self.tree, assignments)
        return f"Loaded {path}"

    def save(self, path: Path) -> str:
        """Write the full configuration and say so."""
        changed = sources.write(self.tree, path)
        told = f"Configuration saved to {path}" if changed else f"No change to {path}"
        return f"{told}: {self.count()}" if self.count else told

    def save_minimal(self, path: Path) -> str:
        """Write the minimal configuration and say so."""
        sources.write_minimal(self.tree, path)
        return f"Minimal configuration saved to {path}"

    def expects(self, symbol: Any) -> str:
        """What may be entered for a symbol."""
        return f"Expected: {self.tree.options[symbol.name].type.expects}"

    def searched(self) -> list[Any]:
        """What a search goes through: symbols with a prompt, those that can be set first, by name;
        then choices.

        What is derived (CELL_, EXCLUDE_) cannot be set; a jump to it would show all that is hidden.
        """
        nodes = [
            node for name in sorted(self.tree.symbols) for node in self.tree.symbols[name].nodes
        ]
        choices = [node for choice in self.tree.kconf.unique_choices for node in choice.nodes]
        shown = sorted(
            (node for node in nodes if node.prompt),
            key=lambda node: not self.tree.is_visible(node.item.name),
        )
        return shown + sorted((node for node in choices if node.prompt), key=lambda n: n.prompt[0])

    def complaint(self, symbol: Any, text: str) -> str:
        """What is wrong with a text entered for a symbol, or an empty text."""
        try:
            self.tree.options[symbol.name].type.parse(text)
        except ValueError as error:
            return f"{symbol.name}={text}: {error}\n\n{self.expects(symbol)}"
        return ""


def _counted(tree: Tree, count: Count, time: Callable[[Tree], str] | None) -> str:
    """The last, exact words of ``count``, and the time; why there are no runs, otherwise."""
    try:
        return ", ".join(filter(None, [list(count(tree))[-1], time(tree) if time else ""]))
    except UserError as error:
        return str(error).splitlines()[0]


def menuconfig(workspace: Workspace, count: Count, time: Callable[[Tree], str]) -> None:
    """Configure in a terminal; :class:`UserError` where there is none.

    ``count`` says how many runs a configuration makes; that is shown beside the menu's path, and
    with the ``time`` that they take where it is saved.
    """
    _require_terminal()
    menu = _menu_module()
    session = Session.start(workspace, count, time)
    _choose_locale()
    # Started under nohup, it would read from a terminal that is gone, for ever.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with RunCount(session.tree.root, count) as runs, _ctrl_c_as_key():
        _InTerminal(menu, session, runs).install()
        menu.menuconfig(session.tree.kconf)


def _menu_module() -> Any:
    """Import the menuconfig that kconfiglib ships."""
    try:
        return importlib.import_module("menuconfig")
    except (ImportError, SystemExit):  # menuconfig exits where there is no curses
        raise UserError(
            "menuconfig needs the package windows-curses, or a Python with curses; "
            "edit .config instead, or use make NAME=value"
        ) from None


# -- in a terminal ---------------------------------------------------------------


class _InTerminal:
    """What replaces menuconfig's functions: for loading, saving, checking, drawing and keys."""

    def __init__(self, menu: Any, session: Session, runs: RunCount) -> None:
        self.menu = menu
        self.session = session
        self.runs = runs
        self.write_minimal = session.tree.kconf.write_min_config
        self.original = SimpleNamespace(**vars(menu))

    def install(self) -> None:
        """Replace functions of menuconfig, each of which must exist."""
        functions: dict[str, Callable[..., Any]] = {
            "standard_config_filename": lambda: str(self.session.config),
            "_menuconfig": self.run,
            "_load_config": self.session.needs_save,
            "_needs_save": self.session.needs_save,
            "_try_load": self.try_load,
            "_try_save": self.try_save,
            "_load_dialog": self.load_dialog,
            "_save_dialog": self.save_dialog,
            "_check_valid": self.check_valid,
            "_range_info": self.session.expects,
            "_draw_main": self.draw,
            "_getch_compat": self.getch,
            "_sorted_sc_nodes": self.session.searched,
        }
        for name, function in functions.items():
            if not callable(getattr(self.menu, name)):
                raise TypeError(f"menuconfig.{name} is no function")
            setattr(self.menu, name, function)

    def run(self, screen: Any) -> str:
        self.menu._minconf_filename = str(self.session.minimal)
        message: str = self.original._menuconfig(screen)
        return message

    def try_load(self, filename: str) -> bool:
        return self.attempt(lambda: self.session.load(expanded(filename))) is not None

    def try_save(self, save: object, filename: str, _description: str) -> str | None:
        write = self.session.save_minimal if save == self.write_minimal else self.session.save
        return self.attempt(lambda: write(expanded(filename)))

    def attempt(self, action: Callable[[], str]) -> str | None:
        try:
            return action()
        except UserError as error:
            self.show_error(str(error))
            return None

    def show_error(self, text: str) -> None:
        width = self.menu._stdscr.getmaxyx()[1] - 6
        self.menu._error("\n".join(_wrapped(text, width)))

    def load_dialog(self) -> None:
        self.original._load_dialog()
        self.menu._conf_filename = str(self.session.config)  # theirs is the loaded file now

    def save_dialog(self, save: object, filename: str, description: str) -> str | None:
        saved: str | None = self.original._save_dialog(save, filename, description)
        if saved is None or save == self.write_minimal:
            return saved
        # A copy saved elsewhere is no reason to think that .config is up to date.
        is_config = Path(saved).resolve() == self.session.config.resolve()
        return str(self.session.config) if is_config else None

    def check_valid(self, symbol: Any, text: str) -> bool:
        complaint = self.session.complaint(symbol, text)
        if complaint:
            self.show_error(complaint)
        return not complaint

    def draw(self) -> None:
        """Draw the menu, and the count of its runs at the right of the top row."""
        self.original._draw_main()
        row = self.menu._path_win
        text = self.runs.of(self.session.tree.config())
        width, path = row.getmaxyx()[1], row.getyx()[1]
        text = textwrap.shorten(text, max(width - path - 3, 0), placeholder=" ...")
        self.menu._safe_addstr(row, 0, width - len(text) - 1, text)
        row.noutrefresh()

    def getch(self, window: Any) -> Any:
        """A key; Ctrl-C quits, through the dialog that offers to save, or leaves a dialog."""
        is_menu = window is self.menu._menu_win
        while is_menu and not self.runs.is_final:
            window.timeout(REDRAW)
            key = self.original._getch_compat(window)
            window.timeout(-1)
            if key != NO_KEY:
                break
            self.draw()
            self.menu.curses.doupdate()
        else:
            key = self.original._getch_compat(window)
        if key != "\x03":
            return key
        return "q" if is_menu else "\x1b"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters, not more than a box holds."""
    lines = [
        part for line in text.split("\n") for part in (textwrap.wrap(line, max(width, 20)) or [""])
    ]
    if len(lines) > _MESSAGE_LINES:
        rest = len(lines) - _MESSAGE_LINES + 1
        lines = [*lines[: _MESSAGE_LINES - 1], f"... and {rest} more lines"]
    return lines


def _require_terminal() -> None:
    """Refuse pipes, and terminals in which a cursor cannot be moved."""
    advice = "use make NAME=value, make defconfig-NAME, or edit .config"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(f"menuconfig needs a terminal; without one, {advice}")
    try:
        import curses

        curses.setupterm()
    except ImportError:
        return  # menuconfig says what is missing
    except curses.error as error:
        raise UserError(
            f"menuconfig: TERM={os.environ.get('TERM', '')}: {error}; {advice}"
        ) from None
    if not curses.tigetstr("cup"):
        raise UserError(f"menuconfig: TERM={os.environ['TERM']} cannot move its cursor; {advice}")


def _choose_locale() -> None:
    """Replace a locale that this machine does not have, on which menuconfig would fail."""
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        for name in [name for name in os.environ if name in _LOCALE or name.startswith("LC_")]:
            del os.environ[name]
        # Known to every system there is; menuconfig itself asks it for UTF-8.
        os.environ["LC_ALL"] = "C"


@contextmanager
def _ctrl_c_as_key() -> Iterator[None]:
    """Let Ctrl-C arrive as a key, which quits through the dialog that offers to save."""
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    without: list[Any] = termios.tcgetattr(terminal)
    without[6][termios.VINTR] = os.fpathconf(terminal, "PC_VDISABLE").to_bytes(1, "little")
    termios.tcsetattr(terminal, termios.TCSANOW, without)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
