"""Every backbone: its size, its shapes, its start, its weights, and the images that it takes."""

import types

import pytest
import torch
import torchvision
from torch import nn

from mdml import MethodError, models
from mdml.losses.radial import RadialMetric
from mdml.models import BACKBONES, Network, SlicedHead, build_trunk, check_images
from mdml.models.head import EmbeddingHead
from mdml.models.two_branch import Learned, TwoBranchHead

OWN = ["cvgg13", "fmpnet", "incfer60"]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def images(name, channels, batch=2, side=None):
    side = side or BACKBONES[name].side
    noise = torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(0))
    return noise.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "channels", "count"),
    [
        ("resnet18", 3, 11_176_512),
        ("preact_resnet18", 3, 11_198_848 - 512 * 64 - 64),
        ("alexnet", 3, 57_266_048 - 4096 * 64 - 64),
        ("cvgg13", 1, 7_765_504 - 1024 * 64 - 64),
        ("fmpnet", 3, 6_135_488 - 1024 * 64 - 64),
        ("fmpnet", 1, 6_074_888 - 1024 * 8 - 8),
        ("incfer60", 1, 1664 + 55_392 + 140_624 + 363_072 + 6_816_768),
    ],
)
def test_parameters_of_a_trunk(name, channels, count):
    """A whole network of the papers, less its last layer; of incfer60 two convolutions, two inceptions and FC1, by hand."""
    assert parameters(build_trunk(name, channels, None, 0)[0]) == count


@pytest.mark.parametrize(
    ("name", "channels", "count"),
    [
        ("preact_resnet18", 3, 11_198_848),
        ("alexnet", 3, 57_266_048),
        ("cvgg13", 1, 7_765_504),
        ("fmpnet", 3, 6_135_488),
    ],
)
def test_parameters_of_a_network_that_embeds_in_64_numbers(name, channels, count):
    trunk, features = build_trunk(name, channels, None, 0)
    assert parameters(Network(trunk, EmbeddingHead(features, 64))) == count


@pytest.mark.parametrize(("name", "channels", "count"), [("preact_resnet18", 3, 11_170_120), ("fmpnet", 1, 6_074_888)])
def test_parameters_of_a_network_that_tells_eight_classes(name, channels, count):
    trunk, features = build_trunk(name, channels, None, 0)
    assert parameters(trunk) + parameters(nn.Linear(features, 8)) == count


def test_the_whole_vgg_of_barsoum_is_the_trunk_and_a_head_of_1024():
    trunk, features = build_trunk("cvgg13", 1, None, 0)
    assert parameters(Network(trunk, SlicedHead(features, 8, 1, 1024, 0.5))) == 8_757_704


def test_the_whole_two_branch_network():
    """The trunk, and the head with its learned metric: L_A, L_B, c and b."""
    trunk, features = build_trunk("incfer60", 1, None, 0)
    head = TwoBranchHead(features, 7, 64, 0.5, Learned(RadialMetric(64), None))
    assert parameters(Network(trunk, head)) == 8_059_896


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_trunk_makes_features_of_the_smallest_and_of_the_usual_images(name, channels):
    known = BACKBONES[name]
    trunk, width = build_trunk(name, channels, None, 0)
    assert width == known.features
    for side in {known.least or known.side, known.side}:
        found = trunk.eval()(images(name, channels, side=side))
        assert found.shape == (2, width)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        assert found.std() > 1e-3, "the start lets the signal fade"


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_gives_finite_features_and_gradients(name, training):
    trunk, _ = build_trunk(name, BACKBONES[name].channels, None, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = trunk.train(training)(images(name, BACKBONES[name].channels))
    assert found.isfinite().all()
    found.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trunk.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_a_step_moves_every_parameter(name):
    trunk, _ = build_trunk(name, BACKBONES[name].channels, None, 0)
    before = {key: p.detach().clone() for key, p in trunk.named_parameters()}
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(trunk.parameters())
    trunk.train()(images(name, BACKBONES[name].channels, batch=4)).square().mean().backward()
    optimizer.step()
    assert [key for key, p in trunk.named_parameters() if torch.equal(p, before[key])] == []


@pytest.mark.parametrize("name", ["preact_resnet18", *OWN])
def test_a_start_depends_on_the_seed_alone(name):
    starts = []
    for noise, seed in ((1, 3), (2, 3), (2, 4)):
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        models._start.cache_clear()
        starts.append(build_trunk(name, 1, None, seed)[0].state_dict())
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(starts[0][key], starts[1][key]) for key in starts[0])
    assert not all(torch.equal(starts[0][key], starts[2][key]) for key in starts[0])


@pytest.mark.parametrize("name", BACKBONES)
def test_features_of_an_image_do_not_depend_on_the_others_or_on_the_time(name):
    trunk = build_trunk(name, 1, None, 0)[0].eval()
    batch = images(name, 1, batch=3)
    first = trunk(batch)
    torch.testing.assert_close(trunk(batch[1:]), first[1:], rtol=1e-4, atol=1e-4)
    assert torch.equal(trunk(batch), first)


@pytest.mark.parametrize("name", ["alexnet", "cvgg13", "fmpnet"])
def test_dropout_belongs_to_the_trunk(name):
    trunk = build_trunk(name, 1, None, 0)[0].train()
    batch = images(name, 1)
    torch.manual_seed(0)
    first = trunk(batch)
    assert not torch.equal(trunk(batch), first)
    torch.manual_seed(0)
    assert torch.equal(trunk(batch), first)


def test_alexnet_is_torchvisions_less_its_last_layer():
    whole = torchvision.models.alexnet().eval()
    trunk = build_trunk("alexnet", 3, None, 0)[0].eval()
    trunk.load_state_dict({key: p for key, p in whole.state_dict().items() if not key.startswith("classifier.6.")})
    batch = images("alexnet", 3)
    torch.testing.assert_close(whole.classifier[6](trunk(batch)), whole(batch))


@pytest.mark.parametrize("name", BACKBONES)
def test_weights_of_a_local_file_in_three_channels_fit_one(name, tmp_path):
    """One channel takes the sum of the three filters, so that a grey image gives what its three equal channels gave."""
    three = build_trunk(name, 3, None, 5)[0].eval()
    torch.save(three.state_dict(), tmp_path / "trunk.pt")
    again = build_trunk(name, 3, str(tmp_path / "trunk.pt"), 6)[0].eval()
    grey = build_trunk(name, 1, str(tmp_path / "trunk.pt"), 6)[0].eval()
    batch = images(name, 1)
    assert torch.equal(again(batch.expand(-1, 3, -1, -1)), three(batch.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(grey(batch), three(batch.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "extra"),
    [("alexnet", "classifier.6.weight"), ("preact_resnet18", "linear.weight"), ("resnet18", "fc.bias")],
)
def test_the_classifier_of_a_local_file_is_ignored(name, extra, tmp_path):
    state = build_trunk(name, 3, None, 0)[0].state_dict()
    torch.save(state | {extra: torch.zeros(2)}, tmp_path / "whole.pt")
    build_trunk(name, 3, str(tmp_path / "whole.pt"), 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("preact_resnet18", "a pre-activation ResNet-18: Missing key"),
        ("alexnet", "an AlexNet: Missing key"),
        ("cvgg13", "a CVGG13: Missing key"),
        ("fmpnet", "an FMPNet: Missing key"),
        ("incfer60", "an IncFER60: Missing key"),
    ],
)
def test_weights_of_another_network_are_refused(name, words, tmp_path):
    torch.save(build_trunk("resnet18", 3, None, 0)[0].state_dict(), tmp_path / "resnet.pt")
    with pytest.raises(MethodError, match=rf"resnet\.pt do not fit {words}"):
        build_trunk(name, 3, str(tmp_path / "resnet.pt"), 0)


@pytest.mark.parametrize("name", ["preact_resnet18", *OWN])
def test_imagenet_weights_are_refused_where_there_are_none(name):
    with pytest.raises(MethodError, match=r"There are no ImageNet weights of .* null or the path of a state dict"):
        build_trunk(name, 3, "imagenet", 0)


def test_imagenet_weights_of_alexnet_are_torchvisions(monkeypatch):
    state = torchvision.models.alexnet().state_dict()
    monkeypatch.setattr(
        torchvision.models.AlexNet_Weights, "get_state_dict", lambda *_, **__: dict(state), raising=True
    )
    trunk = build_trunk("alexnet", 3, "imagenet", 99)[0]
    models._start.cache_clear()
    assert torch.equal(trunk.state_dict()["classifier.4.weight"], state["classifier.4.weight"])


def test_the_images_that_a_backbone_takes_pass():
    for name, known in BACKBONES.items():
        for channels in (1, 3):
            check_images(name, known.side, channels)
            check_images(name, known.side + 4, channels, margin=4)
        if known.least is not None:
            check_images(name, known.least, 3)
            check_images(name, 301, 3)


@pytest.mark.parametrize(
    ("name", "side", "margin", "words"),
    [
        ("cvgg13", 48, 0, r"cvgg13 takes images of exactly 64 pixels a side, found image_size=48: set image_size=64"),
        ("cvgg13", 65, 0, r"exactly 64 .* found image_size=65"),
        ("cvgg13", 64, 4, r"exactly 64 .* found image_size=64, of which the augmentation leaves 60: set image_size=68"),
        ("fmpnet", 32, 0, "exactly 48"),
        ("incfer60", 60, 4, "exactly 60 .* leaves 56: set image_size=64"),
        ("alexnet", 62, 0, "at least 63 pixels a side, found image_size=62: set image_size=227"),
        ("alexnet", 64, 4, "at least 63 .* leaves 60"),
        ("resnet18", 7, 0, "at least 8"),
        ("preact_resnet18", 4, 0, "at least 8"),
    ],
)
def test_images_of_another_size_are_refused_in_words(name, side, margin, words):
    with pytest.raises(MethodError, match=words):
        check_images(name, side, 1, margin)


def test_images_of_two_channels_and_an_unknown_backbone_are_refused():
    with pytest.raises(MethodError, match=r"fmpnet takes grey \(channels=1\) or RGB .* found channels=2"):
        check_images("fmpnet", 48, 2)
    with pytest.raises(MethodError, match=r"found backbone\.name=vgg"):
        check_images("vgg", 48, 3)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_trunk_shares_nothing_with_its_start_that_training_changes(name):
    channels = BACKBONES[name].channels
    start, trunk = models._start(name, channels, None, 0), build_trunk(name, channels, None, 0)[0]
    kept, made = dict(start.named_modules()), dict(trunk.named_modules())
    assert list(kept) == list(made)
    plain = (int, float, bool, str, tuple, type, type(None), types.FunctionType, types.BuiltinFunctionType)
    for place, module in made.items():
        assert type(module) is type(kept[place])
        assert module is not kept[place]
        for attribute, value in vars(module).items():
            known = vars(kept[place])[attribute]
            assert isinstance(value, plain) or value is not known or not value, (place, attribute)
            if isinstance(value, (dict, set)):
                assert list(value) == list(known)
    states = [one.state_dict() for one in (start, trunk)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert all(value.stride() == states[1][key].stride() for key, value in states[0].items())
    shared = {value.data_ptr() for value in states[0].values()} & {value.data_ptr() for value in states[1].values()}
    assert not shared
    assert [p.requires_grad for p in trunk.parameters()] == [p.requires_grad for p in start.parameters()]
