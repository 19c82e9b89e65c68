"""The augmentations of the other papers: against loops, in their ranges and odds, and their promises to the training loop."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mdml.augmentation import AUGMENTATIONS, augmentation, equalize_plane
from mdml.augmentation import ferplus as ferplus_module
from mdml.augmentation import sgm as sgm_module
from mdml.augmentation.maps import about_centre, mirrors, rotations, warp

ALL = list(AUGMENTATIONS)
NEW = ["sgm", "idferm", "ferplus"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(batch=3, channels=3, side=24, seed=5):
    return torch.randint(256, (batch, channels, side, side), generator=seeded(seed), dtype=torch.uint8)


def evened(image):
    """Equalisation and plane fitting of one (H, W) uint8 array by numpy's least squares, in float64."""
    height, width = image.shape
    e = np.array([2.0 * (image <= v).sum() / image.size - 1 for v in image.ravel()])
    y, x = np.mgrid[:height, :width]
    plane = np.c_[np.ones(image.size), x.ravel(), y.ravel()]
    rest = e - plane @ np.linalg.lstsq(plane, e, rcond=None)[0]
    size = np.sqrt((rest**2).mean())
    return (rest / size if size > 1e-6 else 0 * rest).reshape(height, width)


def test_equalisation_and_plane_by_the_oracle():
    image = torch.tensor([[0, 0, 10], [20, 10, 255]], dtype=torch.uint8)
    expected = [0.131306, -1.050451, 0.919145, 1.181758, -1.575677, 0.393919]
    assert equalize_plane(image[None, None]).flatten().tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (5, 9), (1, 7), (7, 1)])
def test_equalisation_and_plane_are_per_image_and_channel(height, width):
    images = noise(2, 3, 24)[..., :height, :width]
    found = equalize_plane(images)
    assert found.dtype == torch.float32
    for image, channel in itertools.product(range(2), range(3)):
        expected = torch.from_numpy(evened(images[image, channel].numpy())).float()
        torch.testing.assert_close(found[image, channel], expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(2, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.square().mean((2, 3)), torch.ones(2, 3), rtol=1e-4, atol=0)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_channel_becomes_zero(value):
    images = noise()
    images[:, 1] = value
    found = equalize_plane(images)
    assert not found[:, 1].any()
    assert found[:, 0].any()


def test_a_slope_of_the_light_is_taken_off():
    """Of a picture of two even halves a slope remains; of a plain slope of distinct grey levels nothing does."""
    slope = torch.arange(16).repeat(16, 1).to(torch.uint8)[None, None]
    assert equalize_plane(slope).abs().max() == 0


def test_the_five_crops_of_64_and_their_mirror_images():
    """Ten views in 1000 draws: 100 each, give or take 4.5 standard deviations of 9.5."""
    image = noise(1, 1, 64)
    views = [
        crop.flip(-1) if mirror else crop
        for y, x in [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
        for mirror in (False, True)
        for crop in [image[..., y : y + 60, x : x + 60]]
    ]
    expected = torch.stack([torch.from_numpy(evened(view[0, 0].numpy())).float() for view in views])
    found = augmentation("idferm").train(image.expand(1000, -1, -1, -1), seeded())
    assert found.shape == (1000, 1, 60, 60)
    near = (found[:, 0, None] - expected).flatten(2).abs().amax(2) < 1e-4
    assert near.sum(1).tolist() == [1] * 1000
    assert 57 < int(near.sum(0).min()) <= int(near.sum(0).max()) < 143
    torch.testing.assert_close(augmentation("idferm").test(image)[0, 0], expected[8])


class DrawnError(Exception):
    """Ends an augmentation once its maps are known."""


def affine(monkeypatch, module, name, batch, side):
    """The maps (B, 2, 3) that an augmentation draws, and its border."""

    def caught(_, maps, border):
        raise DrawnError(maps.double(), border)

    monkeypatch.setattr(module, "warp", caught)
    with pytest.raises(DrawnError) as drawn:
        augmentation(name).train(noise(1, 1, side).expand(batch, -1, -1, -1), seeded())
    return drawn.value.args


def spread(values, low, high, share=0.03):
    """All within [low, high], and reaching both ends but for a share."""
    assert low - 1e-4 <= values.min() <= low + share * (high - low)
    assert high - share * (high - low) <= values.max() <= high + 1e-4


def test_the_distortions_of_ferplus_lie_in_their_ranges(monkeypatch):
    """The map back to the image is scale x skew x skew x rotation; its parts are read off the product."""
    side = 64
    maps, border = affine(monkeypatch, ferplus_module, "ferplus", 4000, side)
    assert border == "reflection"
    linear = maps[:, :, :2]
    mirrored = torch.linalg.det(linear) < 0
    assert 0.46 < mirrored.double().mean() < 0.54
    centre = torch.full((4000, 2, 1), (side - 1) / 2, dtype=torch.float64)
    shifts = (linear @ centre + maps[:, :, 2:] - centre).squeeze(2)
    for axis in shifts.T:
        spread(axis, -0.08 * side, 0.08 * side)
    back = torch.linalg.inv(
        torch.where(mirrored[:, None, None], torch.diag(torch.tensor([-1.0, 1.0])).double(), torch.eye(2).double())
        @ linear
    )
    # The determinant is the product of both scales: the skews and the rotation have determinant 1.
    area = torch.linalg.det(back)
    spread(area, 1 / 1.05**2, 1.05**2, share=0.15)
    turns = torch.atan2(back[:, 0, 1] - back[:, 1, 0], back[:, 0, 0] + back[:, 1, 1]) * 180 / math.pi
    # The two skews turn by their half difference at most: 2.9 degrees.
    assert 17 < turns.abs().max() < 23
    stretch = torch.linalg.svdvals(back)
    assert stretch.max() < 1.05 * 1.06
    assert stretch.min() > 1 / (1.05 * 1.06)


def test_ferplus_reads_the_image_where_its_map_leads():
    """Without draws the view is the image; the border is a reflection, so that no black corner is equalised."""
    images = torch.full((64, 1, 32, 32), 200, dtype=torch.uint8)
    assert not augmentation("ferplus").train(images, seeded()).any()
    assert torch.equal(augmentation("ferplus").test(noise()), equalize_plane(noise()))


def test_the_distortions_of_sgm_lie_in_their_ranges(monkeypatch):
    side = 48
    maps, border = affine(monkeypatch, sgm_module, "sgm", 4000, side)
    assert border == "border"
    linear = maps[:, :, :2]
    mirrored = torch.linalg.det(linear) < 0
    assert 0.46 < mirrored.double().mean() < 0.54
    flip = torch.where(mirrored, -1.0, 1.0).double()
    linear = linear * torch.stack([flip, torch.ones_like(flip)], 1)[:, :, None]
    turns = torch.atan2(linear[:, 0, 1] - linear[:, 1, 0], linear[:, 0, 0] + linear[:, 1, 1])
    plain = turns.abs() < 1e-7
    assert 0.46 < plain.double().mean() < 0.54
    resized = linear[plain, 0, 0]
    spread(resized, 0.8 * 53 / 48, 1.2 * 53 / 48)
    torch.testing.assert_close(linear[plain], resized[:, None, None] * torch.eye(2).double(), rtol=0, atol=1e-6)
    centre = torch.full((4000, 2, 1), (side - 1) / 2, dtype=torch.float64)
    shifts = (maps[:, :, :2] @ centre + maps[:, :, 2:] - centre).squeeze(2)
    # Without the affine map there is the crop alone: six whole pixels either way about the centre crop.
    crops = [round(value, 3) for value in shifts[plain].flatten().tolist()]
    assert sorted(set(crops)) == [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    assert min(crops.count(value) for value in set(crops)) > 500
    # Else 30 degrees (the moved corners turn by 2.3 more), and .2 of the side, bent, beside the corners' drift of .06.
    assert 27 < turns.abs().max() * 180 / math.pi < 33
    assert 0.18 * side < shifts[~plain].abs().max() < 0.28 * side + 2.5


def draws(batch, **chosen):
    """Draws of sgm by which nothing happens, but for what is chosen."""
    nothing = {
        name: torch.full((batch, width), 0.5)
        for name, width in zip(sgm_module._Draws._fields, sgm_module._WIDTHS, strict=True)
    }
    nothing["chances"] = torch.ones(batch, 7)
    return sgm_module._Draws(**nothing | chosen)


def chance(batch, *which):
    chances = torch.ones(batch, 7)
    chances[:, list(which)] = 0.0
    return chances


def test_three_moved_corners_of_sgm_land_where_they_were_sent():
    corners = torch.rand(5, 6, generator=seeded())
    maps = sgm_module._maps(draws(5, corners=corners, chances=chance(5, 0), crop=torch.full((5, 2), 0.45)), 48)
    # Undo resizing and the crop of offset 2: a shift of .5 and a factor about the centre.
    undo = about_centre(torch.eye(2).expand(5, -1, -1) * 48 / 53, torch.zeros(5, 2), 48)
    sent = sgm_module.WARP * 48 * (2 * corners - 1).view(5, 3, 2)
    # A picture of 48 pixels reaches from -.5 to 47.5.
    for i, corner in enumerate([(-0.5, -0.5), (-0.5, 47.5), (47.5, -0.5)]):
        start = undo[:, :, :2] @ torch.tensor(corner) + undo[:, :, 2]
        end = (maps[:, :, :2] @ start[:, :, None]).squeeze(2) + maps[:, :, 2] - 0.5
        torch.testing.assert_close(end, torch.tensor(corner) + sent[:, i], rtol=0, atol=1e-4)


def test_the_light_of_sgm_by_hand():
    """Brightness multiplies, contrast pulls from the mean, gamma is a power; each by chance, and within [0, 1]."""
    images = torch.rand(4, 1, 16, 16, generator=seeded())
    light = torch.rand(4, 3, generator=seeded(1))
    factors = (1 + 0.25 * (2 * light - 1))[:, :, None, None, None]
    bright = (images * factors[:, 0]).clamp(0, 1)
    pulled = bright.mean((2, 3), keepdim=True)
    pulled = (pulled + factors[:, 1] * (bright - pulled)).clamp(0, 1)
    everything = sgm_module._relight(images, draws(4, light=light, chances=chance(4, 2, 3, 4)))
    torch.testing.assert_close(everything, pulled ** factors[:, 2])
    torch.testing.assert_close(sgm_module._relight(images, draws(4, light=light, chances=chance(4, 2))), bright)
    torch.testing.assert_close(sgm_module._relight(images, draws(4, light=light)), images)


def test_blur_and_local_equalisation_of_sgm_touch_the_drawn_images_alone():
    images = torch.rand(6, 1, 40, 40, generator=seeded())
    chances = torch.ones(6, 7)
    chances[1, 6] = chances[4, 5] = 0.0
    found = sgm_module._relight(images, draws(6, chances=chances, blur=torch.zeros(6, 1)))
    same = [torch.equal(found[i], images[i]) for i in range(6)]
    assert same == [True, False, True, True, False, True]
    steps = torch.arange(-3.0, 4.0)
    kernel = torch.exp(-(steps**2) / (2 * 0.8**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(images[1:2], (3, 3, 3, 3), mode="reflect")
    blurred = F.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    torch.testing.assert_close(found[1:2], blurred, rtol=0, atol=1e-5)
    assert found[4].std() > 0.2
    assert 0 <= found[4].min() <= found[4].max() <= 1


def test_sgm_sees_grey_in_every_channel_and_normalises_by_its_constants():
    colours = noise(2, 3, 16)
    grey = (colours.float() / 255 * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    found = augmentation("sgm").test(colours)
    for channel, (mean, deviation) in enumerate(zip((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), strict=True)):
        torch.testing.assert_close(found[:, channel], (grey - mean) / deviation, rtol=0, atol=1e-5)
    one = augmentation("sgm").test(noise(2, 1, 16))
    torch.testing.assert_close(one, (noise(2, 1, 16).float() / 255 - 0.4734) / 0.2009, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("channels", "side", "batch"), [(1, 64, 3), (3, 48, 2), (3, 8, 2), (1, 33, 1)])
def test_views_are_finite_and_smaller_by_the_margin(name, channels, side, batch):
    images, chosen = noise(batch, channels, side), augmentation(name)
    for view in (chosen.train(images, seeded()), chosen.test(images)):
        assert view.shape == (batch, channels, side - chosen.margin, side - chosen.margin)
        assert view.dtype == torch.float32
        assert view.isfinite().all()


def test_the_crops_alone_have_a_margin():
    assert {name: chosen.margin for name, chosen in AUGMENTATIONS.items() if chosen.margin} == {"idferm": 4}


@pytest.mark.parametrize("name", ALL)
def test_generators_in_equal_states_draw_equal_views_of_other_images(name):
    """What a companion that shares its query's view relies on: the draws depend on batch and side, not on pixels or channels."""
    one, other, chosen = noise(8, 3, seed=1), noise(8, 3, seed=2), augmentation(name)
    alone, first, second = seeded(3), seeded(3), seeded(3)
    chosen.train(one[:, :1], alone)
    chosen.train(one, first)
    expected = chosen.train(other, second)
    assert torch.equal(first.get_state(), second.get_state())
    assert torch.equal(alone.get_state(), second.get_state())
    assert torch.equal(chosen.train(other, seeded(3)), expected)


@pytest.mark.parametrize("name", ALL)
def test_a_view_does_not_depend_on_the_other_images_of_the_batch(name):
    one, other = noise(4, 1, seed=1), noise(4, 1, seed=2)
    other[2] = one[2]
    first, second = (augmentation(name).train(images, seeded(7))[2] for images in (one, other))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_strides_do_not_matter(name):
    """A data set's images lie channels last."""
    images, chosen = noise(4, 3), augmentation(name)
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(chosen.train(last, seeded()), chosen.train(images, seeded()), rtol=0, atol=1e-5)
    torch.testing.assert_close(chosen.test(last), chosen.test(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NEW)
def test_nothing_waits_for_the_device(name):
    """On the meta device every read of a value raises."""
    images = noise(16).to("meta")
    margin = augmentation(name).margin
    assert augmentation(name).train(images, seeded()).shape == (16, 3, 24 - margin, 24 - margin)
    assert augmentation(name).test(images).shape == (16, 3, 24 - margin, 24 - margin)


def test_rotations_turn_counter_clockwise_and_mirrors_flip():
    image = noise(1, 1, 9).float()
    none = torch.zeros(1, 2)
    turned = warp(image, about_centre(rotations(torch.tensor([math.pi / 2])), none, 9), "zeros")
    torch.testing.assert_close(turned, image.rot90(1, (2, 3)), rtol=0, atol=1e-3)
    flipped = warp(image, about_centre(mirrors(torch.tensor([True])), none, 9), "zeros")
    torch.testing.assert_close(flipped, image.flip(-1), rtol=0, atol=1e-3)
