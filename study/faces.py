"""The faces of a trial on its device, with the test fold under seal."""

from __future__ import annotations

import numpy as np
import torch

from datasets import FaceSet
from datasets.splits import Indices, Split, split_fold
from study.spec import TrialSpec


class Faces:
    """A FaceSet on the device, in which a test fold can be sealed.

    Where the seal is, pixels are 0 and labels -1, in the tensors and in `set`: nothing that is handed these faces can learn from the test
    fold. A trial seals its fold before anything else and breaks the seal in one place, after it wrote an audit row.

    Args:
        faces: the data set; it is not changed.
        device: where the tensors go. On a CPU the pixels stay in the mapped file, but for the pages of sealed images.

    Attributes:
        set: the FaceSet as far as it may be seen.
        images: uint8 (N, C, S, S).
        labels: int64 (N,).

    """

    def __init__(self, faces: FaceSet, device: torch.device) -> None:
        self._source, self.set = faces, faces.private()
        self.images = torch.from_numpy(self.set.images).permute(0, 3, 1, 2).to(device)
        self.labels = torch.tensor(faces.labels, device=device)
        self._sealed: Indices = np.zeros(0, np.int64)

    def split_and_seal(self, spec: TrialSpec) -> Split:
        """Split for the fold of a trial, and seal its test fold instead of any that was sealed before.

        Subjects are dealt to folds by the classes of all of them, so that this alone reads the labels of the test fold.

        Raises:
            DatasetError: as `split_fold`.

        """
        split = split_fold(
            self._source,
            fold=spec.fold,
            folds=spec.folds,
            rule=spec.fold_rule,
            validation_fraction=spec.validation_fraction,
        )
        self.unseal()
        self._write(split.test, np.zeros((1, *self.set.images.shape[1:]), np.uint8), np.full(1, -1, np.int64))
        self._sealed = split.test
        return split

    def unseal(self) -> None:
        """Put back what was sealed."""
        self._write(self._sealed, self._source.images[self._sealed], self._source.labels[self._sealed])
        self._sealed = self._sealed[:0]

    def _write(self, index: Indices, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.set.images[index], self.set.labels[index] = pixels, labels
        place = torch.from_numpy(index).to(self.labels.device)
        self.labels[place] = torch.from_numpy(labels).to(self.labels.device)
        # On a CPU the tensor is the array itself.
        if self.images.device.type != "cpu":
            self.images[place] = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.images.device)
