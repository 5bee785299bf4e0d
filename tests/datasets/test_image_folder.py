"""A user's own images: decoded once as torchvision would, measured, and refused in one line."""

from __future__ import annotations

import json
import multiprocessing
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from adamwprune import datasets
from adamwprune.base.errors import UserError
from adamwprune.base.kinds import Images
from adamwprune.config import strict
from adamwprune.config.tree import Tree
from adamwprune.datasets import _decoded, image_folder
from adamwprune.plan import measured
from adamwprune.plan.matrix import expand
from adamwprune.train import answering

SIZE = 8
VALUES = {"IMAGE_FOLDER": "own", "IMAGE_SIZE": SIZE}


def picture(seed: int, width: int = SIZE, height: int = SIZE, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Two classes; three images of each to train on and one to be judged by."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(("bee", "ant")):
            folder = tmp_path / "own" / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                picture(10 * label + n + count).save(folder / f"{n}.png")
    return tmp_path / "own"


def load(root: Path):
    return image_folder.load(VALUES, root.parent)


def decodings(monkeypatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen: list[Path] = []
    real = _decoded.pixels_of
    monkeypatch.setattr(_decoded, "pixels_of", lambda p, size: seen.append(p) or real(p, size))
    return seen


def test_classes_and_files_come_in_the_order_of_their_names(root):
    data = load(root)
    assert data.kind == Images(3, SIZE, 2)
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    files = [root / "train" / name / f"{n}.png" for name in ("ant", "bee") for n in range(3)]
    expected = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    assert np.array_equal(data.train_images.numpy(), expected)
    assert data.test_labels.tolist() == [0, 1]
    batch = data.batch(torch.tensor([[5, 0]]))
    assert torch.equal(batch.inputs, data.normalise(torch.from_numpy(expected[5:])))


@pytest.mark.parametrize(("width", "height"), [(16, 32), (40, 20), (8, 8), (48, 24)])
def test_larger_images_are_scaled_and_cut_as_torchvision_does(tmp_path, width, height):
    image = picture(3, width, height)
    image.save(tmp_path / "a.png")
    usual = transforms.Compose([transforms.Resize(SIZE), transforms.CenterCrop(SIZE)])
    expected = np.asarray(usual(image)).transpose(2, 0, 1).astype(int)
    found = _decoded.pixels_of(tmp_path / "a.png", SIZE).astype(int)
    assert abs(found - expected).max() <= 1, "to rounding"


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (1, 1), (3, 5)])
def test_images_of_any_size_give_the_same_shape(tmp_path, size):
    picture(0, *size).save(tmp_path / "a.png")
    assert _decoded.pixels_of(tmp_path / "a.png", SIZE).shape == (3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.png"), ("1", "a.pbm"), ("P", "a.gif"), ("RGBA", "a.webp"), ("CMYK", "a.jpg")],
)
def test_grey_palettes_and_transparency_become_colour(tmp_path, mode, name):
    picture(1, mode=mode).save(tmp_path / name)
    found = _decoded.pixels_of(tmp_path / name, SIZE)
    assert found.shape == (3, SIZE, SIZE)
    if mode == "L":
        assert np.array_equal(found, np.asarray(picture(1, mode="L"))[None].repeat(3, 0))


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path, recwarn):
    picture(1).quantize(16).save(tmp_path / "a.png", transparency=bytes(range(16)))
    assert _decoded.pixels_of(tmp_path / "a.png", SIZE).shape == (3, SIZE, SIZE)
    assert not recwarn.list


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture(2).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(np.asarray(picture(2)), -1).transpose(2, 0, 1)
    assert np.array_equal(_decoded.pixels_of(tmp_path / "a.png", SIZE), upright)


def test_images_are_decoded_once_and_again_when_a_file_changes(root, monkeypatch):
    seen = decodings(monkeypatch)
    first = load(root)
    assert len(seen) == 8
    again = load(root)
    assert len(seen) == 8
    assert again.digest == first.digest
    picture(99).save(root / "train" / "bee" / "1.png")
    os.utime(root / "train" / "bee" / "1.png", ns=(1, 1))
    changed = load(root)
    assert len(seen) == 16
    assert changed.digest != first.digest
    assert torch.equal(first.train_images, again.train_images), "an open map keeps its images"


def test_the_digest_is_of_the_pixels_and_not_of_the_files(root, tmp_path):
    first = load(root)
    for path in root.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert load(root).digest == first.digest
    (tmp_path / "moved").mkdir()
    assert load(root.rename(tmp_path / "moved" / "own")).digest == first.digest


@pytest.mark.parametrize("damage", ["pixel", "short", "header", "about", "gone"])
def test_a_damaged_cache_is_built_again(root, monkeypatch, damage):
    first = load(root)
    expected = first.train_images.clone()
    (file,) = (root.parent / "cache").rglob("train.npy")
    content = bytearray(file.read_bytes())
    if damage == "pixel":
        content[-1] ^= 1
    changes = {
        "pixel": lambda: file.write_bytes(content),
        "short": lambda: file.write_bytes(content[:-9]),
        "header": lambda: file.write_bytes(b"x" * len(content)),
        "about": lambda: file.with_name("about.json").write_text('{"made_from'),
        "gone": file.unlink,
    }
    changes[damage]()
    seen = decodings(monkeypatch)
    assert torch.equal(load(root).train_images, expected)
    assert len(seen) == 8


def _digest(root: Path) -> str:
    torch.set_num_threads(1)
    return image_folder.load(VALUES, root.parent).digest


@pytest.mark.slow  # starts interpreters that import torch
def test_workers_that_start_together_decode_once(root, capfd):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_digest, [root, root])
    assert first == second
    assert capfd.readouterr().err.count("decoding 6 images of") == 1


def planned(root: Path, monkeypatch, **settings: str):
    monkeypatch.setattr(measured._MEASURED, "_entries", [])
    tree = Tree()
    words = {"DATASET": "image-folder", "MODEL": "resnet8", "DATA_DIR": str(root.parent)}
    words |= {"IMAGE_FOLDER": "own", "IMAGE_SIZE": str(SIZE), "EPOCHS": "1", **settings}
    strict.apply(tree, strict.command_line(tree, words, "test"))
    return expand(tree).specs[0]


def test_a_run_knows_its_images_by_number_classes_and_digest(root, monkeypatch):
    def here(self, values):  # in this process: another one takes seconds to import torch
        return {"read": dict(values), **answering.measured(values)}

    monkeypatch.setattr(type(measured._MEASURED), "_asked", here)
    spec = planned(root, monkeypatch)
    assert (spec["TRAIN_EXAMPLES"], spec["IMAGE_FOLDER_CLASSES"]) == (6, 2)
    assert (spec["BATCH_SIZE"], spec["AUGMENT"], spec["IMAGE_FOLDER"]) == (64, "none", "own")
    data = datasets.load(spec.settings, root.parent)
    assert data.digest == spec["DATASET_DIGEST"]
    assert datasets.kind(spec.settings) == data.kind
    picture(50).save(root / "train" / "ant" / "new.png")
    later = planned(root, monkeypatch)
    assert later["TRAIN_EXAMPLES"] == 7
    assert later.run_id != spec.run_id
    with pytest.raises(UserError, match="has 7 training examples, declared is 6"):
        datasets.load(spec.settings, root.parent)
    (about,) = (root.parent / "cache").rglob("about.json")
    assert json.loads(about.read_text())["digest"] == later["DATASET_DIGEST"]
    assert about in image_folder.measure(VALUES, root.parent).paths


def test_without_a_folder_named_it_is_not_offered():
    tree = Tree()
    with pytest.raises(UserError, match="IMAGE_FOLDER"):
        strict.apply(tree, strict.command_line(tree, {"DATASET": "image-folder"}, "test"))


def empty(root: Path) -> None:
    for path in (root / "train" / "ant").iterdir():
        path.unlink()


def one_class(root: Path) -> None:
    for split in ("train", "test"):
        for path in (root / split / "ant").iterdir():
            path.unlink()
        (root / split / "ant").rmdir()


BAD = {
    r"own/train/ant: has no images$": empty,
    r"own/train: has images of one class only, bee$": one_class,
    r"own/test: there is no such directory; it holds a folder for each class$": lambda root: (
        root / "test"
    ).rename(root / "tests"),
    r"own/test: has no images of the class wasp, which others are of$": lambda root: (
        root / "train" / "bee"
    ).rename(root / "train" / "wasp"),
    r"own/train/bee/notes.txt: is no image; known are .jpg": lambda root: (
        root / "train" / "bee" / "notes.txt"
    ).write_text("seen in May"),
    r"own/train/bee/more.png: is no image; known are .jpg": lambda root: (
        root / "train" / "bee" / "more.png"
    ).mkdir(),
    r"own/train/labels.csv: is no folder of a class$": lambda root: (
        root / "train" / "labels.csv"
    ).write_text(""),
    r"own/train/bee/1.png: cannot be read as an image: cannot identify": lambda root: (
        root / "train" / "bee" / "1.png"
    ).write_text("not a picture"),
    r"own/train/bee/1.png: cannot be read as an image: .*truncated": lambda root: (
        root / "train" / "bee" / "1.png"
    ).write_bytes((root / "train" / "bee" / "1.png").read_bytes()[:150]),
    r"own/test/bee/0.png: has more than 8 bits a channel": lambda root: Image.fromarray(
        np.full((SIZE, SIZE), 40_000, np.uint16)
    ).save(root / "test" / "bee" / "0.png"),
    r"own/test/bee/1.png: has more than 8 bits a channel": lambda root: (
        root / "test" / "bee" / "1.png"
    ).write_bytes(png_of_16_bits()),
    r"own/test/bee/1.ppm: has more than 8 bits a channel": lambda root: (
        root / "test" / "bee" / "1.ppm"
    ).write_bytes(b"P6 2 1 65535\n" + bytes(12)),
    r"own/test/bee/2.ppm: has more than 8 bits a channel": lambda root: (
        root / "test" / "bee" / "2.ppm"
    ).write_bytes(b"P3 2 1 1023\n1 2 3 4 5 6\n"),
    r"own/test/bee/1.tif: has more than 8 bits a channel": lambda root: (
        root / "test" / "bee" / "1.tif"
    ).write_bytes(planar_tiff_of_16_bits()),
}


def planar_tiff_of_16_bits() -> bytes:
    """Two pixels in colour, each channel by itself, which Pillow opens as three times 8 bits."""
    data = 8 + 2 + 12 * 10 + 4  # behind the header and the tags
    depths, places, sizes, pixels = data, data + 6, data + 18, data + 30
    short, long = 3, 4
    tags = [
        *((256, short, 1, 2), (257, short, 1, 1), (258, short, 3, depths), (259, short, 1, 1)),
        *((262, short, 1, 2), (273, long, 3, places), (277, short, 1, 3), (278, short, 1, 1)),
        *((279, long, 3, sizes), (284, short, 1, 2)),
    ]
    found = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, kind, count, value in tags:
        packed = "<HHIHH" if kind == short and count == 1 else "<HHII"
        found += struct.pack(packed, tag, kind, count, value, *([0] if packed[-1] == "H" else []))
    found += struct.pack("<I3H", 0, 16, 16, 16)
    found += struct.pack("<6I", pixels, pixels + 4, pixels + 8, 4, 4, 4)
    return found + struct.pack("<6H", *[40_000] * 6)


def png_of_16_bits() -> bytes:
    """Two pixels in colour, which Pillow opens as RGB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)  # width, height, depth, colour
    row = b"\0" + struct.pack(">6H", *[40_000] * 6)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_bitmap_of_16_bits_a_pixel_has_few_a_channel(root):
    size, masks = (2, 1), (0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, 16, 3, 4, 0, 0, 0, 0)
    content = header + struct.pack("<3I", *masks) + struct.pack("<2H", 0xF800, 0x07E0)
    file = struct.pack("<2sIHHI", b"BM", 14 + len(content), 0, 0, 14 + 40 + 12)
    path = root / "test" / "bee" / "1.bmp"
    path.write_bytes(file + content)
    assert _decoded.pixels_of(path, 1).shape == (3, 1, 1)


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_one_line_that_names_it(root, message):
    BAD[message](root)
    with pytest.raises(UserError, match=message) as refusal:
        image_folder.measure(VALUES, root.parent)
    assert len(str(refusal.value).splitlines()) == 1
    assert not list((root.parent / "cache").rglob("about.json")), "nothing counts as decoded"


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"own: there is no such directory \(DATA_DIR/IMAGE_FOLDER"):
        image_folder.measure(VALUES, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(root):
    (root.parent / "cache").write_text("a file")
    with pytest.raises(UserError, match="images cannot be cached"):
        load(root)


def test_hidden_files_do_not_count_and_val_stands_for_test(root):
    (root / "train" / "ant" / ".DS_Store").write_text("")
    (root / "test").rename(root / "val")
    assert load(root).measured_on == 2


def test_a_file_with_another_ending_than_its_content_is_read_by_its_content(root):
    path = root / "train" / "ant" / "0.png"
    before = load(root).digest
    Image.open(path).save(path.with_suffix(".bmp"))
    path.with_suffix(".bmp").rename(path)
    assert load(root).digest == before
