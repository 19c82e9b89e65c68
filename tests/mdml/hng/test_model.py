"""Which network learns from which loss."""

import dataclasses

import pytest
import torch

from mdml.errors import MethodError
from mdml.hng import Hng, Recipe
from mdml.hng.features import Phi, Psi, freeze
from mdml.hng.model import Optimizers, Terms
from mdml.hng.networks import SIDE

NETWORKS = ("encoder", "decoder", "discriminator")
# Of each loss, the networks that its gradient may reach; the discriminator must not be updated by `decoder`.
REACH = {
    "feature": {"encoder", "decoder"},
    "identity": {"encoder", "decoder"},
    "pixel": {"encoder", "decoder"},
    "symmetry": {"decoder"},
    "decoder": {"decoder", "discriminator"},
    "discriminator": {"discriminator"},
}


def made(**options):
    torch.manual_seed(0)
    recipe = Recipe(width=2, **options)
    phi, psi = Phi(1, 2), Psi(1) if recipe.identity_weight else None
    for frozen in (phi, psi):
        if frozen is not None:
            freeze(frozen)
    return Hng(1, recipe, phi, psi).train()


def batch(count=4, seed=0):
    return tuple(torch.rand(3, count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1)


def gradients(hng, loss, network):
    parameters = list(getattr(hng, network).parameters())
    return torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)


def reached(hng, loss):
    return {name for name in NETWORKS if any(g is not None and g.any() for g in gradients(hng, loss, name))}


def state(hng):
    return {name: tensor.clone() for name, tensor in hng.state_dict().items()}


def changed(before, hng):
    return {name.split(".")[0] for name, tensor in hng.state_dict().items() if not torch.equal(before[name], tensor)}


@pytest.mark.parametrize("name", REACH)
def test_each_loss_reaches_the_networks_that_it_is_to_teach(name):
    hng = made()
    assert reached(hng, getattr(hng.terms(*batch()), name)) == REACH[name]


def test_the_encoder_has_the_gradient_of_the_first_three_losses_alone():
    hng = made()
    terms = hng.terms(*batch())
    taught = terms.feature + 0.03 * terms.identity + 0.01 * terms.pixel
    for found, expected in zip(
        gradients(hng, hng.objective(terms), "encoder"), gradients(hng, taught, "encoder"), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_the_decoder_has_the_gradient_of_all_five():
    hng = made()
    terms = hng.terms(*batch())
    taught = sum(w * t for w, t in zip((1, 0.03, 0.01, 0.3, 0.1), terms[:5], strict=True))
    for found, expected in zip(
        gradients(hng, hng.objective(terms), "decoder"), gradients(hng, taught, "decoder"), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_step_moves_the_three_networks_and_leaves_the_frozen_ones():
    hng = made()
    before = state(hng)
    Optimizers(hng, 10).step(*batch())
    assert changed(before, hng) == set(NETWORKS)
    assert not any(p.requires_grad for frozen in (hng.phi, hng.psi) for p in frozen.parameters())
    assert not hng.phi.training
    assert not hng.psi.training


def test_every_parameter_of_the_three_moves():
    hng = made()
    before = state(hng)
    Optimizers(hng, 10).step(*batch())
    for network in NETWORKS:
        for name, parameter in getattr(hng, network).named_parameters():
            assert not torch.equal(before[f"{network}.{name}"], parameter), name


def test_the_discriminator_moves_by_its_own_loss_alone():
    """One step by hand of Adam, whose first step is the learning rate times the sign of the gradient."""
    hng = made()
    before = state(hng)
    terms = hng.terms(*batch())
    own = gradients(hng, terms.discriminator, "discriminator")
    optimizers = Optimizers(hng, 10)
    optimizers.step(*batch())
    for (name, parameter), gradient in zip(hng.discriminator.named_parameters(), own, strict=True):
        large = gradient.abs() > 1e-5
        moved = (parameter - before[f"discriminator.{name}"])[large]
        torch.testing.assert_close(moved, -2e-4 * gradient.sign()[large], rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("option", "still"),
    [("adversarial_weight", {"discriminator"}), ("symmetry_weight", set()), ("identity_weight", set())],
)
def test_a_weight_of_zero_leaves_its_loss_out(option, still):
    hng = made(**{option: 0.0})
    before = state(hng)
    Optimizers(hng, 10).step(*batch())
    assert changed(before, hng) == set(NETWORKS) - still
    if option == "identity_weight":
        assert hng.psi is None


def test_the_objective_weighs_the_losses():
    hng = made(identity_weight=2.0, pixel_weight=3.0, symmetry_weight=5.0, adversarial_weight=7.0)
    terms = Terms(*torch.tensor([1.0, 10, 100, 1e3, 1e4, 1e5]).unbind())
    assert hng.objective(terms) == 1 + 20 + 300 + 5e3 + 7e4


def test_the_defaults_are_the_papers():
    recipe = dataclasses.asdict(Recipe())
    weights = [recipe[f"{name}_weight"] for name in ("identity", "pixel", "symmetry", "adversarial")]
    assert weights == [0.03, 0.01, 0.3, 0.1]
    assert (recipe["width"], recipe["learning_rate"], recipe["batch_size"]) == (64, 2e-4, 64)


def test_the_learning_rate_falls_to_nothing():
    hng = made()
    optimizers = Optimizers(hng, 2)
    rates = []
    for _ in range(2):
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in (optimizers.make, optimizers.judge)])
        optimizers.step(*batch())
    assert rates == [[2e-4, 2e-4], pytest.approx([1e-4, 1e-4])]
    before = {name: parameter.clone() for name, parameter in hng.named_parameters()}
    optimizers.step(*batch())
    assert all(torch.equal(before[name], parameter) for name, parameter in hng.named_parameters())


def test_other_sizes_are_told():
    with pytest.raises(MethodError, match="64 x 64 pixels, found"):
        made().generate(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("epochs", 0, "epochs of the generator must be at least 1, found 0"),
        ("width", 0, "width of the generator must be at least 1, found 0"),
        ("pixel_weight", -1.0, "pixel_weight of the generator must be finite and not negative, found -1.0"),
        (
            "identity_weight",
            float("nan"),
            "identity_weight of the generator must be finite and not negative, found nan",
        ),
    ],
)
def test_options_out_of_range_are_told(option, value, words):
    with pytest.raises(MethodError, match=words):
        Recipe(**{option: value})
