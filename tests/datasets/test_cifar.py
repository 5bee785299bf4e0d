"""CIFAR: read without executing a pickle, in the order of file names, verified by its images."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from adamwprune.base.errors import UserError
from adamwprune.datasets import _pickles, cifar10, cifar100
from tests.datasets.test_datasets import PLACES, settings

ROWS = 6  # images a file
CLASSES = {cifar10: (b"labels", 10), cifar100: (b"fine_labels", 100)}


def batch(seed: int, module=cifar10) -> dict[bytes, object]:
    """What a file of CIFAR holds, in its form, with few images."""
    rng = np.random.default_rng(seed)
    key, classes = CLASSES[module]
    return {
        b"batch_label": b"a part",
        key: [int(label) for label in rng.integers(0, classes, ROWS)],
        b"data": rng.integers(0, 256, (ROWS, 3072)).astype(np.uint8),
        b"filenames": [b"image_%04d.png" % n for n in rng.permutation(1000)[:ROWS]],
    }


def write(folder: Path, module, batches: list[dict[bytes, object]]) -> None:
    (folder / module.FORM.folder).mkdir(parents=True)
    names = (*module.FORM.train, *module.FORM.test)
    for name, content in zip(names, batches, strict=True):
        (folder / module.FORM.folder / name).write_bytes(pickle.dumps(content, protocol=2))


def pythons_2_form(found: dict[bytes, object]) -> bytes:
    """The same as Python 2 and its numpy wrote it: ``str`` for bytes, modules of then."""

    def text(content: bytes) -> bytes:
        return b"T" + len(content).to_bytes(4, "little") + content

    def numbers(values) -> bytes:
        return b"(" + b"".join(b"K" + bytes([value]) for value in values)

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = (
        b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb"
    )
    data = array + b"(K\x01(M" + ROWS.to_bytes(2, "little") + b"M\x00\x0ct" + dtype + b"\x89"
    data += text(found[b"data"].tobytes()) + b"tb"
    names = b"(" + b"".join(map(text, found[b"filenames"])) + b"l"
    entries = [b"labels", numbers(found[b"labels"]) + b"l", b"data", data, b"filenames", names]
    body = b"".join(text(e) if i % 2 == 0 else e for i, e in enumerate(entries))
    return b"\x80\x02}(" + body + b"u."


def test_images_come_in_the_order_of_their_names_whatever_copy_it_is(tmp_path):
    batches = [batch(seed) for seed in range(6)]
    write(tmp_path / "one", cifar10, batches)
    write(tmp_path / "other", cifar10, [*batches[4::-1], batches[5]])
    one, other = (cifar10.load({}, tmp_path / name) for name in ("one", "other"))
    rows = sorted(
        (name, label, image.reshape(3, 32, 32))
        for each in batches[:5]
        for name, label, image in zip(
            each[b"filenames"], each[b"labels"], each[b"data"], strict=True
        )
    )
    assert one.train_labels.tolist() == [label for _, label, _ in rows]
    assert np.array_equal(one.train_images.numpy(), np.stack([image for _, _, image in rows]))
    assert torch.equal(one.train_images, other.train_images)
    assert one.digest == other.digest
    test = sorted(zip(batches[5][b"filenames"], batches[5][b"labels"], strict=True))
    assert one.test_labels.tolist() == [label for _, label in test]


def test_the_digest_is_over_pixels_and_labels(tmp_path):
    write(tmp_path, cifar10, [batch(seed) for seed in range(6)])
    data = cifar10.load({}, tmp_path)
    whole = b""
    for images, labels in (
        (data.train_images, data.train_labels),
        (data.test_images, data.test_labels),
    ):
        whole += images.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
        whole += labels.to(torch.uint8).numpy().tobytes()
    assert data.digest == hashlib.sha256(whole).hexdigest()[:16]


def test_files_of_python_2_and_of_python_3_are_the_same(tmp_path):
    found = batch(0)
    old, new = (
        _pickles.read(content, tmp_path)
        for content in (pythons_2_form(found), pickle.dumps(found, protocol=2))
    )
    for read in (old, new):
        assert np.array_equal(_pickles.array_of_bytes(read[b"data"]), found[b"data"])
        assert (read[b"labels"], read[b"filenames"]) == (found[b"labels"], found[b"filenames"])


class Wicked:
    def __reduce__(self):
        return os.mkdir, (str(Path(os.environ["WICKED"])),)


def asking(module: str, name: str) -> bytes:
    """A stream that calls this function with the text ``1``."""
    return f"c{module}\n{name}\n(S'1'\ntR.".encode()


@pytest.mark.parametrize("where", [b"data", b"labels", b"extra"])
def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch, where):
    monkeypatch.setenv("WICKED", str(tmp_path / "made"))
    batches = [batch(seed) for seed in range(6)]
    batches[2][where] = Wicked()
    write(tmp_path, cifar10, batches)
    with pytest.raises(
        UserError, match=r"data_batch_3: is not read, the pickle asks for \w+.mkdir"
    ):
        cifar10.load({}, tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "fromfile"),
        ("_codecs", "lookup"),
        ("adamwprune.datasets._pickles", "_Array"),
    ],
)
def test_no_other_name_is_looked_up(module, name):
    with pytest.raises(UserError, match="which data do not need"):
        _pickles.read(asking(module, name), Path("file"))
    words = [b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)]
    with pytest.raises(UserError, match="which data do not need"):
        _pickles.read(b"\x80\x04" + b"".join(words) + b"\x93.", Path("file"))  # protocol 4


def test_the_allowed_names_are_none_of_numpys_functions():
    for module, name in _pickles._KNOWN:
        assert _pickles._KNOWN[module, name].__module__ == _pickles.__name__
    found = _pickles.read(
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00latin1tR.", Path()
    )
    assert found == b"a"
    with pytest.raises(UserError, match="encoded as 'rot13'"):
        _pickles.read(b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", Path("p"))
    with pytest.raises(UserError, match="a damaged one"):  # to set an attribute of the class
        _pickles.read(b"cnumpy\ndtype\n(N}X\x01\x00\x00\x00aK\x01stb.", Path("p"))
    assert not hasattr(_pickles._Type, "a")


WRONG = {
    "labels that are not 0 to 9": {b"labels": [10] * ROWS},
    "images, labels and file names of different number": {b"labels": [1]},
    "no array of uint8": {b"data": np.zeros((ROWS, 3072))},
    "no array$": {b"data": b"0" * ROWS * 3072},
    "cannot reshape": {b"data": np.zeros((ROWS, 3071), np.uint8)},
    "file names that are no text": {b"filenames": [1] * ROWS},
}


@pytest.mark.parametrize("reason", WRONG)
def test_files_of_another_form_are_refused_by_name(tmp_path, reason):
    batches = [batch(seed) for seed in range(6)]
    batches[5].update(WRONG[reason])
    write(tmp_path, cifar10, batches)
    with pytest.raises(UserError, match=f"test_batch: is not in the form of CIFAR10: .*{reason}"):
        cifar10.load({}, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}", b"no pickle", b"\x80\x02K\x01."])
def test_damaged_files_are_refused_by_name(tmp_path, content):
    write(tmp_path, cifar10, [batch(seed) for seed in range(6)])
    (tmp_path / cifar10.FORM.folder / "data_batch_1").write_bytes(content)
    with pytest.raises(UserError, match="data_batch_1: is no"):
        cifar10.load({}, tmp_path)


def test_cifar100_is_the_published_files_and_no_others(tmp_path, monkeypatch):
    write(tmp_path, cifar100, [batch(seed, cifar100) for seed in range(2)])
    with pytest.raises(UserError, match="cifar-100-python/train: checksum mismatch"):
        cifar100.load({}, tmp_path)
    folder = tmp_path / cifar100.FORM.folder
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in cifar100.MD5}
    declared = hashlib.sha256("".join(cifar100.MD5.values()).encode()).hexdigest()[:16]
    assert settings("cifar100")["DATASET_DIGEST"] == declared
    monkeypatch.setattr(cifar100, "MD5", md5)
    data = cifar100.load({}, tmp_path)
    assert data.kind.classes == 100
    assert data.train_images.shape == (ROWS, 3, 32, 32)
    assert data.digest != declared


@pytest.mark.parametrize("module", CLASSES)
def test_what_is_absent_is_downloaded_without_torchvisions_reader(tmp_path, monkeypatch, module):
    import torchvision

    asked = []

    def download(url, root, filename, md5):
        asked.append((Path(url).name, md5))
        batches = [batch(s, module) for s in range(len(module.FORM.train) + 1)]
        write(Path(root), module, batches)

    monkeypatch.setattr(torchvision.datasets.utils, "download_and_extract_archive", download)
    for name in ("CIFAR10", "CIFAR100"):
        monkeypatch.setattr(
            getattr(torchvision.datasets, name), "__init__", lambda *_: pytest.fail("it unpickles")
        )
    contents = [module._cifar.files(module.FORM, tmp_path / "data") for _ in range(2)]
    known = getattr(torchvision.datasets, module.FORM.name)
    assert asked == [(known.filename, known.tgz_md5)], "once"
    assert contents[0] == contents[1]


def test_without_data_and_network_there_is_one_line_and_no_directory(tmp_path, monkeypatch):
    import torchvision

    def offline(*_args, **_named):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets.utils, "download_and_extract_archive", offline)
    with pytest.raises(UserError, match=r"CIFAR10 is not in .* holds cifar-10-batches-py/, or"):
        cifar10.load({}, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # 200 MB are read, sorted and digested
def test_the_real_images_have_the_published_mean_and_the_declared_digest():
    there = [place for place in PLACES if (place / cifar10.FORM.folder).is_dir()]
    if not there:
        pytest.skip(f"CIFAR-10 is not in {PLACES[0]}; DATA_DIR names another directory")
    data = cifar10.load({}, there[0])
    assert data.digest == settings("cifar10")["DATASET_DIGEST"]
    assert data.train_images.shape == (50_000, 3, 32, 32)
    assert data.mean == pytest.approx((0.49140, 0.48216, 0.44653), abs=1e-5)
    assert data.std == pytest.approx((0.24703, 0.24349, 0.26159), abs=1e-5)
    assert torch.bincount(data.train_labels).tolist() == [5_000] * 10
