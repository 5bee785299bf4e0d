"""Crop and flip: each of the 162 outcomes to the bit, chosen by the order's random numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from adamwprune import datasets
from adamwprune.base.kinds import Images
from adamwprune.datasets._augment import crop_flip
from adamwprune.datasets._images import ImageData
from adamwprune.train.data import Order
from tests.datasets.test_datasets import NOWHERE, settings


def images(n: int, channels: int = 3, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(1, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


def one_by_one(image: torch.Tensor, draw: int) -> torch.Tensor:
    """Pad, crop and mirror one image."""
    field = F.pad(image, (4, 4, 4, 4))
    outcome = draw % 162
    top, left = outcome % 9, outcome // 9 % 9
    window = field[:, top : top + image.shape[1], left : left + image.shape[2]]
    return window.flip(-1) if outcome >= 81 else window


def data(n: int = 6) -> ImageData:
    labels = torch.arange(n) % 2
    return ImageData.of((images(n), labels), (images(n), labels), classes=2, digest="0" * 16)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 8, 8), (1, 6, 9)])
def test_each_outcome_is_padded_cropped_and_mirrored(channels, height, width):
    whole = images(162, channels, 9)[:, :, :height, :width]
    draws = torch.arange(162) + 162 * torch.arange(162) ** 3 % 2**31
    found = crop_flip(whole, draws)
    assert found.dtype == torch.uint8
    for image, draw, each in zip(whole, draws, found, strict=True):
        assert torch.equal(each, one_by_one(image, int(draw)))


def test_the_outcomes_of_one_image_all_differ_and_the_order_gives_all_of_them():
    image = images(1)
    found = crop_flip(image.expand(162, -1, -1, -1), torch.arange(162))
    assert len({bytes(each) for each in found.flatten(1).numpy()}) == 162
    assert torch.equal(found[40], image[0]), "neither moved nor mirrored"
    draws = Order(20_000, 20_000, seed=0, device=torch.device("cpu")).next()[:, 1]
    counts = torch.bincount(draws % 162, minlength=162)
    assert counts.min() > 0
    assert ((counts - 20_000 / 162) ** 2).sum().item() / (20_000 / 162) < 250, "chi-squared, 161"


def test_only_batches_are_varied_and_zeros_are_added_before_normalising():
    plain = data()
    varied = plain.augmented("crop-flip")
    picks = torch.stack((torch.tensor([4, 0, 2]), torch.tensor([0, 100, 161])), dim=1)
    batch = varied.batch(picks)
    expected = torch.stack([one_by_one(plain.train_images[i], d) for i, d in picks.tolist()])
    assert torch.equal(batch.inputs, plain.normalise(expected))
    assert torch.equal(batch.inputs[0, :, 0, 0], -plain._shift.flatten()), "black, normalised"
    assert torch.equal(batch.targets, plain.train_labels[[4, 0, 2]])
    for one, other in zip(varied.evaluation(), plain.evaluation(), strict=True):
        assert torch.equal(one.inputs, other.inputs)
    whole = torch.stack((torch.arange(6), torch.arange(6)), dim=1)
    assert torch.equal(plain.batch(whole).inputs, plain.normalise(plain.train_images))


def test_a_run_that_goes_on_sees_the_same_variants():
    varied, device = data(20).augmented("crop-flip"), torch.device("cpu")
    whole = Order(20, 8, seed=3, device=device)
    seen = [varied.batch(whole.next()).inputs for _ in range(8)]
    first = Order(20, 8, seed=3, device=device)
    for _ in range(4):
        first.next()
    later = Order(20, 8, seed=3, device=device)
    later.load_state_dict(first.state_dict())
    for expected in seen[4:]:
        assert torch.equal(varied.batch(later.next()).inputs, expected)
    assert not torch.equal(seen[0], seen[3]), "the next pass has other ones"


def test_it_survives_validation_and_fitting_and_stays_on_the_device():
    varied = data(6).augmented("crop-flip")
    assert varied.validating(2).augmentation == "crop-flip"
    assert varied.fitted(Images(3, 10, 2)).augmentation == "crop-flip"
    moved = varied.to(torch.device("meta"))
    picks = torch.zeros(5, 2, dtype=torch.long, device="meta")
    assert moved.batch(picks).inputs.shape == (5, 3, 8, 8)


def test_the_preset_is_the_datasets_and_explicit_words_win():
    assert settings("mnist5k")["AUGMENT"] == "none"
    assert settings("cifar10")["AUGMENT"] == settings("cifar100")["AUGMENT"] == "crop-flip"
    assert settings("cifar10", AUGMENT="none")["AUGMENT"] == "none"
    asked = settings("mnist5k", AUGMENT="crop-flip")
    assert datasets.load(asked, NOWHERE).augmentation == "crop-flip"
    assert datasets.load(settings("mnist5k"), Path("/nowhere")).augmentation == "none"
    assert settings("cifar10")["BATCH_SIZE"] == 128


def test_one_channel_is_normalised_by_the_same_bits_as_by_two_numbers():
    digits = datasets.load(settings("mnist5k"), NOWHERE)
    (mean,), (std,) = digits.mean, digits.std
    grey = digits.train_images[:500]
    assert torch.equal(digits.normalise(grey), grey.float().mul_(1 / (255 * std)).sub_(mean / std))


def test_each_channel_has_its_own_mean_and_deviation():
    coloured = data(50)
    normal = coloured.normalise(coloured.train_images)
    pixels = coloured.train_images.double() / 255
    assert coloured.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert coloured.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    assert normal.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert normal.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_larger_images_are_evaluated_in_smaller_batches():
    large = data(4)
    field = torch.zeros(60, 3, 224, 224, dtype=torch.uint8).expand(60, -1, -1, -1)
    large = ImageData(
        large.train_images, large.train_labels, field, torch.zeros(60), 2, "", (0.5,) * 3, (1,) * 3
    )
    assert [len(each) for each in large.evaluation()] == [27, 27, 6]
