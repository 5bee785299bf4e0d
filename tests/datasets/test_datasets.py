"""Data: real digits, verified by checksum, refused with one clear message when damaged."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest
import torch

from adamwprune import datasets
from adamwprune.base import registry
from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Images, Tokens
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.datasets import _idx, fashion_mnist, mnist
from adamwprune.datasets._images import SPLIT_SEED
from adamwprune.plan.matrix import expand

ROOT = Path(__file__).resolve().parents[2]
PLACES = [Path(os.environ.get("DATA_DIR", "data")), ROOT / "data", ROOT.parent / "shared" / "data"]
HERE = [place for place in PLACES if list(place.glob("MNIST/raw/train-images-idx3-ubyte*"))]
DATA = (HERE or PLACES)[0].absolute()
MODULES = {"mnist": (mnist, "MNIST"), "fashion-mnist": (fashion_mnist, "FashionMNIST")}


NOWHERE = Path("/nowhere")


def settings(name: str, **words: str) -> dict[str, object]:
    """The values of a run on this dataset."""
    tree = Tree()
    strict.apply(tree, strict.command_line(tree, {"DATASET": name, **words}, "test"))
    return dict(expand(tree).cells[0].spec.settings)


def test_mnist5k_is_real_digits_in_a_stratified_split():
    data = datasets.load(settings("mnist5k"), NOWHERE)
    assert data.train_images.shape == (4000, 1, 28, 28)
    assert data.test_images.shape == (1000, 1, 28, 28)
    assert (data.examples, data.measured_on) == (4000, 1000)
    assert torch.bincount(data.train_labels).tolist() == [400] * 10
    assert torch.bincount(data.test_labels).tolist() == [100] * 10
    train = {bytes(image) for image in data.train_images.flatten(1).numpy()}
    test = {bytes(image) for image in data.test_images.flatten(1).numpy()}
    assert not train & test, "no test image among the training images"
    assert data.mean == pytest.approx((0.1307,), abs=0.001), "MNIST's mean grey level"
    assert data.std == pytest.approx((0.3081,), abs=0.001)


def test_normalised_by_the_training_set_and_centred_in_the_field():
    data = datasets.load(settings("mnist5k"), NOWHERE)
    normal = data.normalise(data.train_images)
    assert normal.mean().item() == pytest.approx(0, abs=1e-4)
    assert normal.std().item() == pytest.approx(1, abs=1e-4)
    padded = data.fitted(Images(1, 32, 10))
    assert padded.test_images.shape == (1000, 1, 32, 32)
    assert torch.equal(padded.test_images[..., 2:30, 2:30], data.test_images)
    assert padded.test_images.sum() == data.test_images.sum(), "only background is added"
    assert (padded.mean, padded.std) == (data.mean, data.std)


def test_a_digest_that_is_not_the_declared_one_is_refused():
    with pytest.raises(UserError, match="declared is 0123456789abcdef"):
        datasets.load({**settings("mnist5k"), "DATASET_DIGEST": "0123456789abcdef"}, NOWHERE)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(KeyError, match="cifar10, cifar100, fashion_mnist"):
        datasets.load({"DATASET": "imagenet"}, NOWHERE)


def fake(folder: Path, monkeypatch, examples: int = 30) -> dict[str, str]:
    """A small data set in the layout of MNIST; its checksums."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    sha256 = {}
    for name in _idx.FILES:
        images = "images" in name
        sizes = (examples, 4, 4) if images else (examples,)
        header = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes)
        body = os.urandom(examples * 16) if images else bytes(i % 10 for i in range(examples))
        (raw / name).write_bytes(header + body)
        sha256[name] = hashlib.sha256(header + body).hexdigest()
    monkeypatch.setattr(mnist, "SHA256", sha256)
    return sha256


def test_plain_and_gzipped_files_are_the_same(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch)
    plain = mnist.load({}, tmp_path)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = mnist.load({}, tmp_path)
    assert plain.digest == packed.digest
    assert torch.equal(plain.train_images, packed.train_images)
    assert plain.train_images.shape == (30, 1, 4, 4)
    assert plain.test_labels.tolist() == [i % 10 for i in range(30)]


def test_a_truncated_file_is_refused(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch)
    path = tmp_path / "MNIST" / "raw" / _idx.FILES[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{_idx.FILES[0]}: checksum mismatch"):
        mnist.load({}, tmp_path)


def test_a_truncated_gzip_file_is_refused(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch)
    path = tmp_path / "MNIST" / "raw" / _idx.FILES[2]
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(path.name + ".gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz: cannot be read"):
        mnist.load({}, tmp_path)


def test_without_data_and_network_the_offline_choice_is_named(tmp_path, monkeypatch):
    import torchvision

    def offline(root, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\n...")

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    with pytest.raises(UserError, match="DATASET=mnist5k") as refusal:
        mnist.load({}, tmp_path / "data")
    assert len(str(refusal.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["", "a", "a/b", "a/b/MNIST"])
def test_a_download_that_fails_leaves_no_directory_behind(tmp_path, monkeypatch, there):
    import torchvision

    def offline(root, download):
        (Path(root) / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
        raise RuntimeError("no network")

    def found() -> list[Path]:
        return sorted(path for path in tmp_path.rglob("*") if path.name != ".lock")

    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    before = found()
    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    with pytest.raises(UserError, match="cannot be downloaded"):
        mnist.load({}, tmp_path / "a" / "b")
    assert found() == before
    assert there.startswith("a/b") or not list(tmp_path.rglob(".lock"))


def test_what_was_downloaded_stays_where_the_rest_failed(tmp_path, monkeypatch):
    import torchvision

    def partly(root, download):
        raw = Path(root) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / _idx.FILES[0]).write_text("")
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", partly)
    with pytest.raises(UserError, match="cannot be downloaded"):
        mnist.load({}, tmp_path / "data")
    assert (tmp_path / "data" / "MNIST" / "raw" / _idx.FILES[0]).is_file()


def test_what_is_absent_is_downloaded_once(tmp_path, monkeypatch):
    import torchvision

    downloads = []

    def download(root, download):
        downloads.append((root, download))
        (tmp_path / "stock" / "MNIST").rename(Path(root) / "MNIST")

    fake(tmp_path / "stock", monkeypatch)
    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    for _ in range(2):
        assert mnist.load({}, tmp_path / "data").train_images.shape == (30, 1, 4, 4)
    assert downloads == [(str(tmp_path / "data"), True)]


@pytest.mark.parametrize("name", MODULES)
def test_the_real_files_have_the_declared_digest(name):
    module, folder = MODULES[name]
    if not list((DATA / folder / "raw").glob("train-images*")):
        pytest.skip(f"{folder} is not in {DATA}; DATA_DIR names another directory")
    data = datasets.load(settings(name), DATA)
    assert data.train_images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    assert module.SHA256.keys() == set(_idx.FILES)


def test_the_validation_split_is_held_out_of_the_training_set():
    whole = datasets.load(settings("mnist5k"), NOWHERE)
    split = datasets.load(settings("mnist5k", VALIDATION_EXAMPLES="500"), NOWHERE)
    assert (split.examples, split.measured_on) == (3_500, 500)
    assert (len(split.train_labels), len(split.test_labels)) == (3_500, 500)
    images = torch.cat([split.train_images, split.test_images]).flatten(1)
    labels = torch.cat([split.train_labels, split.test_labels])
    order = torch.randperm(4_000, generator=torch.Generator().manual_seed(SPLIT_SEED))
    places = torch.cat([order[500:].sort().values, order[:500].sort().values])
    assert torch.equal(images, whole.train_images.flatten(1)[places])
    assert torch.equal(labels, whole.train_labels[places])
    assert torch.bincount(split.test_labels, minlength=10).min() > 25, "every class is there"
    pixels = split.train_images.double() / 255
    assert split.mean == pytest.approx((float(pixels.mean()),))
    assert split.std == pytest.approx((float(pixels.std(correction=0)),))
    again = whole.validating(500)
    assert torch.equal(again.test_images, split.test_images), "the same for every run"


def test_a_batch_is_gathered_and_normalised_and_an_evaluation_is_all_of_the_test_set():
    data = datasets.load(settings("mnist5k"), NOWHERE)
    batch = data.batch(torch.tensor([[7, 0], [3, 0]]))
    assert len(batch) == 2
    assert torch.equal(batch.inputs, data.normalise(data.train_images[[7, 3]]))
    assert torch.equal(batch.targets, data.train_labels[[7, 3]])
    padded = data.fitted(Images(1, 32, 10))
    found = list(padded.evaluation())
    assert sum(map(len, found)) == data.measured_on
    inputs = torch.cat([each.inputs for each in found])
    assert torch.equal(inputs, padded.normalise(padded.test_images)), "by the training set's mean"
    assert torch.equal(torch.cat([each.targets for each in found]), data.test_labels)


@pytest.mark.parametrize(
    "takes", [Images(3, 32, 10), Images(1, 32, 5), Images(1, 20, 10), Tokens(9, 4)]
)
def test_images_are_not_fitted_to_a_model_for_other_data(takes):
    with pytest.raises(UserError, match="the data are Images"):
        datasets.load(settings("mnist5k"), NOWHERE).fitted(takes)


def measured_of(name: str) -> dict[str, object]:
    """What the files of a dataset of the user's own would decide of its kind."""
    known = {"text_file": {"VOCABULARY": 256}, "image_folder": {"IMAGE_FOLDER_CLASSES": 2}}
    return known.get(name, {})


NEEDED = {  # to be offered
    "image_folder": {"IMAGE_FOLDER": "flowers"},
    "text_file": {"TEXT_FILE": "novel.txt"},
}


@pytest.mark.parametrize("name", registry.members("adamwprune.datasets"))
def test_kconfig_knows_the_kind_by_its_word(name):
    tree = Tree()
    words = {"DATASET": name.replace("_", "-"), **NEEDED.get(name, {})}
    strict.apply(tree, strict.command_line(tree, words, "test"))
    kind = datasets.kind({**tree.cell_values(), **measured_of(name)})
    assert tree.text("DATASET_GIVES") == type(kind).__name__.lower()
