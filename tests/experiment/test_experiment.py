"""Which runs are missing, and which records count for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.commands import matrix
from adamwprune.commands.why import explain, spec_of
from adamwprune.config.sources import Workspace
from adamwprune.experiment.catalogue import Catalogue
from adamwprune.experiment.experiment import Experiment
from adamwprune.experiment.launch import Launch
from adamwprune.plan.spec import RunSpec
from adamwprune.progress import steps
from adamwprune.records.code import Sources
from adamwprune.records.published import read_published, write_published
from adamwprune.records.record import FROZEN, STALE, RunResult
from adamwprune.records.store import prepare, publish
from adamwprune.report import present
from adamwprune.scheduler import devices, packing, pool
from adamwprune.scheduler.events import Outcome
from tests.support.records import LEAST

SOURCES = Sources()
OTHER = {"digest": "0" * 16, "modules": {"adamwprune.train.loop": "0" * 10}}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """The experiment of three seeds of SGD, with results and published records of its own."""
    monkeypatch.setattr(Experiment, "published", tmp_path / "published")

    def experiment(*settings: str) -> Experiment:
        words = (f"O={tmp_path}", "CONFIG=sgd", r"SEED=0\ 1\ 2", *settings)
        monkeypatch.setenv("MAKEFLAGS", " -- " + " ".join(words))
        return Experiment.load(Workspace.from_environment())

    return experiment


def look(experiment: Experiment) -> Catalogue:
    return Catalogue.of(experiment)


def record(experiment: Experiment, spec: RunSpec, **changes) -> RunResult:
    """A record as the code that is here would have made it."""
    code = SOURCES.of(spec).to_json()
    made = RunResult(spec.run_id, "done", spec, **LEAST, code=code)
    return replace(made, **changes)


def keep(experiment: Experiment, result: RunResult) -> None:
    publish(prepare(experiment.root / result.run_id, result.spec), result)


def missing(experiment: Experiment) -> list[int]:
    return [cell.spec["SEED"] for cell in look(experiment).missing()]


def test_each_configuration_has_a_folder_of_figures(load, tmp_path, monkeypatch):
    """Named after its defconfig where that says it all, otherwise after its runs."""
    changed, again = load("EPOCHS=2"), load("EPOCHS=2", "JOBS=2")
    other = load("EPOCHS=3")
    assert changed.figures == again.figures != other.figures
    assert changed.figures.parent == other.figures.parent == changed.root / "figures"
    assert changed.figures.name.startswith("sgd-")
    for words, name in (("CONFIG=sgd", "sgd"), ("CONFIG=adam+adamw", "adam+adamw")):
        monkeypatch.setenv("MAKEFLAGS", f" -- O={tmp_path} {words} JOBS=2")
        assert Experiment.load(Workspace.from_environment()).figures.name == name
    monkeypatch.setenv("MAKEFLAGS", f" -- O={tmp_path}")
    (tmp_path / ".config").write_text('CONFIG_LR="0.1"\n')
    assert Experiment.load(Workspace.from_environment()).figures.name.startswith("lenet5-mnist-")


@pytest.mark.slow
def test_missing_are_those_without_a_record_and_the_stale(load):
    here = load()
    one, two, _ = here.matrix.specs
    keep(here, record(here, one))
    keep(here, record(here, two, code=OTHER))
    assert missing(here) == [1, 2]
    assert [r.spec for r in look(here).records()] == [one]
    kept = load("KEEP_STALE=1")
    assert missing(kept) == [2]
    assert [(r.spec["SEED"], r.marks) for r in look(kept).records()] == [(0, set()), (1, {STALE})]


@pytest.mark.slow
def test_a_failed_run_waits_for_retry_unless_its_code_changed(load):
    here = load()
    one, two, _ = here.matrix.specs
    keep(here, record(here, one, status="failed", error="ValueError: no"))
    keep(here, record(here, two, status="failed", error="ValueError: no", code=OTHER))
    assert missing(here) == [1, 2]
    assert [cell.spec["SEED"] for cell in look(here).failed()] == [0]
    kept = load("KEEP_STALE=1")
    assert missing(kept) == [2]
    assert [cell.spec["SEED"] for cell in look(kept).failed()] == [0, 1]


def test_unmeasured_are_the_missing_and_those_that_had_company(load):
    here = load()
    one, two, _ = here.matrix.specs
    keep(here, record(here, one, environment={"alone": True}))
    keep(here, record(here, two, environment={"alone": False}))
    assert [cell.spec["SEED"] for cell in look(here).unmeasured()] == [1, 2]


@pytest.mark.slow
def test_published_records_count_where_that_is_asked_for(load):
    here = load()
    one, two, three = here.matrix.specs
    published = [record(here, one, code=OTHER), record(here, two)]
    present.publish(here.published, "study", here.matrix.specs, published, memory=False)
    assert missing(here) == [0, 1, 2]
    assert look(here).records() == []
    taken = load("PUBLISHED=1")
    assert missing(taken) == [2]
    assert [(r.spec["SEED"], r.marks) for r in look(taken).records()] == [(0, {FROZEN}), (1, set())]
    keep(taken, record(taken, three))
    keep(taken, record(taken, one, final={"test_accuracy": 0.5}))
    assert missing(taken) == []
    assert [r.score for r in look(taken).records()] == [50, 99, 99], (
        "what was done here comes first"
    )


def test_publishing_keeps_records_verbatim_and_what_was_published_before(load):
    here = load()
    one, two, _ = here.matrix.specs
    old = {name: value for name, value in one.values.items() if name != "VALIDATION_EXAMPLES"}
    first = record(here, RunSpec(old))
    present.publish(here.published, "study", here.matrix.specs, [first], memory=False)
    before = (here.published / "study.jsonl").read_text()
    assert "VALIDATION_EXAMPLES" not in before
    keep(here, record(here, two))
    found = look(here).records_or_published()
    present.publish(here.published, "study", here.matrix.specs, found, memory=False)
    lines = (here.published / "study.jsonl").read_text().splitlines()
    assert before.strip() in lines
    assert len(read_published(here.published)) == 2
    assert "frozen" not in (here.published / "study.md").read_text()


@pytest.mark.parametrize("name", ["KEEP_STALE", "PUBLISHED"])
def test_switches_are_0_or_1(load, name):
    with pytest.raises(UserError, match=f"{name}=yes: is neither 0 nor 1"):
        load(f"{name}=yes")


def test_a_report_knows_how_its_runs_were_asked_for(load, tmp_path):
    request = load("EPOCHS=2").request
    assert request.commands.add_seeds([0, 1, 2, 3]) == (
        f'make O={tmp_path} CONFIG=sgd SEED="0 1 2 3" EPOCHS=2'
    )
    assert {presets["LR"] for presets in request.presets.values()} == {"OPTIMIZER"}
    assert all("LR" not in presets for presets in load("LR=0.05").request.presets.values())


def test_what_this_machine_cannot_train_is_refused_before_anything_is(load, monkeypatch):
    monkeypatch.setattr(devices, "machine", lambda wanted: devices.Machine(cores=4))
    with pytest.raises(UserError, match="RANKS=5: this machine has 4 cores"):
        Launch(load("RANKS=5")).places()
    with pytest.raises(UserError, match=r"RANKS=2: gradients are averaged .* RELEASE_GRADIENTS=n"):
        Launch(load("RANKS=2", "RELEASE_GRADIENTS=y")).places()
    with pytest.raises(UserError, match=r"RANKS=2: lenet5-.* has 1 example, and each rank"):
        Launch(load("RANKS=2", "BATCH_SIZE=59999")).places()
    with pytest.raises(UserError, match=r"SHARD=y: .* RANKS= says how many"):
        Launch(load("SHARD=y")).places()
    for words in (
        ("OPTIMIZER=adamw", "PRUNING_METHOD=movement"),
        ("OPTIMIZER=adamw", "PRUNING_METHOD=state", "MASK_STORAGE=packed"),
        ("PRUNING_METHOD=magnitude",),
    ):
        with pytest.raises(UserError, match=r"SHARD=y: lenet5-.* MASK_STORAGE=implied and not 2:4"):
            Launch(load("RANKS=2", "SHARD=y", *words)).places()
    with pytest.raises(UserError, match=r"SHARD=y: .* MEMORY_FORMAT=contiguous"):
        Launch(load("RANKS=2", "SHARD=y", "MEMORY_FORMAT=channels-last")).places()
    assert Launch(load("RANKS=2")).places()(3) == [devices.Slot("cpu", 1, 2)] * 2


def test_published_records_say_how_large_runs_on_a_gpu_are(load, monkeypatch):
    """Or the first run of a matrix would be alone on its GPU until it was measured."""
    here = load()
    gpu = {**LEAST["memory"], "device": {"reserved": 10 << 20}}
    here.published.mkdir()
    path = here.published / "some.jsonl"
    write_published(path, [record(here, here.matrix.specs[0], memory=gpu)])
    with path.open("a") as damaged:
        damaged.write("{\n")
    asked = []

    class Pool:
        def __init__(self, *places, history, **others):
            asked.append([history.bytes_of(spec) for spec in here.matrix.specs])

        def run(self, jobs):
            return Outcome()

    monkeypatch.setattr("adamwprune.experiment.launch.Pool", Pool)
    for machine in (devices.Machine(4), devices.Machine(4, {"cuda:0": 80 << 30})):
        monkeypatch.setattr(devices, "machine", lambda wanted, found=machine: found)
        Launch(here).train(Catalogue.missing)
    assert asked == [[None] * 3, [packing.reserve(10 << 20)] * 3]


def test_runs_on_a_gpu_wait_for_no_more_than_one_question(load, monkeypatch, tmp_path):
    """Neither for another one of the same GPUs, nor for a step that says how long they take."""
    machine, asked = devices.Machine(4, {"cuda:0": 80 << 30}), []
    monkeypatch.setattr(devices, "machine", lambda wanted: asked.append(wanted) or machine)
    monkeypatch.setattr(steps, "_measured", lambda *network: pytest.fail("a step was measured"))
    monkeypatch.setattr(pool.Pool, "run", lambda self, jobs: Outcome())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    matrix._train(load("DEVICE=cuda"), Catalogue.missing, measure=True)
    assert asked == ["cuda"]


def test_a_setting_without_which_a_file_is_missing_does_something(load, monkeypatch):
    """The track's own text need not be there for a text of the user's."""

    def measured(values, folder):
        if values["TEXT_FILE"] != "own.txt":
            raise UserError(f"{values['TEXT_FILE']}: there is no such file")
        return {"TRAIN_EXAMPLES": 1000, "DATASET_DIGEST": "0" * 16}, []

    monkeypatch.setattr("adamwprune.plan.measured.measured", measured)
    with pytest.raises(UserError, match=r"linux-c.txt: there is no such file"):
        load("CONFIG=track-gpt2")
    assert load("CONFIG=track-gpt2", "TEXT_FILE=own.txt").notes() == []


def test_a_run_is_profiled_on_as_many_threads_as_it_is_trained_on(load, monkeypatch):
    machine = devices.Machine(cores=12)
    monkeypatch.setattr(devices, "machine", lambda wanted: machine)
    three, one = load(), load("SEED=0")
    (trained,) = one.matrix.specs
    assert Launch(three).place(trained) == devices.Slot("cpu", 4)
    assert Launch(one).place(trained) == devices.Slot("cpu", 12)
    keep(one, record(one, trained, environment={"threads": 2}))
    assert Launch(three).place(trained) == devices.Slot("cpu", 2)
    assert Launch(load("THREADS=3")).place(trained) == devices.Slot("cpu", 3)


def test_every_command_takes_the_same_run_by_the_start_of_its_id(load):
    """One of the matrix, one begun, one with a record and one published are all in question."""
    here = load("SEED=0")
    (trained,) = load("SEED=1").matrix.specs
    (begun,) = load("SEED=2").matrix.specs
    (frozen,) = load("SEED=3").matrix.specs
    keep(here, record(here, trained))
    prepare(here.root / begun.run_id, begun)
    here.published.mkdir()
    write_published(here.published / "some.jsonl", [record(here, frozen)])
    (missing,) = here.matrix.specs
    four = [missing, trained, begun, frozen]
    for command in (
        lambda prefix: list(explain(look(here), prefix)),
        lambda prefix: spec_of(look(here), prefix, "make profile"),
        look(here).find,
        Launch(load("SEED=0", "TRACKER_TENSORBOARD=y")).track,
    ):
        with pytest.raises(UserError, match="'lenet5-mnist-sgd' is the start of 4 runs:") as told:
            command("lenet5-mnist-sgd")
        assert all(spec.run_id in str(told.value) for spec in four)
        with pytest.raises(UserError, match="no run starts with 'sgd'"):
            command("sgd")
        typo = missing.run_id.replace("mnist", "minst")
        with pytest.raises(UserError, match=f"starts with '{typo}'; did you mean lenet5-mnist-"):
            command(typo)
    for spec in four:
        assert look(here).named(spec.slug) == look(here).named(spec.run_id) == spec.run_id
    assert spec_of(look(here), missing.slug, "make profile") == missing
    assert spec_of(look(here), trained.slug, "make profile") == trained
    assert look(here).find(frozen.slug).spec == frozen
    with pytest.raises(UserError, match=f"{missing.run_id}: has no record; make trains it"):
        look(here).find(missing.slug)
    with pytest.raises(UserError, match=f"{begun.run_id}: has not finished; make trains it on"):
        look(here).find(begun.slug)
    first, *_ = explain(look(here), begun.slug)
    assert first.startswith(f"{begun.run_id}: missing, but no run of ")


def test_a_run_of_another_configuration_goes_by_the_name_that_make_printed(load):
    printed = load("SEED=0..1", "LR=0.1 0.2".replace(" ", r"\ "))
    for spec in printed.matrix.specs:
        prepare(printed.root / spec.run_id, spec)
    here = look(load("SEED=0"))
    for spec, name in printed.names.items():
        assert name != spec.slug
        assert here.named(name) == spec.run_id
    with pytest.raises(UserError, match=r"is the name of 2 runs:\n.* SEED=0\n.* SEED=1"):
        here.named("lenet5-mnist-sgd-none-lr0.1")
    with pytest.raises(UserError) as told:
        here.named("lenet5-mnist-sgd-none-s1-")
    first, *lines = str(told.value).splitlines()
    assert first == "'lenet5-mnist-sgd-none-s1-' is the start of 2 runs:"
    assert sorted(line.split()[1] for line in lines) == ["LR=0.1", "LR=0.2"]


def test_a_damaged_spec_names_nothing(load):
    here = load("SEED=0")
    for seed, text in enumerate(("a: 1", "MODEL: [1]", "[", "null")):
        folder = here.root / f"lenet5-mnist-sgd-none-s{seed + 1}-0123456789"
        folder.mkdir(parents=True)
        (folder / "spec.yaml").write_text(text)
    with pytest.raises(UserError, match="is the start of 5 runs:"):
        look(here).named("lenet5-mnist-sgd-non")
    with pytest.raises(UserError, match="no run starts with"):
        look(here).named("lenet5-mnist-sgd-none-lr9-s1")


def test_a_whole_id_is_that_run_whatever_else_starts_so(load):
    here = load("SEED=0")
    (spec,) = here.matrix.specs
    (here.root / f"{spec.run_id}-copy").mkdir(parents=True)
    (here.root / f"{spec.run_id}-copy" / "spec.yaml").write_text("")
    assert look(here).named(spec.run_id) == spec.run_id
    with pytest.raises(UserError, match="is the start of 2 runs"):
        look(here).named(spec.run_id[:-1])


def test_one_run_is_asked_for_in_what_can_be_set(load):
    """Not in what follows: LR_SCHEDULE and MASK_STORAGE differ here, too."""
    several = load("SEED=0", r"OPTIMIZER=sgd\ adamw", r"PRUNING_METHOD=none\ state\ magnitude")
    told = "expands to 5 runs, .* or one value for OPTIMIZER, PRUNING_METHOD$"
    with pytest.raises(UserError, match=told):
        Launch(several).single()
    both = load(r"TARGET_SPARSITY=0.5\ 0.9", "PRUNING_METHOD=magnitude").matrix
    assert both.varying() == ["TARGET_SPARSITY", "SEED"]


def test_what_another_make_has_done_meanwhile_is_said(load, capsys):
    assert Launch(load()).train(lambda _: []) == Outcome()
    assert capsys.readouterr().out == "nothing is left to train: another make has done it\n"


def test_a_value_that_is_repeated_counts_once_and_that_is_said(load):
    told = "{}: a value that is repeated counts once"
    here = load(r"SEED=0\ 1\ 0")
    assert [cell.spec["SEED"] for cell in here.matrix.cells] == [0, 1]
    assert here.notes() == [told.format("SEED=0 1 0")]
    both = load("PRUNING_METHOD=magnitude", r"TARGET_SPARSITY=0.5\ 0.50", r"OPTIMIZER=adam\ adam")
    assert [told.format("TARGET_SPARSITY=0.5 0.50"), told.format("OPTIMIZER=adam adam")] == [
        note for note in both.notes() if "repeated" in note
    ]
    assert load(r"SEED=0\ 1").notes() == []
