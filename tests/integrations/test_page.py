"""The examples of docs/in-your-own-loop.md, run as they are written."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.test_docs import blocks

EXAMPLES = [text for _, _, kind, text in blocks("in-your-own-loop.md") if kind == "python"]


@pytest.mark.slow  # the packages take seconds to import
@pytest.mark.parametrize("text", EXAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_an_example_does_what_it_asserts(text, tmp_path, monkeypatch):
    for package in ("transformers", "lightning", "accelerate"):
        if re.search(rf"^(from|import) {package}\b", text, re.M):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    assert "assert " in text or "verify()" in text
    if "init_process_group" in text:
        script = tmp_path / "this.py"
        script.write_text(text)
        ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([sys.executable, *ranks, str(script)], check=True, timeout=120)
        return
    exec(compile(text, "docs/in-your-own-loop.md", "exec"), {"__name__": "example"})
