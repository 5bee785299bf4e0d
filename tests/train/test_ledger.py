"""The ledger, the formulas beside it, and what exists only during a mask update."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from adamwprune import optimizers, pruning
from adamwprune.base.kinds import Images
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.models import Model
from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.optimizers._adam import AdamFamily
from adamwprune.plan.matrix import expand
from adamwprune.plan.spec import RunSpec
from adamwprune.pruning import ContractViolation, Pruner
from adamwprune.pruning.storage import STORAGES, Count
from adamwprune.train.measure import ledger
from adamwprune.train.measure.phase_peaks import FIRST_STEP, INIT, MASK_UPDATE, STEADY, Phases
from adamwprune.train.measure.update_peak import Transient, UpdateMeter, transient_of
from benchmarks.memory import by_sparsity, counted
from benchmarks.memory.counted import allocated_by
from benchmarks.memory.formulas import Size, computed
from benchmarks.memory.shapes import NETWORKS
from tests.support.allocator import Allocator

CPU = torch.device("cpu")
SHAPES = ((6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84))
LENET5 = Size(61_750, 14, SHAPES, 192, 48_000)


def every_run() -> list[RunSpec]:
    """Every optimizer × method × storage that the tree allows."""
    specs: dict[str, RunSpec] = {}
    for storage in Tree().families["MASK_STORAGE"].members:
        tree = Tree()
        words = {
            "OPTIMIZER": " ".join(tree.families["OPTIMIZER"].members),
            "PRUNING_METHOD": " ".join(tree.families["PRUNING_METHOD"].members),
            "MASK_STORAGE": storage,
        }
        strict.apply(tree, strict.command_line(tree, words, "test"))
        specs.update({spec.run_id: spec for spec in expand(tree).specs})
    return list(specs.values())


def name_of(spec: RunSpec) -> str:
    return f"{spec.slug}-{spec.values.get('MASK_STORAGE', '')}"


EVERY = every_run()
PRUNED = [s for s in EVERY if s["OPTIMIZER"] == "adamwprune" and "MASK_STORAGE" in s]


@dataclass
class Run:
    """A network, its optimizer and its pruner, whose mask is updated after steps 2, 3 and 4."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    pruner: Pruner
    meter: UpdateMeter
    at_once: int = 0  # bytes of the gradients in the last step

    @classmethod
    def of(cls, values: Any, model: nn.Module | None = None, meter: Any = None) -> Run:
        torch.manual_seed(0)
        model = model or FusedLeNet5()
        quick = {**values, "PRUNING_WARMUP": 1, "PRUNING_INTERVAL": 1}
        optimizer = optimizers.build(quick["OPTIMIZER"], model.parameters(), quick)
        pruner = pruning.build(model, quick, ramp_end=4)
        meter = (meter or UpdateMeter()).attach(pruner)
        pruner.attach(optimizer)
        return cls(model, optimizer, pruner, meter)

    def steps(self, number: int) -> None:
        for _ in range(number):
            for param in self.model.parameters():
                if param.grad is None:
                    param.grad = torch.empty_like(param)
                param.grad.normal_()
            self.at_once = ledger.gradients(self.model)
            self.optimizer.step()

    def account(self) -> dict[str, Any]:
        return ledger.account(self.model, self.optimizer, self.pruner, self.at_once)


def run_of(optimizer: str, method: str, storage: str = "bool") -> Run:
    return Run.of(values_of(optimizer, method, storage))


def values_of(optimizer: str, method: str, storage: str = "bool") -> dict[str, Any]:
    (found,) = (
        dict(spec.settings)
        for spec in EVERY
        if (spec["OPTIMIZER"], spec["PRUNING_METHOD"]) == (optimizer, method)
        and spec.values.get("MASK_STORAGE", "bool") == storage
    )
    return found


# -- computed beside measured ----------------------------------------------------------


@pytest.mark.parametrize("spec", EVERY, ids=name_of)
def test_what_is_computed_is_what_is_there(spec: RunSpec) -> None:
    run = Run.of(spec.settings)
    run.steps(3)
    size = counted.size_of(run.model, run.pruner)
    assert replace(size, pruned=()) == LENET5
    assert run.account() == computed(spec.values, size)


def test_the_formulas_of_lenet5() -> None:
    def states(optimizer: str) -> int:
        found = computed(values_of(optimizer, "none"), LENET5)["optimizer"]
        return sum(size for name, size in found.items() if not name.startswith("spam_"))

    assert states("sgd") == 247_000
    assert states("adam") == states("adamw") == 494_056
    assert states("adamwadv") == states("adamwspam") == states("adamwprune") == 741_056
    masks = {name: storage.expected_bytes(LENET5.counts) for name, storage in STORAGES.items()}
    assert masks == {"bool": 61_470, "bits": 7_684, "implied": 0, "packed": 7_684}
    assert computed(values_of("adamw", "movement"), LENET5)["pruner"] == {
        "scores": 245_880,
        "kept_weights": 245_880,
        "masks": 61_470,
    }
    assert computed(values_of("adamw", "none"), LENET5)["total"] == 988_248


def test_the_last_byte_of_each_tensors_bits_is_a_whole_one() -> None:
    counts = [Count(1, 1), Count(8, 8), Count(9, 9)]
    assert STORAGES["bits"].expected_bytes(counts) == 1 + 1 + 2


def test_packed_states_have_an_index_of_four_bytes_from_half_live_on() -> None:
    packed, counts = STORAGES["packed"], [Count(100, 51), Count(100, 50), Count(48_000, 4_801)]
    assert packed.expected_bytes(counts) == 13 + 4 * 50 + 4 * 4_801
    # In eights, as the kernels take them: 56 for 50 where none of these are among the last four.
    assert packed.without_states(counts) == (100 - 56) + (48_000 - 4_808)


def test_nothing_is_computed_of_what_is_not_there_or_declares_nothing(monkeypatch) -> None:
    values = values_of("adamw", "magnitude")
    for name in ("OPTIMIZER", "PRUNING_METHOD", "MASK_STORAGE"):
        with pytest.raises(KeyError, match="guessed"):
            computed({**values, name: "guessed"}, LENET5)
    monkeypatch.delattr(AdamFamily, "declared_states")
    with pytest.raises(NotImplementedError, match="AdamW does not declare its states"):
        computed(values, LENET5)


def test_momentum_of_zero_keeps_nothing() -> None:
    values = {**values_of("sgd", "none"), "SGD_MOMENTUM": 0.0}
    run = Run.of(values)
    run.steps(2)
    assert run.account() == computed(values, LENET5)
    assert run.account()["optimizer"] == {}


@pytest.mark.parametrize("mode", Tree().families["SPAM_MODE"].members)
def test_each_way_to_handle_spikes(mode: str) -> None:
    tree = Tree()
    words = {"OPTIMIZER": "adamw", "PRUNING_METHOD": "none", "SPAM_MODE": mode}
    strict.apply(tree, strict.command_line(tree, words, "test"))
    (spec,) = expand(tree).specs
    run = Run.of(spec.settings)
    run.steps(2)
    assert run.account() == computed(spec.values, LENET5)


# -- beside torch's own tracker ---------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [s for s in EVERY if s["OPTIMIZER"] in ("sgd", "adamwprune")],
    ids=name_of,
)
def test_torchs_own_tracker_counts_the_same(spec: RunSpec) -> None:
    run = Run.of(spec.settings)
    tracker = MemTracker()
    begun = [tensor for owner in run.pruner.buffers().values() for tensor in owner]
    tracker.track_external(run.model, run.optimizer, *begun)
    del begun  # the first step makes them anew
    with tracker:
        run.steps(4)
        found = tracker.get_tracker_snapshot("current")[CPU]
    sizes = {getattr(kind, "value", kind): size for kind, size in found.items()}
    account = run.account()
    assert sizes["Parameter"] == account["weights"] == 247_000
    assert sizes["Buffer"] == account["buffers"] == 192
    # What the steps made: states in the optimizer's step, and the pruner's tensors in its hooks;
    # gradients that no backward pass made are to the tracker activations.
    made = sum(account["optimizer"].values()) + sum(account["pruner"].values())
    steps = sizes["Optstate"] + sizes["Activation"] + sizes["Other"]
    left = ledger.gradients(run.model)  # all of them, unless states are packed
    assert steps == made + left
    assert sizes["Total"] == account["total"] - account["gradients"] + left


# -- for a moment ---------------------------------------------------------------------


def test_what_is_made_and_freed_and_what_is_kept() -> None:
    kept: list[torch.Tensor] = []

    def work() -> None:
        first = torch.ones(1000)  # 4,000 bytes
        second = first + 1  # 8,000
        del first
        kept.append(second[:10])  # a view keeps all of its storage
        torch.zeros(500, dtype=torch.float64)  # 4,000 more

    assert transient_of(work) == Transient(peak=8_000, kept=4_000)
    assert transient_of(work).bytes == 4_000


def test_what_was_there_is_no_growth_and_counts_when_it_goes() -> None:
    old = [torch.ones(1000)]

    def work() -> None:
        old[0].add_(1)
        old[0][:5].mul_(2)
        old[0] = old[0].to(torch.bool)

    assert transient_of(work) == Transient(peak=1_000, kept=1_000 - 4_000)
    assert transient_of(old[0].logical_not_) == Transient(0, 0)


def test_a_number_that_is_written_into_a_tensor_leaves_nothing() -> None:
    mask, index = torch.zeros(64, dtype=torch.bool), torch.arange(4)
    assert transient_of(lambda: mask.__setitem__(index, True)).kept == 0


def test_an_error_ends_the_count() -> None:
    with pytest.raises(ZeroDivisionError):
        transient_of(lambda: 1 / 0)
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


@pytest.mark.parametrize("spec", PRUNED, ids=name_of)
def test_the_peak_is_the_one_of_torchs_own_tracker(spec: RunSpec) -> None:
    run = Run.of(spec.settings)
    run.steps(3)
    run.pruner.around_update = lambda update: None  # measured below, from outside
    run.steps(1)
    tracker = MemTracker()
    tensors = [tensor for owner in run.pruner.buffers().values() for tensor in owner]
    tracker.track_external(run.model, run.optimizer, *tensors)
    before = tracker.get_tracker_snapshot("current")[CPU]["Total"]
    with tracker, torch.no_grad():
        ours = transient_of(run.pruner.update)
        peak = tracker.get_tracker_snapshot("peak")[CPU]["Total"]
    assert ours.peak == peak - before
    # Scores and their copy, 4 bytes a weight each, and the index by which they are sorted, 8.
    assert ours.bytes > 8 * 61_470


def test_the_allocator_sees_what_a_kernel_takes_for_itself() -> None:
    scores = torch.rand(10_000)

    def work() -> None:
        scores.argsort(stable=True)

    tensors, everything = transient_of(work), allocated_by(work)
    assert tensors.kept == everything.kept == 0
    assert tensors.peak == (4 + 8) * 10_000  # the sorted values and the index
    assert everything.peak >= tensors.peak
    assert allocated_by(lambda: torch.ones(1000).neg()).peak == 8_000


@pytest.mark.parametrize("method", ["magnitude", "movement", "state"])
def test_the_meter_keeps_the_worst_update(method: str) -> None:
    run = run_of("adamwprune" if method == "state" else "adamw", method)
    run.steps(1)
    assert run.meter.record() is None
    run.steps(1)
    first = run.meter.worst
    assert first is not None
    assert first.kept == 61_470  # the masks
    assert first.bytes == first.peak - 61_470
    run.steps(2)
    assert (run.meter.updates, len(run.pruner.updates)) == (3, 3)
    record = run.meter.record()
    assert record is not None
    assert record["transient"] >= first.bytes
    again = UpdateMeter()
    again.load_state_dict(run.meter.state_dict())
    assert (again.record(), again.updates) == (record, 3)


def test_a_dense_run_has_no_update() -> None:
    run = run_of("adamw", "none")
    run.steps(4)
    assert run.meter.record() is None
    again = UpdateMeter()
    again.load_state_dict(run.meter.state_dict())
    assert again.record() is None


def test_only_the_first_updates_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(
        "adamwprune.train.measure.update_peak.transient_of",
        lambda work: (counted.append(work()), Transient(5, 5))[1],
    )
    run = run_of("adamw", "magnitude")
    run.steps(4)
    assert len(run.pruner.updates) == 3
    assert len(counted) == UpdateMeter.COUNTED == 2


def test_what_is_pruned_does_not_depend_on_the_meter() -> None:
    measured = run_of("adamwprune", "state", "implied")
    plain = run_of("adamwprune", "state", "implied")
    plain.pruner.around_update = None  # the meter's
    for run in (measured, plain):
        torch.manual_seed(1)
        run.steps(4)
    assert plain.meter.updates == 0
    for one, other in zip(measured.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_update_that_raises_leaves_no_count_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("adamwprune", "magnitude")
    run.steps(1)

    def refuse(*_: object) -> None:
        raise ContractViolation

    monkeypatch.setattr(run.pruner.score, "score", refuse)
    with pytest.raises(ContractViolation):
        run.steps(1)
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


# -- a GPU's phases -----------------------------------------------------------------------


def test_each_phase_has_its_own_peak() -> None:
    gpu = Allocator()
    phases = Phases(gpu)
    phases.enter(INIT)
    gpu.use(150, then=100)
    phases.enter(FIRST_STEP)
    gpu.use(400, then=300)
    phases.enter(STEADY)
    gpu.use(350, then=300)
    with phases.within(MASK_UPDATE):
        gpu.use(900, then=320)
    gpu.use(360, then=320)
    with phases.within(MASK_UPDATE):
        gpu.use(800, then=320)
    assert phases.record() == {INIT: 150, FIRST_STEP: 400, STEADY: 360, MASK_UPDATE: 900}
    assert phases.peak == 900
    gpu.use(370)
    assert phases.record()[STEADY] == 370


def test_a_phase_that_raises_ends() -> None:
    gpu = Allocator()
    phases = Phases(gpu)
    phases.enter(STEADY)

    def fail() -> None:
        with phases.within(MASK_UPDATE):
            gpu.use(700, then=50)
            raise ContractViolation

    with pytest.raises(ContractViolation):
        fail()
    gpu.use(60)
    assert phases.record() == {STEADY: 60, MASK_UPDATE: 700}


def test_phases_survive_a_checkpoint() -> None:
    before, after = Allocator(), Allocator()
    phases = Phases(before)
    phases.enter(INIT)
    before.use(500, then=200)
    phases.enter(STEADY)
    before.use(300)
    resumed = Phases(after)
    resumed.enter(INIT)
    after.use(450, then=200)
    resumed.enter(STEADY)
    resumed.load_state_dict(phases.state_dict())
    after.use(310)
    assert resumed.record() == {INIT: 500, STEADY: 310}


def test_a_gpus_updates_are_read_off_its_allocator() -> None:
    gpu = Allocator()
    phases = Phases(gpu)
    phases.enter(STEADY)
    gpu.use(1_000)
    meter = UpdateMeter(phases)
    for _ in range(3):
        meter(lambda: gpu.use(1_900, then=1_061))
    assert meter.worst == Transient(peak=900, kept=61)
    assert meter.record() == {"transient": 839, "peak": 900}
    assert phases.record() == {STEADY: 1_061, MASK_UPDATE: 1_900}


# -- the table -----------------------------------------------------------------------------


def test_the_larger_networks_have_the_published_sizes() -> None:
    def sizes(name: str) -> tuple[int, int]:
        with torch.device("meta"):
            model = NETWORKS[name]().module
        prunable = pruning.prunable(model).values()
        return sum(p.numel() for p in model.parameters()), sum(w.numel() for w in prunable)

    assert sizes("lenet5") == (61_750, 61_470)
    assert sizes("resnet18") == (11_173_962, 11_164_352)
    assert sizes("resnet50") == (25_557_032, 25_502_912)
    assert sizes("gpt2") == (124_439_808, 84_934_656)
    assert sizes("gpt2-medium") == (354_823_168, 301_989_888)


def test_every_optimizer_method_and_storage_has_a_row() -> None:
    rows = counted.runs()
    dense = [row["OPTIMIZER"] for row in rows if row["PRUNING_METHOD"] == "none"]
    assert dense == list(Tree().families["OPTIMIZER"].members)
    under = {s["PRUNING_METHOD"] for s in rows if s["OPTIMIZER"] == "adamw"}
    assert under == set(Tree().families["PRUNING_METHOD"].members)
    pairs = {(s["PRUNING_METHOD"], s.values.get("MASK_STORAGE")) for s in rows}
    assert {("magnitude", "bool"), ("magnitude", "implied"), ("state", "implied")} <= pairs
    assert ("movement", "implied") not in pairs, "weights that return"


def linear() -> Model:
    module = nn.Sequential(nn.Linear(100, 50), nn.ReLU())
    return Model(module, Images(channels=1, size=10, classes=50))


def test_a_row_is_measured_and_computed() -> None:
    (spec,) = (
        spec for spec in counted.runs() if counted.head(spec) == ("adamwprune", "magnitude", "bool")
    )
    row = counted.measure(linear, spec)
    assert row.measured == row.computed
    assert row.measured["total"] == 5 * 4 * 5_050 + 4 * 2 + 408 + 5_000
    assert row.tensors is not None
    assert row.allocator is not None
    assert row.tensors.kept == 5_000
    assert row.allocator >= row.tensors.bytes > 0
    table = counted.table([row]).splitlines()
    assert table[0].startswith("| optimizer | method | masks as | weights | gradients | exp_avg |")
    assert table[2].startswith("| adamwprune | magnitude | bool | 20,200 | 20,200 | 20,200 |")
    assert table[2].count("|") == table[0].count("|") == table[1].count("|")


@pytest.mark.slow
def test_the_command_writes_the_table(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "benchmarks"), "memory"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words], capture_output=True, text=True, check=False, cwd=tmp_path
        )

    done = run("lenet5", "--output", "table.md")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "table.md").read_text()
    assert "### lenet5: 61,750 parameters, 61,470 prunable" in text
    assert f"torch {torch.__version__}" in text
    rows = [line for line in text.splitlines() if line.startswith("| adamw")]
    number = len(counted.runs()) + len(by_sparsity.runs())
    assert f"in {number} of\n{number} rows" in text
    (packed,) = (line for line in text.splitlines() if line.startswith("| 90% | packed |"))
    weights = [float(cell) for cell in packed.split("|")[5:-1:3]]
    assert weights == pytest.approx([9.2, 5.2, 9.6, 5.6], abs=0.06)
    (movement,) = (row for row in rows if row.startswith("| adamw | movement | bool"))
    assert "| 245,880 | 245,880 |" in movement
    assert "| 61,470 | 248 | 1,541,478 | 1,541,478 |" in movement
    assert done.stderr == ""
    refused = run("nonsense")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there are lenet5, resnet18, resnet50, gpt2, gpt2-medium" in refused.stderr
