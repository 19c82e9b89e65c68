"""The trunk, the heads on it, and where they start."""

import os
import pickle

import pytest
import torch
import torchvision
from torch import nn

from mdml import MethodError, models
from mdml.methods import make_method, method_names
from mdml.models import build_trunk
from mdml.models.resnet import resnet18
from mdml.train import build_network

CPU = torch.device("cpu")


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def network(name="softmax", seed=0, weights=None, channels=3):
    return build_network(make_method(name, {}), "resnet18", weights, channels, 7, seed, CPU)


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("softmax", {}, 133_127),
        ("triplet", {}, 133_127),
        ("mul_dml", {"slices": 1, "thresholds": [0.65]}, 133_127),
        ("mul_dml", {"slices": 4}, 532_487),
        ("mul_dml", {"slices": 7}, 931_847),
        ("mul_dml", {"slices": 13}, 1_730_567),
        ("mul_dml", {"slices": 4, "total_dim": 256}, 133_127),
    ],
)
def test_parameters_of_a_head_for_seven_classes(name, options, count):
    """512 x 256 N + 256 N to the slices, 256 N x 7 + 7 to the classes: 133,120 N + 7."""
    assert parameters(make_method(name, options).head(512, 7)) == count


@pytest.mark.parametrize(("channels", "count"), [(3, 11_176_512), (1, 11_176_512 - 2 * 64 * 49)])
@pytest.mark.parametrize("side", [16, 33])
def test_the_trunk(channels, count, side):
    trunk, width = build_trunk("resnet18", channels, None, 0)
    assert parameters(trunk) == count
    assert trunk(torch.zeros(2, channels, side, side)).shape == (2, width) == (2, 512)


def same(one, other, prefix=""):
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith(prefix))


def test_all_methods_of_a_seed_start_from_one_trunk():
    first = network("softmax")
    for name in method_names():
        assert same(network(name).trunk, first.trunk)


def test_a_start_depends_on_the_seed_alone():
    """Drawn anew, not taken from those that are kept."""
    torch.manual_seed(1)
    state = torch.get_rng_state()
    models._start.cache_clear()
    first = network("triplet", seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    models._start.cache_clear()
    assert same(network("triplet", seed=3), first)
    other = network("triplet", seed=4)
    assert not same(other, first, "trunk.conv1")
    assert not same(other, first, "head.embed")


def test_a_trained_trunk_does_not_change_the_next_start():
    first = network()
    kept = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor.add_(1)
    second = network().state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in kept.items())


def filled(channels=3):
    """A state dict of torchvision's ResNet-18, classifier included, with a number of its own in every tensor."""
    reference = torchvision.models.resnet18()
    if channels == 1:
        reference.conv1 = nn.Conv2d(1, 64, kernel_size=7, bias=False)
    generator = torch.Generator().manual_seed(0)
    state = reference.state_dict()
    return {n: torch.rand(t.shape, generator=generator) if t.is_floating_point() else t for n, t in state.items()}


@pytest.mark.parametrize("keep_classifier", [True, False])
def test_weights_of_a_local_file(tmp_path, keep_classifier):
    state = filled()
    wanted = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    torch.save(state if keep_classifier else wanted, tmp_path / "resnet.pt")
    found = network(weights=str(tmp_path / "resnet.pt")).trunk.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_one_channel_takes_the_sum_of_the_three_filters(tmp_path):
    """So that a grey image gives what its three equal channels gave."""
    torch.save(filled(), tmp_path / "resnet.pt")
    grey = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    one, three = (resnet18(channels, str(tmp_path / "resnet.pt")).get_submodule("conv1") for channels in (1, 3))
    torch.testing.assert_close(one(grey), three(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_weights_of_one_channel_fit_one_channel_only(tmp_path):
    state = filled(channels=1)
    torch.save(state, tmp_path / "grey.pt")
    assert torch.equal(resnet18(1, str(tmp_path / "grey.pt")).get_parameter("conv1.weight"), state["conv1.weight"])
    with pytest.raises(MethodError, match=r"grey\.pt do not fit a ResNet-18: size mismatch for conv1\.weight"):
        resnet18(3, str(tmp_path / "grey.pt"))


class Payload:
    """Pickled code: runs on loading, unless loading refuses it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


def test_a_file_of_pickled_code_is_refused_and_not_run(tmp_path):
    for name, save in (("torch.pt", torch.save), ("plain.pkl", lambda o, p: p.write_bytes(pickle.dumps(o)))):
        path, mark = tmp_path / name, tmp_path / "mark"
        save({"conv1.weight": Payload(str(mark))}, path)
        with pytest.raises(MethodError, match="must hold a state dict of tensors"):
            network(weights=str(path))
        assert not mark.exists()
    pickle.loads((tmp_path / "plain.pkl").read_bytes())
    assert mark.exists(), "the code must be one that would have run"


def test_wrong_weights_are_refused_with_a_reason(tmp_path):
    missing = str(tmp_path / "none.pt")
    with pytest.raises(
        MethodError, match=r'must be null, "imagenet" or the path of a state dict, .* no file .*none\.pt'
    ):
        network(weights=missing)
    cases = {
        "text.pt": (lambda p: p.write_text("weights"), "must hold a state dict of tensors"),
        "tensor.pt": (lambda p: torch.save(torch.zeros(3), p), "must hold a state dict of tensors"),
        "nested.pt": (lambda p: torch.save({"state_dict": filled()}, p), "do not fit a ResNet-18: Missing key"),
        "half.pt": (lambda p: torch.save(dict(list(filled().items())[:9]), p), "do not fit a ResNet-18: Missing key"),
        "more.pt": (
            lambda p: torch.save(filled() | {"extra": torch.zeros(1)}, p),
            "do not fit a ResNet-18: Unexpected key",
        ),
    }
    for name, (write, message) in cases.items():
        write(tmp_path / name)
        with pytest.raises(MethodError, match=message):
            network(weights=str(tmp_path / name))


def test_imagenet_weights_that_cannot_be_fetched_are_refused_in_words(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.__class__, "get_state_dict", fail)
    with pytest.raises(
        MethodError, match=r"could not fetch its ImageNet weights \(no route to host\): name a local file"
    ):
        resnet18(3, "imagenet")


def test_an_unknown_backbone_is_refused():
    with pytest.raises(
        MethodError, match=r"out of resnet18, preact_resnet18, .*, incfer60, found backbone\.name=resnet19"
    ):
        build_trunk("resnet19", 3, None, 0)
