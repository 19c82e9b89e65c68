"""The hard-negative generator: its networks, what each of them is told by which loss, and one step of its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mdml.errors import MethodError
from mdml.hng import losses
from mdml.hng.features import Phi, Psi
from mdml.hng.networks import SIDE, WIDTH, Decoder, Discriminator, Encoder


@dataclass(frozen=True)
class Recipe:
    """How the generator is trained.

    The weights are those of Liu et al. 2019, whose list is garbled in the text at hand: w1 follows from its Table 1 and w2 from its
    words, w3 and w4 from what is left, so that only w4 is really open. Epochs, width, optimiser and batch are our choice.

    Args:
        epochs: passes over the expressive faces.
        width: channels of the layers next to the image; 64 for the paper's size.
        identity_weight: w1, of L_id; at 0 no network is trained for it.
        pixel_weight: w2, of L_pixel.
        symmetry_weight: w3, of L_sym.
        adversarial_weight: w4, of L_GAN_Dec; at 0 there is no discriminator's step.
        laplacian: take L_sym on the images' Laplacian.
        feature_epochs: passes over the training faces by which the substitutes of the frozen networks are trained.
        vgg_weights: path of a VGG-16 state dict for phi; None trains the substitute.
        learning_rate: of the three Adam optimisers (0.5, 0.999).
        batch_size: pairs a step.

    """

    epochs: int = 100
    width: int = WIDTH
    identity_weight: float = 0.03
    pixel_weight: float = 0.01
    symmetry_weight: float = 0.3
    adversarial_weight: float = 0.1
    laplacian: bool = False
    feature_epochs: int = 10
    vgg_weights: str | None = None
    learning_rate: float = 2e-4
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("width", 1), ("feature_epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise MethodError(f"{name} of the generator must be at least {least}, found {getattr(self, name)}.")
        if not 0 < self.learning_rate < float("inf"):
            raise MethodError(
                f"learning_rate of the generator must be positive and finite, found {self.learning_rate}."
            )
        for name in ("identity_weight", "pixel_weight", "symmetry_weight", "adversarial_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise MethodError(
                    f"{name} of the generator must be finite and not negative, found {getattr(self, name)}."
                )


class Terms(NamedTuple):
    """The losses of a step, all (): `feature`, `identity`, `pixel`, `symmetry`, `decoder` unweighted, and `discriminator`."""

    feature: Tensor
    identity: Tensor
    pixel: Tensor
    symmetry: Tensor
    decoder: Tensor
    discriminator: Tensor


class Hng(nn.Module):
    """Encoder, decoder and discriminator beside the frozen phi and psi (None without L_id)."""

    def __init__(self, channels: int, recipe: Recipe, phi: Phi, psi: Psi | None) -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder = Encoder(channels, recipe.width)
        self.decoder = Decoder(channels, recipe.width)
        self.discriminator = Discriminator(channels, recipe.width)
        self.phi, self.psi = phi, psi

    def train(self, mode: bool = True) -> Hng:
        """As every module, but phi and psi stay in evaluation mode."""
        super().train(mode)
        for frozen in (self.phi, self.psi):
            if frozen is not None:
                frozen.eval()
        return self

    def generate(self, faces: Tensor) -> Tensor:
        """The neutral face of every face: (B, channels, 64, 64) in [-1, 1] -> the same."""
        if faces.shape[-2:] != (SIDE, SIDE):
            raise MethodError(f"Expected faces of {SIDE} x {SIDE} pixels, found {tuple(faces.shape)}.")
        generated: Tensor = self.decoder(self.encoder(faces))
        return generated

    def terms(self, faces: Tensor, targets: Tensor, guides: Tensor) -> Terms:
        """The losses of a batch, each with a graph that reaches the networks that it is to teach.

        `feature`, `identity` and `pixel` reach encoder and decoder; `symmetry` and `decoder` reach the decoder alone, since for them
        the code is cut off and decoded a second time (`decoder` reaches the discriminator too, which the step must not update by
        it); `discriminator` reaches the discriminator alone.

        Args:
            faces: x (B, channels, 64, 64) in [-1, 1].
            targets: y, of the same shape.
            guides: g (G, channels, 64, 64).

        """
        recipe, none = self.recipe, faces.new_zeros(())
        code = self.encoder(faces)
        generated = self.decoder(code)
        with torch.no_grad():
            goal = self.phi(targets)
            own = self.psi(faces) if self.psi is not None else ()
        identity = losses.identity_loss(own, self.psi(generated)) if self.psi is not None else none
        symmetry, decoder, discriminator = none, none, none
        if recipe.symmetry_weight or recipe.adversarial_weight:
            again = self.decoder(code.detach())
            symmetry = losses.symmetry_loss(again, recipe.laplacian)
            if recipe.adversarial_weight:
                decoder = losses.decoder_loss(self.discriminator(again))
                discriminator = losses.discriminator_loss(
                    self.discriminator(guides), self.discriminator(generated.detach())
                )
        return Terms(
            losses.feature_loss(self.phi(generated), goal),
            identity,
            losses.pixel_loss(generated, targets),
            symmetry,
            decoder,
            discriminator,
        )

    def objective(self, terms: Terms) -> Tensor:
        """What encoder and decoder minimise: (). The encoder meets the first three alone, since no other reaches it."""
        recipe = self.recipe
        both = terms.feature + recipe.identity_weight * terms.identity + recipe.pixel_weight * terms.pixel
        return both + recipe.symmetry_weight * terms.symmetry + recipe.adversarial_weight * terms.decoder


class Optimizers:
    """Adam for encoder and decoder, and for the discriminator; the rate falls as a cosine to 0 (our choice).

    Args:
        hng: whose networks learn.
        steps: of the whole training.

    """

    def __init__(self, hng: Hng, steps: int) -> None:
        self.hng = hng
        self.makers = [*hng.encoder.parameters(), *hng.decoder.parameters()]
        self.judges = list(hng.discriminator.parameters())
        rate, betas = hng.recipe.learning_rate, (0.5, 0.999)
        self.make = torch.optim.Adam(self.makers, lr=rate, betas=betas)
        self.judge = torch.optim.Adam(self.judges, lr=rate, betas=betas)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR
        self.schedules = [cosine(optimizer, steps) for optimizer in (self.make, self.judge)]

    def step(self, faces: Tensor, targets: Tensor, guides: Tensor) -> Terms:
        """One step of all three networks, each on its own losses of one and the same batch."""
        terms = self.hng.terms(faces, targets, guides)
        adversarial = self.hng.recipe.adversarial_weight > 0
        _put(self.makers, torch.autograd.grad(self.hng.objective(terms), self.makers))
        if adversarial:
            _put(self.judges, torch.autograd.grad(terms.discriminator, self.judges))
        self.make.step()
        self.judge.step()  # Without gradients, nothing moves.
        for schedule in self.schedules:
            schedule.step()
        return Terms(*(term.detach() for term in terms))


def _put(parameters: list[nn.Parameter], gradients: tuple[Tensor, ...]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
