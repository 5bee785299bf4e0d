"""The menus as a user meets them: in a pseudo-terminal, with what kconfiglib's own get wrong."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from adamwprune.base.errors import ConfigError
from adamwprune.commands.menuconfig import runs, time_of
from adamwprune.config import sources
from adamwprune.config.menu import Session
from adamwprune.config.run_count import RunCount
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import SOURCE_TREE, Tree
from adamwprune.plan import matrix
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import steps
from adamwprune.records.code import Sources
from adamwprune.records.store import publish
from tests.support.records import synthetic

pytestmark = pytest.mark.slow

pexpect = pytest.importorskip("pexpect", reason="the menu is driven by pexpect")

BACKSPACE = "\x7f"
CTRL_C = "\x03"
CLEAR = "\x15"  # Ctrl-U in a dialog: remove the text left of the cursor
Menu = Callable[..., "Screen"]
CODE = Sources()


def drawn(text: str) -> str:
    """A pattern of the words of ``text``, with moves of the cursor between them."""
    between = r"(?:\x1b\[[0-9;?]*[A-Za-z]|\x1b\(B|\W)+"
    return between.join(map(re.escape, re.findall(r"\w+", text)))


class Screen:
    """menuconfig.py in a pseudo-terminal."""

    def __init__(
        self, output: Path, folder: Path, variables: str, environment: dict[str, str]
    ) -> None:
        self.config = output / ".config"
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "adamwprune", "menuconfig"],
            cwd=str(folder),
            env={
                # LINES and COLUMNS would count in place of the terminal's own size.
                **{k: v for k, v in os.environ.items() if k not in ("LINES", "COLUMNS")},
                "TERM": "xterm",
                "MAKEFLAGS": f" -- O={output} {variables}".rstrip(),
                **environment,
            },
            dimensions=(30, 110),
            encoding="utf-8",
            timeout=20,
        )
        # Each key is only sent after the text that it answers was seen.
        self.child.delaybeforesend = None
        self.shown = ""

    def see(self, text: str) -> None:
        """Wait until the words of ``text`` are drawn; curses may move over blanks between them."""
        self.child.expect(drawn(text))
        self.shown += self.child.before + self.child.after

    def see_redrawn(self, text: str) -> None:
        """As :meth:`see`, whatever of it was drawn before: another size has it all drawn anew."""
        for attempt in range(60):
            rows, columns = self.child.getwinsize()
            self.child.setwinsize(rows, 110 if columns > 110 else 120)
            with contextlib.suppress(pexpect.TIMEOUT):
                self.child.expect(
                    drawn(text), timeout=0.2 + attempt / 20
                )  # a busy machine draws late
                return
        pytest.fail(f"{text!r} was not drawn: {self.child.before!r}")

    def press(self, keys: str) -> None:
        """Type keys."""
        self.child.send(keys)

    def jump_to(self, symbol: str) -> None:
        """Select a symbol through the search."""
        self.press("/")
        self.see("Jump to symbol")
        self.press(symbol + "\r")

    def enter(self, symbol: str, old: str, new: str) -> None:
        """Enter a value over the old one."""
        self.jump_to(f"^{symbol}$")  # not the CELL_ symbol that is derived from it
        self.press("\r")
        self.see(old)
        self.press(BACKSPACE * len(old) + new + "\r")

    def load(self, path: Path) -> None:
        """Enter a file's name in the Load dialog."""
        self.press("o")
        self.see("File to load")
        self.press(f"{CLEAR}{path}\r")

    def end(self) -> str:
        """Wait for the exit; all that was shown since the last look."""
        self.child.expect(pexpect.EOF)
        self.shown += self.child.before
        self.child.close()
        assert "Traceback" not in self.shown
        return str(self.child.before)


@pytest.fixture
def start(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Menu]:
    """``start("EPOCHS=3", LC_ALL="C")``: the menu, with make variables and an environment."""
    screens: list[Screen] = []
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(variables: str = "", **environment: str) -> Screen:
        screens.append(Screen(tmp_path, folder, variables, environment))
        return screens[-1]

    yield run
    for screen in screens:
        screen.child.close(force=True)
    assert list(folder.iterdir()) == []


@pytest.fixture
def saved(workspace: Callable[..., Workspace]) -> str:
    """What a ``.config`` holds that was saved from the quickstart's defconfig."""
    session = Session.start(workspace())
    session.save(session.config)
    return session.config.read_text()


@pytest.fixture
def defconfig(tmp_path: Path) -> Path:
    """A copy of a defconfig, which nothing may write to."""
    path = tmp_path / "adamw-magnitude-50"
    shutil.copyfile(SOURCE_TREE / "defconfigs" / path.name, path)
    return path


def test_change_save_quit(start: Menu) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.enter("EPOCHS", "preset", "3")
    screen.press("s")
    screen.see("Filename to save configuration to")
    screen.press("\r")
    screen.see("Success")
    screen.press("\r")
    screen.press("q")
    assert "No changes to save" in screen.end()
    assert screen.child.exitstatus == 0
    text = screen.config.read_text()
    assert 'CONFIG_EPOCHS="3"\n' in text
    assert "CONFIG_DATASET_MNIST5K=y\n" in text  # it started from the quickstart
    sources.read_into(Tree(), screen.config)  # strict: what a menu saves can be loaded


def test_nothing_is_written_unless_the_user_saves(start: Menu) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.enter("EPOCHS", "preset", "3")
    screen.press("q")
    screen.see("Save configuration")
    screen.press("n")
    assert "was not saved" in screen.end()
    assert list(screen.config.parent.iterdir()) == []


def test_saving_keeps_the_old_file(start: Menu, tmp_path: Path) -> None:
    (tmp_path / ".config").write_text('CONFIG_EPOCHS="4"\n')
    screen = start()
    screen.see("Optimizers")
    screen.enter("EPOCHS", "4", "3")
    screen.press("q")
    screen.see("Save configuration")
    screen.press("y")
    screen.end()
    assert 'CONFIG_EPOCHS="3"\n' in screen.config.read_text()
    assert (tmp_path / ".config.old").read_text() == 'CONFIG_EPOCHS="4"\n'


@pytest.mark.parametrize("way", ["save dialog", "quit dialog"])
def test_save_after_load_writes_the_config_not_the_loaded_file(
    way: str, start: Menu, defconfig: Path, saved: str
) -> None:
    before = defconfig.read_text()
    screen = start()
    screen.see("Optimizers")
    screen.load(defconfig)
    screen.see("Success")
    screen.press("\r")
    if way == "save dialog":
        screen.press("s")
        screen.see("Filename to save configuration to")
        screen.press("\r")
        screen.see("Success")
        screen.press("\r")
        screen.press("q")
    else:
        screen.press("q")
        screen.see("Save configuration")
        screen.press("y")
    screen.end()
    assert defconfig.read_text() == before
    assert 'CONFIG_TARGET_SPARSITY="0.5"\n' in screen.config.read_text()
    assert screen.config.with_name(".config.old").read_text() == saved


def test_a_copy_saved_elsewhere_leaves_the_config_to_be_saved(start: Menu, tmp_path: Path) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.press("s")
    screen.see("Filename to save configuration to")
    screen.press(f"{CLEAR}{tmp_path / 'copy'}\r")
    screen.see("Success")
    screen.press("\r")
    screen.press("q")
    screen.see("Save configuration")
    screen.press("y")
    screen.end()
    assert screen.config.read_text() == (tmp_path / "copy").read_text()


def test_the_minimal_configuration_lands_beside_the_config(start: Menu, tmp_path: Path) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.press("d")
    screen.see("Filename to save minimal configuration to")
    screen.press("\r")
    screen.see("Success")
    screen.press("\r")
    screen.press("q")
    screen.see("Save configuration")
    screen.press("n")
    screen.end()
    quickstart = (SOURCE_TREE / "defconfigs" / "quickstart").read_text()
    assert (tmp_path / "defconfig").read_text() == quickstart.split("\n", 1)[1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("CONFIG_EPOCH=3", "no such symbol"),
        ('CONFIG_TARGET_SPARSITY="7"', "7 is outside"),
        ("nonsense", "malformed line"),
        (None, "No such file"),
    ],
)
def test_load_shows_what_is_wrong_and_changes_nothing(
    line: str | None, says: str, start: Menu, saved: str, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    if line is not None:
        path.write_text(f'CONFIG_EPOCHS="5"\n{line}\n')
    screen = start()
    screen.see("Optimizers")
    screen.load(path)
    screen.see(says)
    screen.press("\r")
    screen.see("File to load")
    screen.press("\x1b")
    screen.press("q")
    assert "No changes to save" in screen.end()
    assert screen.config.read_text() == saved


@pytest.mark.parametrize(
    ("symbol", "old", "new", "says"),
    [
        ("PRUNING_RAMP_END", "0.8", "1.5", "1.5 is outside (0, 1]"),
        ("PRUNING_RAMP_END", "0.8", "half", "'half' is not a number"),
        ("TARGET_SPARSITY", "0.7 0.9", "0.7,0.9", "separate the values by blanks"),
        ("EPOCHS", "preset", "0", "0 is outside [1, 100000]"),
        ("BATCH_SIZE", "preset", "big", "'big' is not a whole number"),
    ],
)
def test_a_value_outside_its_type_is_refused_where_it_is_entered(
    symbol: str, old: str, new: str, says: str, start: Menu
) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.enter(symbol, old, new)
    screen.see(says)
    screen.press("\r\x1b")
    screen.press("q")
    screen.see("Save configuration")
    screen.press("y")
    screen.end()
    assert re.search(rf'CONFIG_{symbol}="?{re.escape(old)}"?\n', screen.config.read_text())


def test_the_dialog_says_what_is_expected(start: Menu) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.jump_to("PRUNING_RAMP_END")
    screen.press("\r")
    screen.see("Expected: one or several: number in (0, 1]")


def test_a_search_finds_what_can_be_set(start: Menu) -> None:
    """And no CELL_ symbol, to jump to which everything hidden would have to be shown."""
    screen = start()
    screen.see("Optimizers")
    screen.jump_to("TARGET_SP")
    screen.press("\r")
    screen.see("Expected: one or several: number in [0, 1]")
    screen.press(CTRL_C)
    screen.press("/")
    screen.see("Jump to symbol")
    screen.press("CELL_")
    screen.see("No matches")


def test_ctrl_c_asks_before_it_loses_anything(start: Menu) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.enter("EPOCHS", "preset", "3")
    screen.press(CTRL_C)
    screen.see("Save configuration")
    screen.press("y")
    assert "saved to" in screen.end()
    assert screen.child.exitstatus == 0
    assert 'CONFIG_EPOCHS="3"\n' in screen.config.read_text()


def test_ctrl_c_leaves_a_dialog_and_not_the_menu(start: Menu) -> None:
    screen = start()
    screen.see("Optimizers")
    screen.jump_to("EPOCHS")
    screen.press("\r")
    screen.see("Expected")
    screen.press("7" + CTRL_C)
    screen.press(CTRL_C)
    screen.see("Save configuration")
    screen.press("y")
    screen.end()
    assert 'CONFIG_EPOCHS="preset"\n' in screen.config.read_text()


def test_the_menu_ends_with_its_terminal_also_under_nohup(tmp_path: Path) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "adamwprune", "menuconfig"],
        env={**os.environ, "TERM": "xterm", "MAKEFLAGS": f" -- O={tmp_path}"},
        encoding="utf-8",
        timeout=20,
        ignore_sighup=True,
    )
    child.expect("Optimizers")
    os.close(child.child_fd)
    assert os.waitpid(child.pid, 0)[1] == signal.SIGHUP


def test_ctrl_c_works_as_ever_after_the_menu(start: Menu, tmp_path: Path) -> None:
    """The terminal's interrupt character, which the menu takes away, is given back."""
    command = f"{sys.executable} -m adamwprune menuconfig; stty -a"
    child = pexpect.spawn(
        "sh",
        ["-c", command],
        env={**os.environ, "TERM": "xterm", "MAKEFLAGS": f" -- O={tmp_path}"},
        dimensions=(30, 200),
        encoding="utf-8",
        timeout=20,
    )
    child.expect("Optimizers")
    child.send("qn")
    child.expect("intr = ([^;]*);")
    assert child.match[1] == "^C"
    child.close()


@pytest.mark.parametrize("name", ["LC_ALL", "LC_CTYPE", "LANG"])
def test_an_unknown_locale_does_no_harm(name: str, start: Menu) -> None:
    screen = start(**{name: "xx_YY.bogus"})
    screen.see("Optimizers")
    screen.press("q")
    screen.see("Save configuration")
    screen.press("y")
    screen.end()
    assert screen.child.exitstatus == 0
    assert screen.config.exists()


@pytest.mark.parametrize("terminal", ["dumb", "no-such-terminal"])
def test_a_terminal_that_cannot_show_a_menu_is_told(terminal: str, start: Menu) -> None:
    screen = start(TERM=terminal)
    said = screen.end()
    assert screen.child.exitstatus == 2
    assert said.startswith(f"error: menuconfig: TERM={terminal}")
    assert "edit .config" in said


def test_without_a_terminal_one_message(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adamwprune", "menuconfig"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: menuconfig ")
    assert list(tmp_path.iterdir()) == []


def test_a_config_with_errors_is_refused_before_the_menu(start: Menu, tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("CONFIG_EPOCH=3\nCONFIG_JOBS=9999\n")
    screen = start()
    said = screen.end()
    assert screen.child.exitstatus == 2
    assert f"{tmp_path}/.config:1: EPOCH=3: no such symbol; did you mean EPOCHS?" in said
    assert f"{tmp_path}/.config:2: JOBS=9999: 9999 is outside [0, 1024]" in said
    assert "make olddefconfig" in said


def test_make_s_variables_are_on_top(start: Menu, tmp_path: Path) -> None:
    (tmp_path / ".config").write_text('CONFIG_EPOCHS="4"\n')
    screen = start("EPOCHS=6 OPTIMIZER=adam")
    screen.see("Optimizers")
    screen.press("q")
    screen.see("Save configuration")
    screen.press("y")
    screen.end()
    text = screen.config.read_text()
    assert 'CONFIG_EPOCHS="6"\n' in text
    assert "CONFIG_OPTIMIZER_ADAM=y\n" in text
    assert "# CONFIG_OPTIMIZER_SGD is not set\n" in text


def test_config_variable_is_refused(start: Menu) -> None:
    screen = start("CONFIG=adamw")
    assert "error: CONFIG=adamw leaves" in screen.end()
    assert screen.child.exitstatus == 2


def record(spec: RunSpec, output: Path, status: str = "done", **said: object) -> None:
    """Leave the record of a run in the directory of results."""
    folder = output / "results" / spec.run_id
    folder.mkdir(parents=True)
    made_by = CODE.of(spec).to_json()
    publish(folder, replace(synthetic(spec, status=status), **{"code": made_by, **said}))


def specs(workspace: Workspace) -> list[RunSpec]:
    """The runs that a menu starts with."""
    return matrix.expand(Session.start(workspace).tree).specs


def test_the_menu_counts_its_runs_and_what_is_done(
    start: Menu, workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    dense, pruned, *_ = specs(workspace())
    record(dense, tmp_path)
    record(pruned, tmp_path, "failed")
    screen = start()
    screen.see_redrawn("10 runs, 1 done, 1 failed")
    screen.jump_to("^OPTIMIZER_ADAM$")
    screen.see("Top Optimizers")
    screen.press(" ")
    screen.see_redrawn("15 runs, 1 done, 1 failed")
    screen.press(" ")
    screen.see_redrawn("10 runs, 1 done, 1 failed")
    screen.jump_to("^MODEL_LENET5$")
    screen.see("Top Models")
    screen.press(" ")
    screen.see_redrawn("no member of MODEL is on")
    screen.press(" ")
    screen.see_redrawn("10 runs, 1 done, 1 failed")


# -- the count ---------------------------------------------------------------------


def count(workspace: Workspace, **settings: str) -> list[str]:
    """What is said, one after the other, of the configuration that a menu starts with."""
    tree = Session.start(workspace).tree
    sources.override(tree, settings)
    return list(dict.fromkeys(runs(workspace, CODE, tree)))


def test_the_count_becomes_exact_step_by_step(
    workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    first, second, third, *_ = specs(workspace())
    record(first, tmp_path)
    record(second, tmp_path, code={"digest": "other", "modules": {}})
    record(third, tmp_path, "failed")
    # Points: two optimizers, three methods, two sparsities; a dense run has no sparsity.
    said = count(workspace())
    assert said == ["at most 12 runs", "10 runs", "10 runs, 1 done, 1 stale, 1 failed"]


def test_the_count_knows_what_is_dropped(workspace: Callable[..., Workspace]) -> None:
    assert count(workspace(), PRUNING_METHOD="none state")[-1] == "6 runs, 0 done"
    said = count(workspace(), PRUNING_METHOD="none state", OPTIMIZER="sgd adam")
    assert said[-1] == "4 runs, 0 done, 1 dropped"


def test_more_than_can_be_counted_at_once_is_not(workspace: Callable[..., Workspace]) -> None:
    assert count(workspace(), SEED=" ".join(map(str, range(500)))) == ["at most 6,000 runs"]


def test_a_damaged_record_is_no_reason_not_to_count(
    workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    record(specs(workspace())[0], tmp_path)
    next(tmp_path.glob("results/*/result.json")).write_text("{")
    assert count(workspace())[-1] == "10 runs, 0 done, 1 damaged"


def test_a_count_gives_way_to_that_of_a_newer_configuration() -> None:
    begun, gone_on = threading.Event(), threading.Event()

    def slowly(tree: Tree) -> Iterator[str]:
        yield f"some of {tree.text('EPOCHS')}"
        if tree.text("EPOCHS") == "1":
            begun.set()
            gone_on.wait()
            yield "nobody asks for this any more"
            pytest.fail("a count went on that is not wanted")
        yield f"all of {tree.text('EPOCHS')}"

    with RunCount(SOURCE_TREE, slowly) as shown:
        assert shown.of('CONFIG_EPOCHS="1"\n') in ("counting", "some of 1")
        begun.wait()
        assert (shown.of('CONFIG_EPOCHS="1"\n'), shown.is_final) == ("some of 1", False)
        assert (shown.of('CONFIG_EPOCHS="2"\n'), shown.is_final) == ("counting", False)
        gone_on.set()
        while not shown.is_final:
            last = shown.of('CONFIG_EPOCHS="2"\n')
        assert last == "all of 2"


# -- without a screen ------------------------------------------------------------


def test_session_loads_all_or_nothing(workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    session = Session.start(workspace(EPOCHS="7"))
    path = tmp_path / "file"
    path.write_text("CONFIG_JOBS=3\nCONFIG_SEED=1\n")
    before = session.tree.config()
    with pytest.raises(ConfigError, match="file:2: SEED=1"):
        session.load(path)
    assert session.tree.config() == before
    path.write_text("CONFIG_JOBS=3\n")
    session.load(path)
    assert (session.tree.text("JOBS"), session.tree.text("EPOCHS")) == ("3", "preset")


def test_nothing_counts_as_new_in_a_fresh_configuration(
    workspace: Callable[..., Workspace],
) -> None:
    tree = Session.start(workspace()).tree
    visible = [symbol for name, symbol in tree.symbols.items() if tree.is_visible(name)]
    assert all(symbol.user_value is not None or symbol.choice for symbol in visible)
    assert tree.text("TARGET_SPARSITY") == "0.7 0.9"


def test_saving_says_runs_done_dropped_and_time(
    workspace: Callable[..., Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = SimpleNamespace(known=lambda values: {"seconds": 0.1})
    monkeypatch.setattr(steps, "_STEP", cached)
    record(specs(workspace())[0], tmp_path)
    session = Session.start(workspace(), partial(runs, workspace(), CODE))
    assert session.save(session.config).endswith(": 10 runs, 1 done")
    session = Session.start(
        workspace(), partial(runs, workspace(), CODE), partial(time_of, workspace(), CODE)
    )
    session.tree.set("JOBS", "1")
    told = session.save(session.config)
    assert re.search(r": 10 runs, 1 done, about 11:55$", told), "9 · 630 · 125 ms and the start"


def test_session_knows_what_needs_saving(workspace: Callable[..., Workspace]) -> None:
    session = Session.start(workspace())
    assert session.needs_save()
    session.save(session.config)
    assert not session.needs_save()
    session.tree.set("EPOCHS", "3")
    assert session.needs_save()
    session.tree.set("EPOCHS", "preset")
    assert not session.needs_save()
