"""A few steps of a training, to know how long all of them will take; what is trained is thrown away."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import torch

from mdml.session import TrainingSet
from mdml.train import Training, build_network
from study.faces import Faces
from study.forecast import Sample
from study.spec import TrialSpec

# Batches of an epoch that is tried, and epochs: the first one warms up and is not counted.
_BATCHES, _EPOCHS = 2, 3


def measure(spec: TrialSpec, faces: Faces) -> list[Sample]:
    """Seconds of a trial like `spec`, of every epoch that was tried; its test fold stays sealed.

    An epoch has two batches, of classes in turn. The validation images that it is judged on give the seconds of an evaluation.
    """
    start = time.perf_counter()
    split, method, device = faces.split_and_seal(spec), spec.make_method(), faces.images.device
    network = build_network(
        method, spec.backbone, spec.weights, spec.channels, len(faces.set.classes), spec.seed, device
    )
    setup = time.perf_counter() - start
    labels = faces.set.labels[split.train]
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    chosen = split.train[np.sort(np.argsort(rank, kind="stable")[: max(_BATCHES * spec.batch_size, 2)])]
    index = torch.from_numpy(chosen)
    subjects = np.unique(faces.set.subjects, return_inverse=True)[1]
    session = method.session(
        TrainingSet(
            faces.images, torch.from_numpy(faces.set.labels[chosen]), torch.from_numpy(subjects[chosen]), index,
            len(faces.set.classes), faces.set.neutral, spec.seed,
        )
    )  # fmt: skip
    judged = (split.validation if len(split.validation) else chosen)[: 4 * spec.batch_size]
    training = Training(
        network, method, replace(spec.recipe(), epochs=max(spec.epochs, _EPOCHS)), faces.images, faces.labels, index,
        {"val": torch.from_numpy(judged)}, spec.seed, session,
    )  # fmt: skip
    samples = []
    for record in itertools.islice(training, 1, _EPOCHS):
        look = (record["seconds"] - record["training_seconds"]) / len(judged)
        step = record["training_seconds"] / len(chosen)
        validation, images = len(split.validation), len(split.train)
        every = images + validation + len(split.test)
        samples.append(Sample(setup, step + look * validation / images, look * every / images))
    return samples
