import pytest
import torch
from torch import nn

from mdml.errors import MethodError
from mdml.hng.features import Classifier, MaxFeatureMap, Phi, Psi, VggPhi, calibrate, train_classifier
from mdml.hng.networks import CODE, SIDE, WIDTH, Decoder, Discriminator, Encoder


def faces(count=3, channels=1, seed=0):
    return torch.rand(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [2, 5])
def test_shapes(channels, width):
    code = Encoder(channels, width)(faces(3, channels))
    assert code.shape == (3, CODE)
    generated = Decoder(channels, width)(code)
    assert generated.shape == (3, channels, SIDE, SIDE)
    assert generated.abs().max() <= 1
    assert Discriminator(channels, width)(generated).shape == (3,)


def test_the_paper_sized_networks_layer_by_layer():
    """Parameters counted by hand: 4 x 4 kernels between 1, 64, 128, 256, 512 channels; a dense layer of 8192; norms of 2 a channel."""
    kernels = 16 * (64 * 128 + 128 * 256 + 256 * 512)
    norms = 2 * (128 + 256 + 512)
    down = 16 * 64 + 64 + kernels + norms
    counts = {
        Encoder: down + 8192 * 256 + 256,
        Decoder: 256 * 8192 + 8192 + kernels + 2 * (256 + 128 + 64) + 16 * 64 + 1,
        Discriminator: down + 8192 + 1,
    }
    for network, count in counts.items():
        assert sum(p.numel() for p in network(1, WIDTH).parameters()) == count
    assert [tuple(m.weight.shape) for m in Encoder(1).modules() if isinstance(m, nn.Conv2d)] == [
        (64, 1, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4)
    ]  # fmt: skip
    assert all(m.negative_slope == 0.1 for m in Decoder(1).modules() if isinstance(m, nn.LeakyReLU))
    for network in counts:
        weighty = [
            m for m in network(1, 2) if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d))
        ]
        assert sum(isinstance(m, nn.BatchNorm2d) for m in weighty) == 3
        assert not isinstance(weighty[1], nn.BatchNorm2d)  # Not after the first layer,
        assert not isinstance(weighty[-1], nn.BatchNorm2d)  # nor after the last.


def test_the_discriminator_keeps_no_statistics():
    assert not list(Discriminator(1, 2).buffers())


@pytest.mark.parametrize("channels", [1, 3])
def test_phi_is_five_convolutions_to_a_quarter_of_the_side(channels):
    phi = Phi(channels, 4)
    assert phi(faces(2, channels)).shape == (2, 16, 16, 16)
    assert [m.out_channels for m in phi.modules() if isinstance(m, nn.Conv2d)] == [4, 4, 8, 8, 16]
    assert isinstance(phi.layers[-1], nn.Conv2d)


def vgg_state(seed=0):
    widths, layers = (3, 64, 64, 128, 128, 256), (0, 2, 5, 7, 10)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for layer, inner, outer in zip(layers, widths[:-1], widths[1:], strict=True):
        state[f"features.{layer}.weight"] = torch.randn(outer, inner, 3, 3, generator=generator) / 30
        state[f"features.{layer}.bias"] = torch.randn(outer, generator=generator)
    return state


def test_phi_of_a_vgg_file(tmp_path):
    path = tmp_path / "vgg16.pt"
    torch.save(vgg_state() | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    phi = VggPhi(str(path))
    shown = faces(2)
    state, values = vgg_state(), (shown.expand(-1, 3, -1, -1) + 1) / 2
    values = (values - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    for layer in (0, 2, 5, 7, 10):
        values = nn.functional.conv2d(
            values, state[f"features.{layer}.weight"], state[f"features.{layer}.bias"], padding=1
        )
        if layer != 10:
            values = values.relu()
        if layer in (2, 7):
            values = nn.functional.max_pool2d(values, 2)
    torch.testing.assert_close(phi(shown), values)
    torch.testing.assert_close(phi(shown.expand(-1, 3, -1, -1)), values)


def test_a_vgg_file_that_is_none_is_told(tmp_path):
    with pytest.raises(MethodError, match="there is no file /nowhere"):
        VggPhi("/nowhere")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(MethodError, match="torchvision's VGG-16"):
        VggPhi(str(tmp_path / "other.pt"))
    torch.save(vgg_state() | {"features.5.weight": torch.zeros(2, 2, 3, 3)}, tmp_path / "odd.pt")
    with pytest.raises(MethodError, match=r"expected a convolution of shape \(128, 64, 3, 3\), found \(2, 2, 3, 3\)"):
        VggPhi(str(tmp_path / "odd.pt"))


def test_psi_gives_its_last_two_layers_and_keeps_the_larger_half():
    maps, dense = Psi(1)(faces(3))
    assert maps.shape == (3, 64, 4, 4)
    assert dense.shape == (3, 128)
    assert MaxFeatureMap()(torch.tensor([[1.0, 5, 4, 2]])).tolist() == [[4, 5]]


@pytest.mark.parametrize("make", [lambda: Phi(1, 4), lambda: Psi(1)])
def test_calibrated_layers_deviate_by_one_from_their_mean_over_the_faces(make):
    network = make().eval()
    for _ in range(2):
        calibrate(network, faces(8))
        found = network(faces(8))
        for layer in found if isinstance(found, tuple) else (found,):
            assert (layer - layer.mean(0)).square().mean().item() == pytest.approx(1, abs=1e-4)


def test_a_classifier_learns_and_its_features_are_frozen_then():
    labels = torch.arange(48) % 2
    shown = faces(48) * 0.2 + labels[:, None, None, None].float()
    features = Phi(1)
    classifier = Classifier(features, 2)
    right = train_classifier(classifier, lambda batch: shown[batch], labels, 8, torch.Generator().manual_seed(0), 12)
    assert right > 0.9
    assert not features.training
    assert not any(p.requires_grad for p in features.parameters())
