"""A network as ONNX: onnxruntime makes of the file what torch makes of the run's weights."""

import gzip
import importlib.util
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Images
from adamwprune.config.sources import Workspace
from adamwprune.config.tree import Tree
from adamwprune.experiment.experiment import Experiment
from adamwprune.export import model_file, onnx_file
from adamwprune.export.onnx_file import export
from adamwprune.models.lenet5 import FusedLeNet5
from adamwprune.plan.matrix import expand
from adamwprune.run import runner
from adamwprune.train.data import loaded
from tests.support.commands import make_here
from tests.support.runs import SOURCES, job_of, specs

missing = [name for name in onnx_file.PACKAGES if not importlib.util.find_spec(name)]
needs_onnx = pytest.mark.skipif(
    bool(missing), reason=f"without {', '.join(missing)} (the extra onnx) nothing is exported"
)


def test_what_is_checked_has_the_packages(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras["onnx"]) <= set(extras["check"])
    names = [re.split(r"[^\w]", each)[0] for each in extras["onnx"]]
    assert names == list(onnx_file.PACKAGES)
    assert not set(names) & {re.split(r"[^\w]", each)[0] for each in project["dependencies"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A short run at 90% in a directory of results: experiment, folder and record."""
    root = tmp_path_factory.mktemp("onnx")
    (spec,) = specs(OPTIMIZER="adamw", PRUNING_METHOD="magnitude", EPOCHS="1")
    folder = root / "results" / spec.run_id
    folder.parent.mkdir()
    threads = torch.get_num_threads()
    result = runner.run(job_of(spec, folder), SOURCES.of(spec))
    torch.set_num_threads(threads)
    (folder / "spec.yaml").write_text("")  # as the store leaves it
    tree = Tree()
    experiment = Experiment(tree, Workspace({"O": str(root)}), "test", expand(tree))
    return SimpleNamespace(experiment=experiment, folder=folder, result=result, root=root)


@pytest.fixture(scope="module")
def found(place):
    """The run's network, exported once: the exporter takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_file, "ROUNDS", 3)
        patch.setattr(model_file.interleaved, "__defaults__", (3, 1, model_file.time.perf_counter))
        return export(place.experiment, place.result.run_id)


@needs_onnx
def test_the_file_is_sound_and_says_which_run_it_is(place, found):
    import onnx

    model = onnx.load(found.path)
    onnx.checker.check_model(model, full_check=True)
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata["run_id"] == place.result.run_id
    assert float(metadata["test_accuracy"]) == place.result.final["test_accuracy"]
    assert metadata["zeros"] == "55323 of 61470"
    data = loaded(place.result.spec.settings, place.root, Images(1, 32, 10), "cpu")
    assert tuple(map(float, metadata["pixel_mean"].split())) == data.mean
    (images,), (logits,) = model.graph.input, model.graph.output
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == [
        *("batch", 1, 32, 32)
    ]
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", 10]
    content = found.path.read_bytes()
    for word in (str(place.root), f"{Path.home()}/", "site-packages", ".py"):
        assert word.encode() not in content, "nothing of the machine it was exported on"


@needs_onnx
def test_onnxruntime_computes_what_torch_does_from_the_runs_weights(place, found):
    """By the file alone, on the digits of the test set, in batches of any size."""
    import onnxruntime

    module = FusedLeNet5()
    module.load_state_dict(torch.load(place.folder / "weights.pt", weights_only=True))
    module.eval()
    data = loaded(place.result.spec.settings, place.root, Images(1, 32, 10), "cpu")
    images = data.normalise(data.test_images)
    session = onnxruntime.InferenceSession(str(found.path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module(images)
    outputs = [
        torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])
        for batch in images.split([1, 3, 996])
    ]
    torch.testing.assert_close(torch.cat(outputs), expected, rtol=1e-4, atol=1e-4)
    correct = (torch.cat(outputs).argmax(1) == data.test_labels).double().mean().item()
    assert correct == place.result.final["test_accuracy"], "equal, not about equal"


@needs_onnx
def test_what_is_measured_of_an_export(place, found):
    assert found.agrees
    assert found.measured == place.result.final["test_accuracy"]
    assert (found.zeros, found.examples) == (55_323, 1000)
    assert found.difference < 1e-4 < found.largest
    content = found.path.read_bytes()
    assert found.sizes["model.onnx"] == len(content)
    assert 247_000 < len(content) < 256_000, "dense"
    assert found.sizes["model.onnx, gzip"] == len(gzip.compress(content, 9)) < 45_000
    percent = f"{100 * found.measured:.2f}%"
    assert f"{percent} by onnxruntime, {percent} in the record: equal" in found.text()
    assert max(map(len, found.text().splitlines()[1:])) <= 100


@needs_onnx
@pytest.mark.parametrize(
    "change", [{"measured": 0.1}, {"zeros": 55_322}, {"difference": 0.01}], ids=str
)
def test_what_is_not_as_the_record_says_is_said_so(found, change):
    other = replace(found, **change)
    assert not other.agrees
    assert ("DIFFERENT" in other.text()) == ("measured" in change)


@needs_onnx
def test_data_that_are_not_here_are_not_downloaded(place, monkeypatch):
    monkeypatch.setattr(model_file, "is_here", lambda *_: False)
    monkeypatch.setattr(onnx_file, "_latency", lambda *_: {"torch": [1.0]})
    other = export(place.experiment, place.result.run_id)
    assert (other.measured, other.examples) == (None, 1)
    assert other.agrees
    assert "not measured: mnist5k is not here" in other.text()


def test_a_missing_package_is_named_with_the_remedy(place, monkeypatch):
    there = importlib.util.find_spec("json")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else there
    )
    with pytest.raises(UserError, match=r"^FORMAT=onnx needs onnxscript: .* -m pip install onnx"):
        export(place.experiment, place.result.run_id)


@needs_onnx
def test_what_cannot_be_exported(place):
    with pytest.raises(UserError, match="no run starts with 'nonsense'"):
        export(place.experiment, "nonsense")


def test_an_unknown_format_is_refused(tmp_path):
    done = make_here(tmp_path, "export-model", "RUN=x", "FORMAT=tflite")
    assert done.returncode == 2
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("error")]
    assert line == "error: no format of a model 'tflite'; there are safetensors, onnx"
