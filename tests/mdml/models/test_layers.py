"""The layers that torch and torchvision do not have, against loops."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mdml.models.cvgg13 import cvgg13
from mdml.models.fmpnet import FractionalMaxPool, fmpnet
from mdml.models.incfer60 import Inception, incfer60
from mdml.models.preact_resnet import PreActBlock, preact_resnet18


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def windows(side, draw):
    """First pixels of Graham's windows of 3: evenly spread fractions, shifted by the draw; the last one ends at the border."""
    step = (side - 3) / (side // 2 - 1)
    return [int((i + draw) * step) - int(draw * step) for i in range(side // 2 - 1)] + [side - 3]


@pytest.mark.parametrize("side", [48, 24, 12, 7])
def test_fractional_pooling_is_fixed_in_evaluation(side):
    x = noise(2, 3, side, side)
    found = FractionalMaxPool().eval()(x)
    starts = windows(side, 0.5)
    for (i, top), (j, left) in itertools.product(enumerate(starts), enumerate(starts)):
        assert torch.equal(found[..., i, j], x[..., top : top + 3, left : left + 3].amax((2, 3)))


def test_fractional_pooling_draws_from_the_host_for_every_image_and_channel():
    x, pool = noise(1, 1, 48, 48).expand(4, 3, -1, -1).contiguous(), FractionalMaxPool().train()
    torch.manual_seed(0)
    draws = torch.rand(4, 3, 2)
    torch.manual_seed(0)
    found = pool(x)
    assert len(found.flatten(0, 1).flatten(1).unique(dim=0)) > 6
    for image, channel in itertools.product(range(4), range(3)):
        # torch gives the first draw to the columns.
        left, top = (windows(48, draw) for draw in draws[image, channel].tolist())
        expected = torch.stack([torch.stack([x[0, 0, t : t + 3, s : s + 3].amax() for s in left]) for t in top])
        assert torch.equal(found[image, channel], expected)


def test_fractional_pooling_keeps_half_precision_and_its_windows():
    x = noise(2, 3, 48, 48).bfloat16()
    pool = FractionalMaxPool().eval()
    assert pool(x).dtype == torch.bfloat16
    assert torch.equal(pool(x).float(), pool(x.float()))


@pytest.mark.parametrize(("outputs", "stride"), [(4, 1), (6, 1), (4, 2), (6, 2)])
def test_a_preactivation_block_adds_its_shortcut(outputs, stride):
    """The shortcut is the input where the shape stays, else a 1x1 convolution of the activated input."""
    block, x = PreActBlock(4, outputs, stride).eval(), noise(2, 4, 8, 8)
    active = F.relu(F.batch_norm(x, torch.zeros(4), torch.ones(4)))
    inner = F.conv2d(active, block.conv1.weight, stride=stride, padding=1)
    inner = F.relu(F.batch_norm(inner, torch.zeros(outputs), torch.ones(outputs)))
    kept = (
        x if (outputs, stride) == (4, 1) else F.conv2d(active, block.get_parameter("shortcut.0.weight"), stride=stride)
    )
    torch.testing.assert_close(block(x), F.conv2d(inner, block.conv2.weight, padding=1) + kept)


def test_an_inception_sets_its_convolutions_side_by_side():
    layer, x = Inception(6, 2, (3, 4), (5, 7)), noise(2, 6, 9, 9)

    def conv(y, module, padding):
        return F.leaky_relu(F.conv2d(y, module[0].weight, module[0].bias, padding=padding), 0.1)

    expected = [
        conv(x, layer.one, 0),
        conv(conv(x, layer.three[0], 0), layer.three[1], 1),
        conv(conv(x, layer.five[0], 0), layer.five[1], 2),
    ]
    found = layer(x)
    assert [part.shape[1] for part in expected] == [2, 4, 7]
    torch.testing.assert_close(found, torch.cat(expected, 1))


def test_sides_of_incfer60():
    """60 -> 30 -> 15 -> 8 -> 4, with 64, 96, 224 and 416 channels."""
    x, shapes = noise(1, 1, 60, 60), []
    for layer in incfer60().get_submodule("features").children():
        x = layer(x)
        if isinstance(layer, torch.nn.MaxPool2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 30, 30), (96, 15, 15), (224, 8, 8), (416, 4, 4)]


def kinds(module):
    """Layers in their order."""
    return " ".join(type(layer).__name__ for layer in module.modules() if not list(layer.children()))


def test_layers_of_fmpnet_in_their_order():
    """Convolution and ReLU before each fractional pool, normalisation after it; a dropout before each hidden layer."""
    network = fmpnet()
    block, hidden = "Conv2d ReLU", "Dropout Linear ReLU"
    pool = "FractionalMaxPool BatchNorm2d"
    assert kinds(network.get_submodule("features")) == " ".join([block, pool, *[block, block, pool] * 2])
    assert kinds(network.get_submodule("hidden")) == f"Flatten {hidden} {hidden}"


def test_layers_of_cvgg13_in_their_order():
    network = cvgg13()
    blocks = [" ".join(["Conv2d ReLU"] * count + ["MaxPool2d Dropout"]) for count in (2, 2, 3, 3)]
    assert kinds(network.get_submodule("features")) == " ".join(blocks)
    assert kinds(network.get_submodule("hidden")) == "Flatten Linear ReLU Dropout"


def test_every_layer_of_incfer60_has_its_leaky_relu():
    """Two convolutions, two inceptions of five, FC1; pools of 3 by 2 between."""
    network = incfer60()
    block = "Conv2d LeakyReLU"
    inception = " ".join([block] * 5 + ["MaxPool2d"])
    assert kinds(network.get_submodule("features")) == f"{block} MaxPool2d {block} MaxPool2d {inception} {inception}"
    assert kinds(network.get_submodule("hidden")) == "Flatten Linear LeakyReLU"
    assert {m.negative_slope for m in network.modules() if isinstance(m, torch.nn.LeakyReLU)} == {0.1}


def test_the_preactivation_resnet_ends_without_activation():
    """The feature is the mean over the places of what the last block adds up."""
    network, x = preact_resnet18().eval(), noise(2, 3, 16, 16)
    blocks = (network.get_submodule(f"layer{i}") for i in range(1, 5))
    maps = network.get_submodule("conv1")(x)
    for block in blocks:
        maps = block(maps)
    found = network(x)
    torch.testing.assert_close(found, maps.mean((2, 3)))
    assert (found < 0).any()


def test_dropouts_and_start_of_cvgg13():
    network = cvgg13()
    assert [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)] == [0.25] * 4 + [0.5]
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64] * 2 + [128] * 2 + [256] * 6
    for m in convolutions:
        bound = (6 / (9 * (m.in_channels + m.out_channels))) ** 0.5
        assert bound * 0.9 < m.weight.abs().max() <= bound
        assert m.bias is not None
        assert not m.bias.any()
