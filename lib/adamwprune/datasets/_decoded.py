"""Image files decoded once to arrays in the user's cache, which are mapped into memory.

A cache entry is ``train.npy`` and ``test.npy``, uint8 ``[n, 3, size, size]``, and ``about.json``:
what they were decoded from, and their digest. It is used only if both still hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from adamwprune.base.errors import UserError
from adamwprune.base.files import refusing, replacing, user_cache, write_text
from adamwprune.datasets._listing import Listing, Split

FORM = 2  # of a cache entry, of which images are taken and how they are scaled
BITS_PER_SAMPLE = 258  # a tag of TIFF
# Pillow's names of pixels with 16 bits a channel, of which it keeps 8; BGR;16 has 16 in all.
SIXTEEN_BITS = re.compile(r"\b(RGBX?|RGBA|LA|CMYK);16")
AT_ONCE = 256  # images that are decoded side by side before they are written

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """Images uint8 ``[n, 3, size, size]`` in memory maps, their digest, and the file that has it.

    The digest is over training images, training labels, test images and test labels; labels count
    as little-endian uint32.
    """

    train: Pixels
    test: Pixels
    digest: str
    about: Path


def decoded(listing: Listing, size: int) -> Decoded:
    """The images of a directory, from the cache or decoded to it.

    Raises :class:`UserError` for a file that is no image, and where the cache cannot be written.
    Of several processes one decodes, and the others wait.
    """
    key = hashlib.sha256(f"{listing.root.resolve()} {size}".encode()).hexdigest()[:16]
    cache = user_cache() / "images" / key
    made_from = _fingerprint(listing, size)
    with refusing(f"{cache}: images cannot be cached"):
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock"):
            found = _cached(cache, listing, made_from)
            return found or _built(cache, listing, size, made_from)


def _cached(cache: Path, listing: Listing, made_from: str) -> Decoded | None:
    """The entry, if it was made from these files and is undamaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        about = json.loads((cache / "about.json").read_bytes())
        if about["made_from"] == made_from:
            found = _mapped(cache, listing)
            return found if found.digest == about["digest"] else None
    return None


def _built(cache: Path, listing: Listing, size: int, made_from: str) -> Decoded:
    (cache / "about.json").unlink(missing_ok=True)
    for name, split in (("train", listing.train), ("test", listing.test)):
        print(f"decoding {len(split.files)} images of {split.folder}", file=sys.stderr, flush=True)
        _write(cache / f"{name}.npy", split.files, size)
    found = _mapped(cache, listing)
    about = {"made_from": made_from, "digest": found.digest, "root": str(listing.root)}
    write_text(found.about, json.dumps(about))
    return found


def _mapped(cache: Path, listing: Listing) -> Decoded:
    # Copy on write: the file is never changed, and torch takes arrays that could be written to.
    train, test = (np.load(cache / f"{name}.npy", mmap_mode="c") for name in ("train", "test"))
    whole = hashlib.sha256()
    for images, split in ((train, listing.train), (test, listing.test)):
        whole.update(images)
        whole.update(np.array(split.labels, "<u4").tobytes())
    return Decoded(train, test, whole.hexdigest()[:16], cache / "about.json")


def _write(path: Path, files: Sequence[Path], size: int) -> None:
    """Decode all files to one array on disk, with a few of them in memory at a time."""
    shape: Any = (len(files), 3, size, size)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with replacing(path) as stream, ThreadPoolExecutor(os.cpu_count()) as pool:
        np.lib.format.write_array_header_1_0(stream, header)
        left = iter(files)
        while some := list(itertools.islice(left, AT_ONCE)):
            for pixels in pool.map(pixels_of, some, itertools.repeat(size)):
                stream.write(pixels.tobytes())


def pixels_of(path: Path, size: int) -> Pixels:
    """An image file as ``[3, size, size]``: turned as its camera says, its shorter side scaled to
    ``size`` with antialiasing, the square in its middle, in colour without transparency.
    """
    try:
        with Image.open(path) as image:
            if _has_more_than_8_bits(image):
                raise UserError(f"{path}: has more than 8 bits a channel; convert it to 8 bits")
            turned = ImageOps.exif_transpose(image)
            if "transparency" in turned.info:  # of a palette: Pillow wants it to be named
                turned = turned.convert("RGBA")
            coloured = turned.convert("RGB")
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be read as an image: {error}") from None
    side = min(coloured.size)
    left, top = ((length - side) / 2 for length in coloured.size)
    square = coloured.resize(
        (size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
    )
    return np.asarray(square).transpose(2, 0, 1)


def _has_more_than_8_bits(image: Image.Image) -> bool:
    """Whether an opened file has more than 8 bits a channel, also where Pillow would cut them."""
    if image.mode.startswith(("I", "F")):
        return True
    if isinstance(image, TiffImageFile):
        return any(bits > 8 for bits in image.tag_v2.get(BITS_PER_SAMPLE, ()))
    decoders = [tile.args for tile in getattr(image, "tile", ())]
    if image.format == "PPM":  # and PGM; in the form of text and in bytes: mode, largest value
        return any(isinstance(args, tuple) and args[1] > 255 for args in decoders)
    return any(SIXTEEN_BITS.search(str(args)) for args in decoders)


def _fingerprint(listing: Listing, size: int) -> str:
    """What the pixels depend on: the files by name, size and time, and what decodes them."""
    digest = hashlib.sha256(f"{FORM} {size} {PIL.__version__}".encode())
    for path, label in _labelled(listing.train, listing.test):
        with refusing(f"{path} cannot be read"):
            found = path.stat()
        name = path.relative_to(listing.root)
        digest.update(f"{name}\0{label} {found.st_size} {found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _labelled(*splits: Split) -> Iterator[tuple[Path, int]]:
    return itertools.chain.from_iterable(
        zip(split.files, split.labels, strict=True) for split in splits
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock ends with the process that holds it."""
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
