"""The affine augmentations against tensor operations, against the paper's pipeline step by step, and in their odds."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mdml import MethodError
from mdml.augmentation import AUGMENTATIONS, Affine, augmentation, standardize

PAPER = AUGMENTATIONS["paper"]
CROPS = PAPER.shifts or ()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(batch=3, channels=3, side=8):
    return torch.randint(256, (batch, channels, side, side), generator=seeded(5), dtype=torch.uint8)


def moved(images, right, down):
    """Whole-pixel shift, black where nothing comes from."""
    out, side = torch.zeros_like(images), images.shape[-1]
    for y, x in itertools.product(range(side), range(side)):
        if 0 <= y - down < side and 0 <= x - right < side:
            out[..., y, x] = images[..., y - down, x - right]
    return out


EXACT = {
    "nothing": (Affine(), lambda x: x),
    "mirror": (Affine(mirror=1.0), lambda x: x.flip(-1)),
    "a quarter counter-clockwise": (Affine(angles=(90.0,)), lambda x: x.rot90(1, (2, 3))),
    "a quarter clockwise": (Affine(angles=(-90.0,)), lambda x: x.rot90(-1, (2, 3))),
    "two to the right, one up": (Affine(shifts=((2 / 8, -1 / 8),)), lambda x: moved(x, 2, -1)),
    "turned, then mirrored": (Affine(angles=(90.0,), mirror=1.0), lambda x: x.rot90(1, (2, 3)).flip(-1)),
    "turned, shifted, mirrored": (
        Affine(angles=(90.0,), shifts=((2 / 8, -1 / 8),), mirror=1.0),
        lambda x: moved(x.rot90(1, (2, 3)), 2, -1).flip(-1),
    ),
}


@pytest.mark.parametrize(("chosen", "operation"), EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_of_whole_pixels_equal_tensor_operations(chosen, operation, channels):
    images = noise(channels=channels)
    expected = standardize(operation(images).float())
    found = chosen.train(images, seeded())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def with_black_frame(side, width):
    """Near the border warping (black beyond) and interpolation (repeats the edge) differ: make it black in both."""
    image = torch.randint(256, (2, 3, side, side), generator=seeded(6), dtype=torch.uint8)
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[width:-width, width:-width] = True
    return image * inside


@pytest.mark.parametrize("corner", [(0, 0), (0, 12), (12, 0), (12, 12), (6, 6)])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_the_paper_pipeline_resizes_224_to_236_and_crops_at_a_corner_or_the_centre(corner, mirror):
    images, (top, left) = with_black_frame(224, 9), corner
    resized = F.interpolate(images.float(), (236, 236), mode="bilinear", align_corners=False)
    crop = resized[..., top : top + 224, left : left + 224]
    expected = standardize(crop.flip(-1) if mirror else crop)
    shift = ((6 - left) / 224, (6 - top) / 224)
    assert any(shift == pytest.approx(known) for known in CROPS)
    found = replace(PAPER, angles=(0.0,), shifts=(shift,), mirror=mirror).train(images, seeded())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_the_test_view_of_the_paper_is_the_centre_crop():
    images = with_black_frame(224, 9)
    resized = F.interpolate(images.float(), (236, 236), mode="bilinear", align_corners=False)
    torch.testing.assert_close(PAPER.test(images), standardize(resized[..., 6:-6, 6:-6]), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["none", "light"])
def test_the_test_view_without_zoom_is_the_image_standardised(name):
    images = noise()
    assert torch.equal(AUGMENTATIONS[name].test(images), standardize(images.float()))


def test_rotation_zoom_shift_and_mirror_act_in_this_order_about_the_centre():
    """A smooth image, sampled where the inverse map of each output pixel lies.

    Bilinear reading of a wave of length 32 errs by less than (2 pi / 32)^2 / 4 = .01 of its amplitude, rounding by .5.
    """
    side, centre, angle, zoom, right, down = 64, 31.5, math.radians(20), 1.25, 5.0, -3.0

    def wave(x, y):
        return 127 + 60 * torch.sin(2 * math.pi * x / 32) + 60 * torch.cos(2 * math.pi * y / 40 + 0.3)

    ys, xs = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = wave(xs, ys).round().to(torch.uint8)[None, None]
    x, y = (side - 1 - xs) - centre - right, ys - centre - down
    source_x = (math.cos(angle) * x - math.sin(angle) * y) / zoom + centre
    source_y = (math.sin(angle) * x + math.cos(angle) * y) / zoom + centre
    inside = ((source_x - centre).abs() < 31) & ((source_y - centre).abs() < 31)
    chosen = Affine(angles=(20.0,), zoom=zoom, shifts=((right / side, down / side),), mirror=1.0)
    found = chosen.train(image, seeded())[0, 0][inside]
    expected = wave(source_x, source_y)[inside]
    fit = torch.linalg.lstsq(torch.stack([found, torch.ones_like(found)], 1), expected[:, None])
    assert inside.float().mean() > 0.9
    assert (torch.stack([found, torch.ones_like(found)], 1) @ fit.solution - expected[:, None]).abs().max() < 2.5


def test_the_paper_draws_all_angles_crops_and_flips_about_equally_often():
    """5 x 5 x 2 = 50 maps in 2000 draws: 40 each, give or take 4.5 standard deviations of 6.3."""
    image = noise(1, 1, 28)
    found = PAPER.train(image.expand(2000, -1, -1, -1), seeded()).flatten(1)
    counts = []
    for angle, shift, mirror in itertools.product((-10.0, -5.0, 0.0, 5.0, 10.0), CROPS, (0.0, 1.0)):
        one = replace(PAPER, angles=(angle,), shifts=(shift,), mirror=mirror).train(image, seeded()).flatten(1)
        counts.append(int(((found - one).abs().amax(1) < 1e-3).sum()))
    assert sum(counts) == 2000
    assert min(counts) > 12
    assert max(counts) < 68


def test_the_light_pipeline_draws_all_whole_pixel_shifts_and_flips():
    """Side 32: +-2 pixels either way, 25 shifts x 2 flips = 50 maps in 2000 draws."""
    image = noise(1, 1, 32)
    found = AUGMENTATIONS["light"].train(image.expand(2000, -1, -1, -1), seeded()).flatten(1)
    counts = []
    for right, down, mirror in itertools.product(range(-2, 3), range(-2, 3), (False, True)):
        one = moved(image, right, down)
        one = standardize((one.flip(-1) if mirror else one).float()).flatten(1)
        counts.append(int(((found - one).abs().amax(1) < 1e-3).sum()))
    assert sum(counts) == 2000
    assert min(counts) > 12
    assert max(counts) < 68


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_draws_depend_on_the_generator_alone(name):
    images, chosen = noise(16), augmentation(name)
    torch.manual_seed(1)
    first = chosen.train(images, seeded(3))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(chosen.train(images, seeded(3)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(chosen.train(images, seeded(4)), first) == (name == "none")


def test_images_of_a_batch_are_drawn_one_by_one_and_batches_go_on():
    generator, image = seeded(), noise(1, 1, 16).expand(8, -1, -1, -1)
    first, second = PAPER.train(image, generator), PAPER.train(image, generator)
    assert len(first.flatten(1).unique(dim=0)) > 4
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_images_are_left_as_they_are(name):
    images = noise()
    kept = images.clone()
    augmentation(name).train(images, seeded())
    augmentation(name).test(images)
    assert torch.equal(images, kept)


def test_standardize_is_per_image_and_channel():
    images = noise().float() * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None] + 40
    found = standardize(images)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.std((2, 3), correction=0), torch.ones(3, 3))


def test_standardize_by_hand():
    """1, 3, 5, 7: mean 4, deviation sqrt(5)."""
    found = standardize(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]))
    assert found.flatten().tolist() == pytest.approx([-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5])


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_channel_becomes_zero(value):
    images = noise(1)
    images[:, 1] = value
    found = AUGMENTATIONS["light"].test(images)
    assert not found[:, 1].any()
    assert found[:, 0].any()


def test_a_constant_channel_becomes_zero_after_resampling():
    """Away from the border, which repeats nothing and stays black: an image whose constant part fills the crop."""
    centred = PAPER.test(torch.full((1, 1, 64, 64), 77, dtype=torch.uint8))
    assert centred.abs().max() < 1e-3


def test_an_unknown_augmentation_is_named():
    with pytest.raises(MethodError, match=r"out of none, paper, light, .*, found augmentation.name=ligth"):
        augmentation("ligth")
