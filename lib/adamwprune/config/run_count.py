"""The number of runs that an open menu's configuration makes, counted while the menu stays usable.

Counting a thousand runs takes most of a second, so a thread does it, on a tree of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from adamwprune.base.errors import UserError
from adamwprune.config import strict
from adamwprune.config.tree import Tree

Count = Callable[[Tree], Iterator[str]]  # what is known so far, again and again; the last counts
PATIENCE = 0.05  # seconds to wait for a small count, so that the screen is drawn only once


class RunCount:
    """Says how many runs a configuration makes, in the words of ``count``.

    A context: at its end nothing is counted any more. A configuration that is asked for while
    another one is being counted takes its place.
    """

    def __init__(self, root: Path, count: Count) -> None:
        self._tree = Tree(root)
        self._count = count
        self._wanted = ""  # the configuration that was asked for last, as a text
        self._known = ("", "")  # a configuration, and what is known of it
        self._job: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> RunCount:
        return self

    def __exit__(self, *error: object) -> None:
        self._wanted = ""
        self._thread.shutdown(cancel_futures=True)

    @property
    def is_final(self) -> bool:
        """Whether the last text that :meth:`of` returned will not change any more."""
        return self._job is None

    def of(self, configuration: str) -> str:
        """What is known of a configuration, the text of a ``.config``; waits for it a moment."""
        if configuration != self._wanted:
            if self._job is not None:
                self._job.cancel()
            self._wanted = configuration
            self._job = self._thread.submit(self._run, configuration)
            wait([self._job], PATIENCE)
        if self._job is not None and self._job.done():
            self._job.result()  # raises what the counting did not expect
            self._job = None
        known, text = self._known
        return text if known == configuration else "counting"

    def _run(self, configuration: str) -> None:
        try:
            self._tree.reset()
            strict.apply(self._tree, strict.parse_config(configuration, "the menu", self._tree))
            for text in self._count(self._tree):
                if configuration != self._wanted:
                    return
                self._known = configuration, text
        except UserError as error:
            self._known = configuration, str(error).splitlines()[0]
