"""A run that was killed and goes on ends with the bits of one that was not."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import torch

from adamwprune.pruning.attachment import unpacked
from adamwprune.records import store
from adamwprune.run import checkpoint, runner
from tests.support.runs import toy_specs as specs

pytestmark = pytest.mark.usefixtures("toys")

COMBINATIONS = specs(
    OPTIMIZER="sgd adam adamw adamwadv adamwspam adamwprune",
    PRUNING_METHOD="none magnitude movement state",
)
# What has state of its own: resets and clipping of SPAM, scopes, storages, schedules.
VARIANTS = [
    *specs(
        OPTIMIZER="adamwprune",
        PRUNING_METHOD="state",
        SPAM_ENABLE_CLIP="y",
        SPAM_INTERVAL="20",
        SPAM_WARMUP_STEPS="6",
        STATE_CRITERION="hybrid",
    ),
    *specs(OPTIMIZER="adamw", PRUNING_METHOD="state", SPAM_MODE="stable", SPAM_INTERVAL="24"),
    *specs(OPTIMIZER="adam", PRUNING_METHOD="state", MASK_STORAGE="bool", PRUNING_SCOPE="layer"),
    *specs(OPTIMIZER="sgd", PRUNING_METHOD="movement", PRUNING_SCOPE="layer", LR_SCHEDULE="cosine"),
    *specs(OPTIMIZER="sgd", PRUNING_METHOD="movement", PRUNING_SCOPE="erk", MASK_STORAGE="bits"),
    *specs(OPTIMIZER="sgd adamw", PRUNING_METHOD="movement-seed random", PRUNING_FLOOR="20"),
    *specs(OPTIMIZER="sgd", PRUNING_METHOD="set rigl", PRUNING_SCOPE="layer"),
    *specs(
        OPTIMIZER="adamwprune",
        PRUNING_METHOD="magnitude set rigl",
        PRUNING_SCHEDULE="constant",
        PRUNING_SCOPE="erk",
        MASK_STORAGE="bits",
    ),
    *specs(
        OPTIMIZER="adamwprune",
        PRUNING_METHOD="movement-seed",
        PRUNING_SCOPE="2-4",
        MASK_STORAGE="implied",
    ),
    *specs(
        OPTIMIZER="adam",
        PRUNING_METHOD="state",
        PRUNING_SCHEDULE="one-shot",
        MASK_STORAGE="bits",
    ),
    *specs(OPTIMIZER="sgd adam adamwprune", PRUNING_METHOD="magnitude", MASK_STORAGE="packed"),
    *specs(
        OPTIMIZER="adamw",
        PRUNING_METHOD="state rigl",
        INITIAL_SPARSITY="0.6",
        MASK_STORAGE="packed",
        RELEASE_GRADIENTS="y",
    ),
]
STEPS = COMBINATIONS[0].total_steps


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing of it has a say any more."""


@pytest.fixture
def trainings(monkeypatch):
    """Every training that is built, so that its final state can be looked at."""
    built = []

    class Kept(runner.Training):
        def __init__(self, *arguments, **settings) -> None:
            super().__init__(*arguments, **settings)
            built.append(self)

    monkeypatch.setattr(runner, "Training", Kept)
    monkeypatch.setattr(runner, "HEARTBEAT", 0)
    return built


def killer(step: int):
    """A progress function in which the run dies after ``step`` steps."""

    def progress(event) -> None:
        if event["event"] == "progress" and event["step"] == step:
            raise Killed

    return progress


def bits(state):
    """A state without its clocks, tensors as lists of their bytes."""
    if isinstance(state, torch.Tensor):
        return state.dtype, tuple(state.shape), state.flatten().view(torch.uint8).tolist()
    if isinstance(state, dict):
        own = {k: unpacked(v) for k, v in state.items() if str(k).startswith("pruner of")}
        plain = {**state, **own}  # of equal states the bytes need not be equal
        return {k: bits(v) for k, v in plain.items() if k not in ("clock", "seconds")}
    if isinstance(state, (list, tuple)):
        return [bits(each) for each in state]
    return state


def record(result):
    """What of a record does not depend on when and where."""
    plain = result.to_json()
    parts = {
        name: plain[name]
        for name in ("final", "pruning", "trace", "param_groups", "memory", "weights")
    }
    return parts, bits(result.history)


@pytest.mark.parametrize("spec", [*COMBINATIONS, *VARIANTS], ids=lambda spec: spec.run_id)
def test_killed_twice_and_continued_it_ends_with_the_same_bits(spec, train, trainings):
    draw = random.Random(spec.run_id)
    whole = train(spec, name="whole")
    # Twice, so that a state that was loaded is saved again; once with a checkpoint at each step.
    first, second = sorted(draw.sample(range(1, STEPS), 2))
    with pytest.raises(Killed):
        train(spec, killer(first), name="killed", checkpoint_seconds=draw.choice([0, 60]))
    with pytest.raises(Killed):
        train(spec, killer(second), name="killed", checkpoint_seconds=0)
    result = train(spec, name="killed")
    assert result.status == "done", result.error
    assert [a["from_step"] for a in result.environment["attempts"]][-1] == second
    assert bits(trainings[-1].state_dict()) == bits(trainings[0].state_dict())
    assert record(result) == record(whole)


def test_what_is_asked_to_stop_writes_a_checkpoint_and_goes_on_from_it(train, tmp_path):
    spec = COMBINATIONS[-1]
    asked = iter([False] * 6 + [True] * 9)
    with pytest.raises(runner.Stopped):
        train(spec, should_stop=lambda: next(asked))
    folder = tmp_path / "run"
    assert not (folder / store.RESULT).exists()
    assert checkpoint.read(folder / checkpoint.NAME)["training"]["step"] == 7
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    result = train(spec)
    assert result.environment["attempts"][1]["from_step"] == 7
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2 + len(lines)
    log = (folder / "log.txt").read_text()
    assert "stopped after step 7" in log
    assert f"from step 7 of {STEPS}" in log
    left = {path.name for path in folder.iterdir()}
    assert left == {"result.json", "weights.pt", "metrics.jsonl", "log.txt", "spec.yaml", ".lock"}


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "something else"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    damage, train, trainings, tmp_path
):
    spec = COMBINATIONS[-1]
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)
    path = tmp_path / "run" / checkpoint.NAME
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-1]
    elif damage == "one bit":
        content[len(content) // 2] ^= 4
    elif damage == "empty":
        content = b""
    else:
        content = b"PK\x03\x04 is how torch's own files begin"
    path.write_bytes(content)
    events = []
    result = train(spec, events.append)
    assert result.environment["attempts"][-1]["from_step"] == 19
    (note,) = [event["text"] for event in events if event["event"] == "note"]
    assert "checkpoint.pt: is " in note
    assert "an earlier checkpoint is used" in note


def killed(train, spec, folder):
    """What the last checkpoint of a run holds that was killed after step 20."""
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)
    return checkpoint.read(folder / checkpoint.NAME)


@pytest.mark.parametrize("content", [{}, {"step": 5}, {"model": {"fc.weight": 3}}, None, [1]])
def test_a_checkpoint_of_a_right_hash_and_useless_content_is_set_aside(
    content, train, trainings, tmp_path
):
    spec, folder = COMBINATIONS[0], tmp_path / "run"
    state = killed(train, spec, folder)
    checkpoint.write(folder, {**state, "training": content})
    events = []
    result = train(spec, events.append)
    assert result.environment["attempts"][-1]["from_step"] == 20, "of the one before"
    note = next(event["text"] for event in events if event["event"] == "note")
    assert f"{folder / checkpoint.NAME}: cannot be loaded: " in note
    assert not list(folder.glob("checkpoint*")), "nothing is left when the run has ended"


def test_a_checkpoint_that_no_step_can_be_done_from_is_not_tried_for_ever(
    train, trainings, tmp_path, monkeypatch
):
    spec, folder, whole = COMBINATIONS[0], tmp_path / "run", runner.Training.train
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)

    def crash(training, watcher):
        if training.step == 20:
            raise RuntimeError("planted")
        return whole(training, watcher)

    monkeypatch.setattr(runner.Training, "train", crash)
    with pytest.raises(runner.Crashed, match="planted"):
        train(spec)
    assert (folder / f"{checkpoint.NAME}.unusable").is_file()
    assert train(spec).environment["attempts"][-1]["from_step"] == 19


def _as_directory(path):
    path.unlink()
    (path / "below").mkdir(parents=True)


def _as_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _as_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [_as_directory, _as_link, _as_pipe])
@pytest.mark.parametrize("name", [checkpoint.NAME, checkpoint.PREVIOUS])
def test_what_is_no_file_is_set_aside_and_said(spoil, name, train, trainings, tmp_path):
    spec, folder = COMBINATIONS[0], tmp_path / "run"
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)
    spoil(folder / name)
    events = []
    result = train(spec, events.append, checkpoint_seconds=0)
    assert result.status == "done"
    expected = 19 if name == checkpoint.NAME else 20
    assert result.environment["attempts"][-1]["from_step"] == expected
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert all(f"{folder / name}: cannot be read: " in note for note in notes)
    assert len(notes) == (name == checkpoint.NAME)
    assert not list(folder.glob("checkpoint*"))


@pytest.mark.parametrize(
    "change",
    [
        {"attempts": [{}]},
        {"attempts": []},
        {"attempts": [{"started": 5, "from_step": 0}]},
        {"attempts": [{"started": "today", "from_step": "0"}]},
        {"attempts": None},
        {"threads": 0},
        {"threads": -1},
        {"threads": 10**9},
        {"threads": None},
        {"threads": True},
        {"run_id": None},
        {"training": {"step": 10**9}},
        {"training": {"step": -1}},
    ],
)
def test_a_checkpoint_that_does_not_say_how_it_was_made_is_set_aside(
    change, train, trainings, tmp_path
):
    """Not when the run has ended and its record is to be written."""
    spec, folder = COMBINATIONS[0], tmp_path / "run"
    state = killed(train, spec, folder)
    if "training" in change:
        change = {"training": {**state["training"], **change["training"]}}
    checkpoint.write(folder, {**state, **change})
    with pytest.raises(Killed):
        train(spec, killer(21))
    assert (folder / f"{checkpoint.NAME}.unusable").is_file()
    assert train(spec).status == "done"
    assert not list(folder.glob("checkpoint*"))


def test_a_checkpoint_that_ends_its_process_while_it_is_loaded_is_given_up(
    train, trainings, tmp_path, monkeypatch
):
    """A crash of a library leaves no traceback: only that the load was begun is known."""
    spec, folder = COMBINATIONS[0], tmp_path / "run"
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr(runner.Training, "load_state_dict", _killed)
        for _ in range(checkpoint.MOST_LOADS):
            with pytest.raises(Killed):
                train(spec)
    assert (folder / checkpoint.NAME).is_file(), "so many kills may be a user's"
    events = []
    result = train(spec, events.append)
    assert result.environment["attempts"][-1]["from_step"] == 19, "of the one before"
    note = next(event["text"] for event in events if event["event"] == "note")
    assert "was loaded 3 times, and no step followed" in note


def _killed(*arguments):
    raise Killed


def test_a_run_that_crashes_at_the_same_step_again_starts_anew(
    train, trainings, tmp_path, monkeypatch
):
    """Steps follow its checkpoint, and yet it is of no use: the way out is the first step."""
    spec, folder, step = COMBINATIONS[0], tmp_path / "run", runner._Run.stepped

    def crash(run, training):
        if training.step == 25 and run.loaded:
            raise RuntimeError("planted")
        step(run, training)

    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)
    monkeypatch.setattr(runner._Run, "stepped", crash)
    events = []
    for times in (1, 2):
        with pytest.raises(runner.Crashed, match="planted"):
            train(spec, events.append)  # no checkpoint until the epoch ends
        assert (folder / checkpoint.NAME).exists() == (times == 1)
    note = next(event["text"] for event in events if event["event"] == "note")
    assert note.startswith("the run crashed at step 25 again: its checkpoints are set aside")
    assert [a["from_step"] for a in train(spec).environment["attempts"]] == [0]


def test_without_a_sound_checkpoint_a_run_starts_anew(train, trainings, tmp_path):
    spec = COMBINATIONS[0]
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)
    for name in (checkpoint.NAME, checkpoint.PREVIOUS):
        (tmp_path / "run" / name).write_bytes(b"adamwprune-checkpoint 1 00 2\nhi")
    events = []
    result = train(spec, events.append)
    assert [a["from_step"] for a in result.environment["attempts"]] == [0]
    (note,) = [event["text"] for event in events if event["event"] == "note"]
    assert note.count("is truncated or corrupt") == 2
    assert note.endswith("the run starts anew")
    assert [entry["epoch"] for entry in result.history] == [1, 2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"code": "f" * 16}, "other code wrote it"),
        ({"device": "cuda"}, "was made on cuda, this is cpu"),
        ({"run_id": "lenet5-x"}, "is another run's, lenet5-x"),
    ],
)
@pytest.mark.parametrize("previous", [True, False], ids=["previous is sound", "no other"])
def test_a_checkpoint_of_something_else_is_not_used(
    change, told, previous, train, trainings, tmp_path
):
    spec = COMBINATIONS[0]
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0)
    folder = tmp_path / "run"
    state = checkpoint.read(folder / checkpoint.NAME)
    checkpoint.write(folder, {**state, **change})
    if not previous:
        checkpoint.write(folder, {**state, **change})
    events = []
    result = train(spec, events.append)
    assert result.environment["attempts"][-1]["from_step"] == (20 if previous else 0)
    note = next(event["text"] for event in events if event["event"] == "note")
    assert f"checkpoint.pt: {told}" in note
    assert ("earlier checkpoint is used" if previous else "the run starts anew") in note


def test_the_number_of_threads_is_that_of_the_first_start(train, trainings):
    spec = COMBINATIONS[-1]
    with pytest.raises(Killed):
        train(spec, killer(20), checkpoint_seconds=0, threads=1)
    result = train(spec, threads=2)
    assert result.environment["threads"] == 1
    assert result.environment["command"].endswith("--device cpu --threads 1")


def test_one_previous_checkpoint_is_kept_and_a_kill_between_leaves_it(tmp_path, monkeypatch):
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, {"step": step})
    assert [state for _, state in checkpoint.readable(tmp_path)] == [{"step": 3}, {"step": 2}]

    def killed(*arguments, **settings) -> None:
        raise Killed

    monkeypatch.setattr(checkpoint.files, "write_bytes", killed)
    with pytest.raises(Killed):
        checkpoint.write(tmp_path, {"step": 4})
    assert [state for _, state in checkpoint.readable(tmp_path)] == [{"step": 3}]


def test_a_checkpoint_of_every_step_can_be_read(train, trainings, tmp_path):
    """Also the one between the last batch of an epoch and its evaluation."""
    spec = COMBINATIONS[0]
    steps = []
    for step in (16, 17, STEPS - 1):
        with pytest.raises(Killed):
            train(spec, killer(step), name=str(step), checkpoint_seconds=0)
        steps.append(checkpoint.read(tmp_path / str(step) / checkpoint.NAME)["training"]["step"])
        assert train(spec, name=str(step)).status == "done"
    assert steps == [16, 17, STEPS - 1]


def test_there_is_no_record_before_the_weights_are_there(train, tmp_path, monkeypatch):
    """Killed while it writes them, the run is not done."""

    def killed(*arguments) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runner.weights, "write", killed)
        with pytest.raises(Killed):
            train(COMBINATIONS[0])
    assert not (tmp_path / "run" / store.RESULT).exists()
    assert train(COMBINATIONS[0]).status == "done"


def test_what_a_killed_write_left_is_gone_once_the_run_is_in_hand(train, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "run").mkdir()
    left = tmp_path / "run" / f".checkpoint.pt.{gone.pid}.tmp"
    left.write_bytes(b"half")
    (spec,) = specs(EPOCHS="1")
    train(spec)
    assert not left.exists()
