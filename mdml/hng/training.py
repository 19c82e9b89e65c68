"""Training a hard-negative generator on the training faces of a fold, and generating references with it.

Source: Liu et al. 2019, Algorithm 1. That half of the pairs are mirrored, both faces of a pair alike, is our choice. All chance comes
from generators of the seed given, and a training on a CPU repeats bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdml.hng.features import Classifier, Phi, Psi, VggPhi, calibrate, freeze, train_classifier
from mdml.hng.model import Hng, Optimizers, Recipe, Terms
from mdml.hng.networks import SIDE
from mdml.hng.pairs import Pairs, pair_up
from mdml.train import TrainingError, derived_seed

Module = TypeVar("Module", bound=nn.Module)
CALIBRATION = 256  # Faces by which features are brought to unit deviation.


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained generator.

    Attributes:
        hng: its networks, in evaluation mode.
        pairs: what it was trained on.
        notes: substitutes and choices that a reader of the results must know.
        history: mean losses of every epoch.

    """

    hng: Hng
    pairs: Pairs
    notes: dict[str, str]
    history: list[dict[str, float]] = field(repr=False)

    @torch.no_grad()
    def generate(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """The neutral face of every image: (N, C, S, S) uint8 -> the same shape and type, on the same device."""
        side = images.shape[-1]
        parts = [from_faces(self.hng.generate(to_faces(part)), side) for part in images.split(batch_size)]
        return torch.cat(parts) if parts else images.clone()


def to_faces(images: Tensor) -> Tensor:
    """(N, C, S, S) uint8 -> (N, C, 64, 64) float32 in [-1, 1], resampled where S is not 64."""
    return _resize(images.float(), SIDE).clamp(0, 255) / 127.5 - 1


def from_faces(faces: Tensor, side: int) -> Tensor:
    """(N, C, 64, 64) float in [-1, 1] -> (N, C, side, side) uint8."""
    return _resize((faces + 1) * 127.5, side).clamp(0, 255).round().to(torch.uint8)


def _resize(images: Tensor, side: int) -> Tensor:
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


def train_generator(
    images: Tensor, labels: Tensor, subjects: Tensor, neutral: int | None, recipe: Recipe, seed: int
) -> Trained:
    """Train phi and psi, freeze them, then train a generator of neutral faces.

    Args:
        images: (M, C, S, S) uint8, on the device to train on; all of them are training faces.
        labels: (M,) int64 on the host.
        subjects: (M,) int64 on the host.
        neutral: the class of neutral faces.
        recipe: how.
        seed: of everything that is left to chance.

    Raises:
        MethodError: where there is no pair of an expressive and a neutral face of one subject.
        TrainingError: where a loss is not finite.

    """
    pairs = pair_up(labels, subjects, neutral)

    def faces(positions: Tensor) -> Tensor:
        chosen = to_faces(images[positions.to(images.device, non_blocking=True)])
        return chosen.contiguous(memory_format=torch.channels_last)

    people = subjects.unique(return_inverse=True)[1]
    phi, of_phi = _phi(images, labels, faces, recipe, seed)
    psi, of_psi = _psi(images, people, faces, recipe, seed)
    hng = _seeded("generator", seed, lambda: Hng(images.shape[1], recipe, phi, psi))
    hng.to(images.device).to(memory_format=torch.channels_last)
    history = _train(hng, pairs, faces, recipe, derived_generator("pairs", seed))
    hng.eval().requires_grad_(False)
    paired = f"{len(pairs.inputs)} expressive faces of {pairs.subjects} subjects, each with one of its subject's neutral faces"
    return Trained(
        hng, pairs, {"hng_pairs": f"{paired}, drawn anew in every epoch", "phi": of_phi, "psi": of_psi}, history
    )


def derived_generator(part: str, seed: int) -> torch.Generator:
    """A generator on the host for one part of the generator's training."""
    return torch.Generator().manual_seed(derived_seed("hng", part, seed))


def _train(
    hng: Hng, pairs: Pairs, faces: Callable[[Tensor], Tensor], recipe: Recipe, generator: torch.Generator
) -> list[dict[str, float]]:
    """All epochs: the mean losses of each."""
    steps = recipe.epochs * -(-len(pairs.inputs) // recipe.batch_size)
    optimizers, history = Optimizers(hng, steps), []
    hng.train()
    for epoch in range(1, recipe.epochs + 1):
        losses = []
        for batch in torch.randperm(len(pairs.inputs), generator=generator).split(recipe.batch_size):
            if len(batch) < 2 <= len(pairs.inputs):
                continue  # One face has no batch statistics.
            guides = pairs.targets[torch.randint(len(pairs.targets), (len(batch),), generator=generator)]
            mirrored = torch.rand(len(batch), generator=generator) < 0.5
            shown, targets = faces(pairs.inputs[batch]), faces(pairs.draw(batch, generator))
            terms = optimizers.step(_mirror(shown, mirrored), _mirror(targets, mirrored), faces(guides))
            losses.append(torch.stack(list(terms)))
        means = torch.stack(losses).mean(0)
        if not means.isfinite().all():
            raise TrainingError(f"A loss of the generator is not finite in epoch {epoch}.")
        history.append(dict(zip(Terms._fields, means.tolist(), strict=True)))
    return history


def _mirror(faces: Tensor, mirrored: Tensor) -> Tensor:
    """Flip the faces (B, C, H, W) that are to be mirrored, (B,) bool on the host, left to right."""
    return torch.where(mirrored.to(faces.device)[:, None, None, None], faces.flip(-1), faces)


def _phi(
    images: Tensor, labels: Tensor, faces: Callable[[Tensor], Tensor], recipe: Recipe, seed: int
) -> tuple[Phi, str]:
    """The frozen network of L_feat, and what it is."""
    if recipe.vgg_weights is not None:
        phi: Phi = VggPhi(recipe.vgg_weights).to(images.device)
        freeze(phi)
        note = f"first five convolutions of the VGG-16 of {recipe.vgg_weights}, in place of VGG-Face"
    else:
        phi = _seeded("phi", seed, lambda: Phi(images.shape[1])).to(images.device)
        right = _fit(phi, labels, int(labels.max()) + 1, faces, recipe, "phi", seed, images.device)
        note = (
            "first five convolutions of a softmax network for expressions trained on the training faces, in place of VGG-Face "
            f"({right:.0%} of them told right)"
        )
    calibrate(phi, faces(_sample(len(labels), "phi", seed)))
    return phi, note


def _psi(
    images: Tensor, people: Tensor, faces: Callable[[Tensor], Tensor], recipe: Recipe, seed: int
) -> tuple[Psi | None, str]:
    """The frozen network of L_id, or None where there is none, and what it is."""
    count = int(people.max()) + 1
    if recipe.identity_weight == 0 or count < 2:
        return (
            None,
            "none, no L_id" if recipe.identity_weight == 0 else "none, no L_id: one subject cannot be told apart",
        )
    psi = _seeded("psi", seed, lambda: Psi(images.shape[1])).to(images.device)
    right = _fit(psi, people, count, faces, recipe, "psi", seed, images.device)
    calibrate(psi, faces(_sample(len(people), "psi", seed)))
    return psi, (
        f"four max-feature-map convolutions trained to tell the {count} training subjects apart, in place of Light CNN-4 "
        f"({right:.0%} of the training faces told right)"
    )


def _fit(
    features: Phi | Psi,
    labels: Tensor,
    classes: int,
    faces: Callable[[Tensor], Tensor],
    recipe: Recipe,
    part: str,
    seed: int,
    device: torch.device,
) -> float:
    classifier = _seeded(f"{part} head", seed, lambda: Classifier(features, classes))
    classifier.to(device).to(memory_format=torch.channels_last)
    return train_classifier(classifier, faces, labels, recipe.feature_epochs, derived_generator(f"{part} order", seed))


def _sample(count: int, part: str, seed: int) -> Tensor:
    return torch.randperm(count, generator=derived_generator(f"{part} calibration", seed))[:CALIBRATION]


def _seeded(part: str, seed: int, make: Callable[[], Module]) -> Module:
    """Make a network whose start depends on the part and the seed alone; nothing is taken from the global stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("hng", part, seed))
        return make()
