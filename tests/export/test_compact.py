"""A pruned network in a file without its zeros, and back to the same bits."""

import itertools
import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from adamwprune.base.errors import UserError
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.datasets._idx import FILES
from adamwprune.experiment.experiment import Experiment
from adamwprune.export import compact, model_file
from adamwprune.export.compact import FORMAT, Damaged, decode, encode
from adamwprune.export.model_file import export, interleaved
from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.plan.matrix import expand
from adamwprune.pruning.storage import pack, unpack
from adamwprune.records.record import RunResult
from adamwprune.run import runner
from adamwprune.run.weights import digest
from tests.support.commands import make_here
from tests.support.runs import SOURCES, job_of, specs

# -- the file ----------------------------------------------------------------------------


def same_bits(one: Tensor, other: Tensor) -> bool:
    same = one.dtype == other.dtype and one.shape == other.shape
    return same and one.flatten().view(torch.uint8).equal(other.flatten().view(torch.uint8))


@given(st.lists(st.booleans(), max_size=70))
def test_masks_are_packed_the_first_element_lowest(bits):
    mask = torch.tensor(bits, dtype=torch.bool)
    packed = pack(mask)
    assert packed.dtype == torch.uint8
    whole = sum(bit << place for place, bit in enumerate(bits))
    assert bytes(packed.tolist()) == whole.to_bytes(-(-len(bits) // 8), "little")
    assert unpack(packed, mask.shape).equal(mask)


FLOATS = st.sampled_from([0.0, -0.0, 1.5, -2e-45, float("inf"), float("nan")])


@given(
    st.lists(FLOATS, max_size=40),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_the_same_bits_come_back(numbers, dtype):
    weights = {
        "layer.weight": torch.tensor(numbers, dtype=dtype).view(-1, 1),
        "layer.bias": torch.tensor(numbers, dtype=dtype),
        "steps": torch.tensor(7),
        "flags": torch.tensor([True, False]),
    }
    content = encode(weights, ["layer.weight"], {"run_id": "a-run"})
    found = decode(content)
    assert list(found.weights) == list(weights)
    assert all(same_bits(found.weights[name], weights[name]) for name in weights)
    assert found.metadata["run_id"] == "a-run"
    assert found.metadata["sha256"] == digest(weights)


def test_what_is_stored_are_the_kept_values_and_a_bit_for_each_weight():
    weight = torch.zeros(3, 5)
    weight[0, 1], weight[2, 4], weight[1, 0] = 2.0, 3.0, -0.0
    stored = load(encode({"w": weight, "b": torch.zeros(2)}, ["w"], {}))
    assert set(stored) == {"w.mask", "w.values", "b"}
    assert stored["w.values"].tolist() == [2.0, -0.0, 3.0]
    assert stored["w.values"].signbit().tolist() == [False, True, False]
    # Elements 1, 5 and 14 of 15.
    assert stored["w.mask"].tolist() == [0b00100010, 0b01000000]
    assert stored["b"].tolist() == [0.0, 0.0]


def test_a_transposed_weight_comes_back_as_it_is_read():
    weight = torch.arange(6.0).view(2, 3).t()
    assert decode(encode({"w": weight}, ["w"], {})).weights["w"].equal(weight)


def test_lenet5_at_90_percent_takes_what_it_should():
    weights = FusedLeNet5().state_dict()
    names = [name for name in weights if weights[name].dim() > 1]
    numel = sum(weights[name].numel() for name in names)
    for name in names:
        tensor = weights[name].view(-1)
        tensor[: round(0.9 * len(tensor))] = 0
    kept = sum(int((weights[name] != 0).sum()) for name in names)
    content = encode(weights, names, {})
    numbers = 4 * kept + 7_684 + 4 * (61_750 - numel) + 192
    header = struct.unpack("<Q", content[:8])[0]
    assert len(content) == 8 + header + numbers
    assert header < 4_096
    assert len(content) < 0.16 * len(save(weights))


WEIGHTS = {"w": torch.tensor([0.0, 1.0, 0.0, 2.0, 3.0]), "b": torch.ones(2)}


def rewritten(**changes):
    """A file with other tensors or metadata under a sound header."""
    content = encode(WEIGHTS, ["w"], {})
    metadata = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    tensors = load(content)
    for name, value in changes.items():
        place = metadata if isinstance(value, str) else tensors
        place[name.replace("_", ".")] = value
    return save({n: t for n, t in tensors.items() if t is not None}, metadata)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no safetensors file"),
        (b"PK\x03\x04 a pickle in a zip" * 9, "is no safetensors file"),
        (encode(WEIGHTS, ["w"], {})[:-1], "is no safetensors file"),
        (save(WEIGHTS), f"is no {FORMAT}, but 'something else'"),
        (save(WEIGHTS, {"format": "pt"}), "but 'pt'"),
        (rewritten(tensors="[["), "is damaged"),
        (rewritten(tensors='[["w", "float32", [5]]]'), "what no model has: b"),
        (rewritten(tensors='[["w", "float32", [-5]], ["b", "float32", [2]]]'), "is damaged"),
        (rewritten(tensors='[["w", "float32", [9e99]], ["b", "float32", [2]]]'), "is damaged"),
        (
            rewritten(tensors='[["w", "float32", [99999999999999]], ["b", "float32", [2]]]'),
            "the mask of w is not one of 99999999999999 elements",
        ),
        (rewritten(tensors='[["w", "float64", [5]], ["b", "float32", [2]]]'), "w is not float64"),
        (rewritten(tensors='[["w", "code", [5]], ["b", "float32", [2]]]'), "is damaged"),
        (rewritten(tensors='[["w", "float32", [5]], ["b", "float32", [1, 2]]]'), "b is not"),
        (rewritten(w_mask=torch.tensor([1], dtype=torch.uint8)), "does not fit its values"),
        (rewritten(w_mask=torch.tensor([0b10011010], dtype=torch.uint8)), "does not fit"),
        (rewritten(w_mask=torch.ones(1)), "the mask of w is not one"),
        (rewritten(w_values=None), "is damaged"),
        (rewritten(w_values=torch.tensor([1.0, 2.0, 4.0])), "not the ones that were written"),
        (rewritten(extra=torch.ones(1)), "what no model has: extra"),
    ],
    ids=itertools.count(),  # the bytes differ from process to process: a map without an order
)
def test_a_file_that_is_something_else_is_refused(content, message):
    with pytest.raises(Damaged, match=message.replace("[", r"\[")):
        decode(content)


def test_any_flipped_byte_of_the_numbers_is_noticed():
    content = bytearray(encode(WEIGHTS, ["w"], {}))
    start = 8 + struct.unpack("<Q", content[:8])[0]
    for place in range(start, len(content)):
        content[place] ^= 0x10
        with pytest.raises(Damaged):
            decode(bytes(content))
        content[place] ^= 0x10
    assert decode(bytes(content)).weights.keys() == WEIGHTS.keys()


def test_names_and_types_that_cannot_be_stored():
    with pytest.raises(ValueError, match="complex64 cannot be stored"):
        encode({"z": torch.zeros(2, dtype=torch.complex64)}, [], {})
    with pytest.raises(ValueError, match="is not in the model"):
        encode(WEIGHTS, ["v"], {})
    with pytest.raises(ValueError, match="ends in"):
        encode({"w": torch.zeros(2), "w.mask": torch.zeros(2)}, ["w"], {})


# -- sparse layers -----------------------------------------------------------------------


def test_a_sparse_layer_computes_what_the_dense_one_does():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 7, bias=False), nn.Linear(7, 3)
    )
    with torch.no_grad():
        model[0].weight.masked_fill_(torch.rand(30, 40) < 0.9, 0)
        model[2].weight.masked_fill_(torch.rand(7, 30) < 0.5, 0)
    x = torch.randn(5, 40)
    expected = model(x)
    kept = int((model[0].weight != 0).sum())
    assert compact.make_sparse(model) == ["0", "2"]
    assert model[0].weight._nnz() == kept
    assert isinstance(model[3], nn.Linear), "has no zeros"
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)


# -- times -------------------------------------------------------------------------------


def test_calls_are_timed_in_turn():
    now, order = [0.0], []

    def call(name, seconds):
        def run():
            order.append(name)
            now[0] += seconds

        return run

    calls = {"a": call("a", 1.0), "b": call("b", 3.0), "c": call("c", 5.0)}
    times = interleaved(calls, rounds=3, each=2, clock=lambda: now[0])
    assert times == {"a": [1.0] * 3, "b": [3.0] * 3, "c": [5.0] * 3}
    assert "".join(order) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"


# -- a run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run of AdamWPrune, at 90%, in a directory of results."""
    root = tmp_path_factory.mktemp("export")
    (spec,) = specs(OPTIMIZER="adamwprune", PRUNING_METHOD="state")
    folder = root / "results" / spec.run_id
    folder.parent.mkdir()
    threads = torch.get_num_threads()
    job = job_of(spec, folder, source={"commit": "c0ffee" + 34 * "0", "dirty": False})
    result = runner.run(job, SOURCES.of(spec))
    torch.set_num_threads(threads)
    (folder / "spec.yaml").write_text("")  # as the store leaves it
    return root, result


@pytest.fixture
def here(trained, tmp_path) -> tuple[Experiment, Path, RunResult]:
    """The run in a directory of the test's own: the experiment, the run's folder, the record."""
    root, result = trained
    shutil.copytree(root / "results", tmp_path / "results")
    tree = Tree()
    experiment = Experiment(tree, Workspace({"O": str(tmp_path)}), "test", expand(tree))
    return experiment, tmp_path / "results" / result.run_id, result


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    monkeypatch.setattr(model_file, "ROUNDS", 3)
    monkeypatch.setattr(interleaved, "__defaults__", (3, 1, *interleaved.__defaults__[2:]))


def test_a_run_is_exported_and_comes_back(here):
    experiment, folder, result = here
    found = export(experiment, result.run_id[:40])
    assert found.path == folder / "model.safetensors"
    back = model_file.read(found.path)
    original = torch.load(folder / "weights.pt", weights_only=True)
    assert list(back.weights) == list(original)
    assert all(same_bits(back.weights[name], original[name]) for name in original)
    assert digest(back.weights) == result.weights, "the record's own digest"
    stored = load(found.path.read_bytes())
    values = sum(len(t) for name, t in stored.items() if name.endswith(".values"))
    masks = sum(len(t) for name, t in stored.items() if name.endswith(".mask"))
    assert (values, masks) == (61_470 - 55_323, 7_684)
    assert back.metadata["run_id"] == result.run_id
    assert back.metadata["commit"] == "c0ffee" + 34 * "0"
    assert float(back.metadata["test_accuracy"]) == result.final["test_accuracy"]
    shapes = {name: shape for name, _, shape in json.loads(back.metadata["tensors"])}
    assert shapes["conv2.weight"] == [16, 6, 5, 5]


def test_what_is_measured_of_an_export(here):
    experiment, folder, result = here
    found = export(experiment, result.run_id)
    assert found.measured == result.final["test_accuracy"], "equal, not about equal"
    assert found.agrees
    assert found.sizes["weights.pt, dense"] == (folder / "weights.pt").stat().st_size
    assert found.sizes["model.safetensors"] == found.path.stat().st_size
    assert 30_000 < found.sizes["model.safetensors"] < 40_000
    assert found.sizes["safetensors, dense"] > 247_000
    assert 20_000 < found.sizes["safetensors, dense, gzip"] < 100_000
    assert found.sparse_layers == ["fc1", "fc2", "fc3"]
    assert 0 <= found.difference < 1e-4
    assert set(found.ratios) == {"exported and reloaded", "with sparse linear layers"}
    assert all(ratio > 0 for ratio in found.ratios.values())
    text = found.text()
    assert "55,323 of 61,470 weights (90.00%)" in text
    assert "bit-identical to weights.pt, which is the record's" in text
    percent = f"{100 * result.final['test_accuracy']:.2f}%"
    assert f"{percent} after reload, {percent} in the record: equal" in text
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines()[1:])) <= 100


def test_an_accuracy_that_is_another_one_is_said_so(here, monkeypatch):
    experiment, _, result = here
    monkeypatch.setattr(model_file, "evaluate", lambda *_: {"accuracy": 0.1})
    found = export(experiment, result.run_id)
    assert not found.agrees
    assert "10.00% after reload" in found.text()
    assert "DIFFERENT (trained on cpu)" in found.text()


def test_data_that_are_not_here_are_not_downloaded(here, monkeypatch):
    experiment, _, result = here
    monkeypatch.setattr(model_file, "is_here", lambda *_: False)
    found = export(experiment, result.run_id)
    assert found.measured is None
    assert found.agrees
    assert "not measured: mnist5k is not here" in found.text()


def test_which_data_are_here(tmp_path):
    assert model_file.is_here("mnist5k", tmp_path)
    assert not model_file.is_here("mnist", tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in FILES:
        assert not model_file.is_here("fashion-mnist", tmp_path), "not all of them are"
        (raw / f"{file}.gz").touch()
    assert model_file.is_here("fashion-mnist", tmp_path)
    assert not model_file.is_here("mnist", tmp_path)


def test_a_dense_run_has_nothing_to_leave_out(tmp_path):
    (spec,) = specs(EPOCHS="1")
    folder = tmp_path / "results" / spec.run_id
    folder.parent.mkdir()
    runner.run(job_of(spec, folder), SOURCES.of(spec))
    tree = Tree()
    experiment = Experiment(tree, Workspace({"O": str(tmp_path)}), "test", expand(tree))
    found = export(experiment, spec.run_id)
    assert not any(name.endswith(".mask") for name in load(found.path.read_bytes()))
    assert "no linear layer has zeros" in found.text()
    assert found.agrees


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "weights.pt").unlink(), "weights.pt: is not there"),
        (lambda f: (f / "weights.pt").write_bytes(b"no"), "cannot be read: is no file of weights$"),
        (
            lambda f: (f / "weights.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1"),
            "weights.pt: cannot be read: is a Git LFS pointer, not the file itself; git lfs pull",
        ),
        (lambda f: torch.save([1], f / "weights.pt"), "holds no model's weights"),
        (lambda f: torch.save({"w": torch.ones(1)}, f / "weights.pt"), "not the weights of its"),
        (lambda f: (f / "result.json").unlink(), "has not finished; make trains it on"),
    ],
)
def test_what_cannot_be_exported(here, spoil, message):
    experiment, folder, result = here
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        export(experiment, result.run_id)
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder / "model.safetensors").exists()


def test_a_weights_file_with_code_in_it_is_not_run(here, tmp_path):
    experiment, folder, result = here

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"w": Evil()}, folder / "weights.pt")
    with pytest.raises(UserError, match="cannot be read"):
        export(experiment, result.run_id)
    assert not (tmp_path / "executed").exists()


def test_a_failed_run_and_a_wrong_one(here):
    experiment, folder, result = here
    with pytest.raises(UserError, match="no run starts with 'nonsense'"):
        export(experiment, "nonsense")
    with pytest.raises(UserError, match="needs RUN="):
        export(experiment, "")
    plain = {**json.loads((folder / "result.json").read_text()), "status": "failed"}
    (folder / "result.json").write_text(json.dumps(plain))
    with pytest.raises(UserError, match="failed, and has no final weights"):
        export(experiment, result.run_id)


@pytest.mark.slow
def test_the_command(here, tmp_path):
    _, folder, result = here
    done = make_here(tmp_path, "export-model", f"RUN={result.run_id}")
    assert done.returncode == 0, done.stderr
    assert f"{folder}/model.safetensors" in done.stdout
    assert "equal" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    done = make_here(tmp_path, "export-model", "RUN=nonsense")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("no run starts with 'nonsense'")
