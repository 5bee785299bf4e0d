"""The menus: kconfiglib's menuconfig and guiconfig, kept to this project's rules.

As they come, both save to whatever file was loaded last, load anything in silence and
accept any text for a number that Kconfig calls a string. The functions of theirs that do
so are replaced here; the rest of the interface is theirs.
"""

from __future__ import annotations

import importlib.util
import locale
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kconfiglib

from adamwprune.config import sources, strict
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.errors import UserError

_MESSAGE_LINES = 12  # of an error box; more would not fit a small terminal
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")


@dataclass(frozen=True)
class Session:
    """What a menu works on: the configuration, and the only file that its Save writes."""

    tree: Tree
    config: Path
    minimal: Path

    @classmethod
    def start(cls, workspace: Workspace) -> Session:
        """Load what is to be edited; :class:`ConfigError` lists what does not hold in it."""
        tree = Tree()
        sources.load_to_edit(workspace, tree)
        return cls(tree, workspace.config, workspace.output / "defconfig")

    def needs_save(self) -> bool:
        """Whether ``.config`` says something else than the menu."""
        try:
            return self.config.read_text(encoding="utf-8") != sources.full_text(self.tree)
        except FileNotFoundError:
            return True

    def load(self, path: Path) -> str:
        """Replace all values by a file's; a file with an error leaves them as they were."""
        assignments = strict.read_config(path)
        strict.apply(Tree(self.tree.root), assignments)
        self.tree.reset()
        strict.apply(self.tree, assignments)
        return f"Loaded {path}"

    def save(self, path: Path) -> str:
        """Write the full configuration and say so."""
        changed = sources.write(self.tree, path)
        return f"Configuration saved to {path}" if changed else f"No change to {path}"

    def save_minimal(self, path: Path) -> str:
        """Write the minimal configuration and say so."""
        sources.write_minimal(self.tree, path)
        return f"Minimal configuration saved to {path}"

    def expects(self, symbol: Any) -> str:
        """What may be entered for a symbol."""
        return f"Expected: {self.tree.options[symbol.name].type.expects}"

    def complaint(self, symbol: Any, text: str) -> str:
        """What is wrong with a text entered for a symbol, or an empty text."""
        try:
            self.tree.options[symbol.name].type.parse(text)
        except ValueError as error:
            return f"{symbol.name}={text}: {error}\n\n{self.expects(symbol)}"
        return ""


def menuconfig(workspace: Workspace) -> None:
    """Configure in a terminal; :class:`UserError` where there is none."""
    _require_terminal()
    menu = _menu_module("menuconfig", "the package windows-curses, or a Python with curses")
    session = Session.start(workspace)
    _fit_menuconfig(menu, session)
    _choose_locale()
    with _ctrl_c_as_key():
        menu.menuconfig(session.tree.kconf)


def guiconfig(workspace: Workspace) -> None:
    """Configure in a window; :class:`UserError` where none can be opened."""
    gui = _menu_module("guiconfig", "tkinter (python3-tk)")
    session = Session.start(workspace)
    _fit_guiconfig(gui, session)
    try:
        gui.menuconfig(session.tree.kconf)
    except gui.TclError as error:
        raise UserError(
            f"guiconfig cannot open a window ({error}); make menuconfig needs only a terminal"
        ) from None


def _menu_module(name: str, needs: str) -> Any:
    """The module that kconfiglib ships as ``name``, imported only where it is wanted.

    It is found beside kconfiglib: scripts/ has files of the same name, which Python
    would take for it.
    """
    path = Path(kconfiglib.__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"kconfiglib_{name}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is missing; kconfiglib is not installed completely")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module
    except FileNotFoundError:
        raise UserError(f"{path} is missing; kconfiglib is not installed completely") from None
    except (ImportError, SystemExit):  # menuconfig exits where there is no curses
        raise UserError(
            f"{name} needs {needs}; edit .config instead, or use make NAME=value"
        ) from None


def _replace(module: Any, functions: dict[str, Callable[..., Any]]) -> None:
    """Put ours in place of the module's functions, which must exist."""
    for name, function in functions.items():
        if not callable(getattr(module, name)):
            raise TypeError(f"{module.__name__}.{name} is no function")
        setattr(module, name, function)


# -- in a terminal ---------------------------------------------------------------


def _fit_menuconfig(menu: Any, session: Session) -> None:
    """Give menuconfig our loading, saving, checking and handling of Ctrl-C."""
    load_dialog, save_dialog, getch = menu._load_dialog, menu._save_dialog, menu._getch_compat
    main_loop = menu._menuconfig
    write_minimal = session.tree.kconf.write_min_config

    def show_error(text: str) -> None:
        width = menu._stdscr.getmaxyx()[1] - 6
        menu._error("\n".join(_wrapped(text, width)))

    def attempt(action: Callable[[], str]) -> str | None:
        try:
            return action()
        except UserError as error:
            show_error(str(error))
            return None

    def try_load(filename: str) -> bool:
        return attempt(lambda: session.load(Path(filename))) is not None

    def try_save(save: object, filename: str, _description: str) -> str | None:
        write = session.save_minimal if save == write_minimal else session.save
        return attempt(lambda: write(Path(filename)))

    def load_and_keep_target() -> None:
        load_dialog()
        menu._conf_filename = str(session.config)

    def save_and_keep_target(save: object, filename: str, description: str) -> str | None:
        saved: str | None = save_dialog(save, filename, description)
        if saved is None or save == write_minimal:
            return saved
        # A copy saved elsewhere is no reason to think that .config is up to date.
        is_config = Path(saved).resolve() == session.config.resolve()
        return str(session.config) if is_config else None

    def check_valid(symbol: Any, text: str) -> bool:
        complaint = session.complaint(symbol, text)
        if complaint:
            show_error(complaint)
        return not complaint

    def getch_or_quit(window: Any) -> Any:
        key = getch(window)
        if key != "\x03":
            return key
        return "q" if window is menu._menu_win else "\x1b"

    def run(screen: Any) -> str:
        menu._minconf_filename = str(session.minimal)
        message: str = main_loop(screen)
        return message

    _replace(
        menu,
        {
            "standard_config_filename": lambda: str(session.config),
            "_menuconfig": run,
            "_load_config": session.needs_save,
            "_needs_save": session.needs_save,
            "_try_load": try_load,
            "_try_save": try_save,
            "_load_dialog": load_and_keep_target,
            "_save_dialog": save_and_keep_target,
            "_check_valid": check_valid,
            "_range_info": session.expects,
            "_getch_compat": getch_or_quit,
        },
    )


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


# -- in a window -----------------------------------------------------------------


def _fit_guiconfig(gui: Any, session: Session) -> None:
    """Give guiconfig our loading, saving and checking."""
    open_dialog, save_as_dialog, save_minimal = gui._open, gui._save_as, gui._save_minimal
    write_minimal = session.tree.kconf.write_min_config

    def attempt(title: str, action: Callable[[], str]) -> bool:
        try:
            gui._set_status(action())
        except UserError as error:
            gui.messagebox.showerror(title, str(error))
            return False
        return True

    def try_load(filename: str) -> bool:
        return attempt("Error loading configuration", lambda: session.load(Path(filename)))

    def try_save(save: object, filename: str, description: str) -> bool:
        write = session.save_minimal if save == write_minimal else session.save
        return attempt(f"Error saving {description}", lambda: write(Path(filename)))

    def keeping_target(dialog: Callable[[], None]) -> Callable[..., None]:
        def run(_event: object = None) -> None:
            dialog()
            gui._conf_filename = str(session.config)
            gui._set_conf_changed(session.needs_save())

        return run

    def save_minimal_beside_config() -> None:
        gui._minconf_filename = str(session.minimal)
        save_minimal()

    def check_valid(dialog: Any, entry: Any, symbol: Any, text: str) -> bool:
        complaint = session.complaint(symbol, text)
        if complaint:
            gui.messagebox.showerror("Bad value", complaint, parent=dialog)
            entry.focus_set()
        return not complaint

    _replace(
        gui,
        {
            "standard_config_filename": lambda: str(session.config),
            "_load_config": session.needs_save,
            "_needs_save": session.needs_save,
            "_try_load": try_load,
            "_try_save": try_save,
            "_open": keeping_target(open_dialog),
            "_save_as": keeping_target(save_as_dialog),
            "_save_minimal": save_minimal_beside_config,
            "_check_valid": check_valid,
            "_range_info": session.expects,
        },
    )
