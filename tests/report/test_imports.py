"""Drawing needs no torch: tables and figures work where only records are."""

import subprocess
import sys

PROBE = """
import sys
import adamwprune.report.figures, adamwprune.report.tables, adamwprune.report.export
import adamwprune.page
heavy = [name for name in ("torch", "torchvision", "kconfiglib") if name in sys.modules]
backend = [name for name in ("matplotlib.pyplot",) if name in sys.modules]
print(heavy, backend)
"""


def test_report_imports_neither_torch_nor_kconfig_nor_a_window_system():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_a_run_imports_nothing_of_what_exports_it():
    probe = "import sys, adamwprune.run.runner; print('safetensors' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_training_imports_nothing_that_draws_or_prints_tables():
    probe = (
        "import sys, adamwprune.commands.train\n"
        "print([name for name in sys.modules if name == 'rich' or '.report' in name])"
    )
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
