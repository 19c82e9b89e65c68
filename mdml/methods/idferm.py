"""IDFERM: radial metric learning whose references are generated, a neutral face for every query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdml.companions import GeneratedReferences
from mdml.errors import MethodError
from mdml.hng import Recipe, Trained, train_generator
from mdml.hng.pairs import pair_up
from mdml.methods.rml import RML
from mdml.relatives import subjects_of
from mdml.session import Session, TrainingSet
from mdml.subspace import contact_sheet

SHOWN = 10  # Pairs on the contact sheet.


@dataclass(frozen=True)
class IDFERM(RML):
    """RML with the references of a hard-negative generator, trained for every fold on its training subjects (Liu et al. 2019).

    The generator is trained before the first epoch, and the references of all training images are generated once. The paper does not
    say what a neutral query's reference is: here, as of any other, the neutral face generated from its own image.

    Args:
        hng_epochs: of the generator, passes over the expressive training faces.
        hng_width: channels of its layers next to the image; 64 for the paper's size.
        hng_learning_rate: of its Adam.
        hng_batch_size: pairs a step.
        identity_weight: of L_id, that the generated face keeps the subject's identity.
        pixel_weight: of L_pixel.
        symmetry_weight: of L_sym.
        adversarial_weight: of L_GAN_Dec.
        laplacian: whether L_sym is taken on the images' Laplacian.
        vgg_weights: path of a VGG-16 state dict for L_feat; None for a substitute trained on the training faces.

    """

    hng_epochs: int = 100
    hng_width: int = 64
    hng_learning_rate: float = 2e-4
    hng_batch_size: int = 64
    identity_weight: float = 0.03
    pixel_weight: float = 0.01
    symmetry_weight: float = 0.3
    adversarial_weight: float = 0.1
    laplacian: bool = False
    vgg_weights: str | None = None

    needs_neutral: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.generator_recipe()

    def generator_recipe(self) -> Recipe:
        """How the generator is trained.

        Raises:
            MethodError: where an option is out of range.

        """
        names = {field.name for field in fields(self)}
        options = {field.name: field.name if field.name in names else f"hng_{field.name}" for field in fields(Recipe)}
        try:
            return Recipe(**{name: getattr(self, option) for name, option in options.items() if option in names})
        except MethodError as error:
            # It begins with the field's name, which is not always the option's.
            name, _, rest = str(error).partition(" of the generator")
            raise MethodError(f"method.{options[name]}{rest}") from None

    def session(self, training: TrainingSet) -> Session:
        """The generator and its references."""
        return GeneratedSession(training, self.generator_recipe())


class GeneratedSession(Session):
    """The generated references of one training: they are there once the first epoch begins.

    `notes` tells how they came about; `pictures` has a sheet of training faces: inputs, what was generated from them, true targets.

    Raises:
        MethodError: where there is no pair of an expressive and a neutral face of one training subject.

    """

    def __init__(self, training: TrainingSet, recipe: Recipe) -> None:
        super().__init__(training)
        self.recipe = recipe
        pair_up(training.labels, subjects_of(training), training.neutral)
        self.companions = GeneratedReferences(training.images[:0])

    def begin_epoch(self, epoch: int, epochs: int, embed: Callable[[], Tensor]) -> None:
        """Train the generator and generate all references, before the first epoch."""
        if epoch > 1:
            return
        training = self.training
        images = training.images[training.index.to(training.images.device)]
        trained = train_generator(
            images, training.labels, subjects_of(training), training.neutral, self.recipe, training.seed
        )
        references = trained.generate(images)
        self.companions = GeneratedReferences(references)
        self.notes |= trained.notes | {
            "references": "generated; a neutral query's own is generated from it as any other"
        }
        self.pictures["generated references"] = _sheet(images, references, trained)


def _sheet(images: Tensor, references: Tensor, trained: Trained) -> npt.NDArray[np.uint8]:
    """Rows of inputs, generated references and true targets, the inputs spread evenly over the subjects."""
    pairs = trained.pairs
    shown = torch.linspace(0, len(pairs.inputs) - 1, min(SHOWN, len(pairs.inputs))).long()
    inputs, targets = pairs.inputs[shown], pairs.targets[pairs.first[shown]]
    rows = [images[inputs.to(images.device)], references[inputs.to(images.device)], images[targets.to(images.device)]]
    places = torch.arange(3 * len(shown)).view(3, -1).numpy()
    return contact_sheet(torch.cat(rows), list(places), columns=len(shown))


METHOD = IDFERM
