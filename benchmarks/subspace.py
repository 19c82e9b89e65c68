"""What the groups of an embedding are: sub-classes found level by level (dgms) against one Gaussian a class (dgms with one level).

    python benchmarks/subspace.py --sheet groups.png

Both train ResNet-18 on the same drawn faces in the same order with the same steps; then a mixture of 40 Gaussians is fitted by EM to all
embedded images, of people seen and unseen, as Marrero-Fernandez et al. (2020, figure 8) do. Printed: the normalised mutual information
(arithmetic mean) of its groups with expression and with person, the share of each group's largest expression (purity), and the accuracy
of 11 nearest training embeddings for unseen people. A group of the sheet is a row: its medoid, and the 15 images nearest to that.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import KNeighborsClassifier

from datasets import open_dataset
from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.methods import make_method
from mdml.session import TrainingSet
from mdml.subspace import contact_sheet, fit_mixture, representatives
from mdml.train import Recipe, Training, build_network

LEVELS = 5


def main() -> None:
    """Train, group, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--subjects", type=int, default=40, help="people drawn; the last quarter is not trained on")
    parser.add_argument("--components", type=int, default=40)
    parser.add_argument("--sheet", type=Path, help="PNG to write the groups of dgms to; the sub-classes go beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        options = {"subjects": arguments.subjects, "per_class": 3}
        faces = open_dataset("synthetic", image_size=48, channels=1, cache=cache, **options)
        images = torch.from_numpy(np.array(faces.images)).permute(0, 3, 1, 2)
        labels = torch.from_numpy(np.array(faces.labels))
        people = np.unique(faces.subjects, return_inverse=True)[1]
    seen = people < 3 * arguments.subjects // 4
    index, every = torch.from_numpy(np.flatnonzero(seen)), torch.arange(len(labels))
    recipe = Recipe(arguments.epochs, 70, 1e-3, "cosine", augmentation="light")
    device, view = torch.device("cpu"), augmentation(recipe.augmentation)
    print(
        f"{len(index)} images of {people[seen].max() + 1} people train {arguments.epochs} epochs, {(~seen).sum()} of others do not; "
        f"{arguments.components} groups of all; cpu ({platform.processor() or platform.machine()}), torch {torch.__version__}"
    )
    print("\n| levels | NMI with expression | NMI with person | purity | kNN accuracy of the unseen |")
    print("|---:|---:|---:|---:|---:|")
    for levels in (1, LEVELS):
        method = make_method("dgms", {"levels": levels})
        network = build_network(method, "resnet18", None, 1, len(faces.classes), 0, device)
        session = method.session(TrainingSet(images, labels[index], None, index, len(faces.classes), None, 0))
        for _ in Training(network, method, recipe, images, labels, index, {}, 0, session):
            pass
        vectors = evaluation.embed(network, method, images, labels, every, view).slices[0].numpy()
        groups = fit_mixture(vectors, arguments.components, 0).members
        knn = KNeighborsClassifier(evaluation.NEIGHBOURS).fit(vectors[seen], labels[index])
        print(
            f"| {levels} | {normalized_mutual_info_score(labels, groups):.3f} | {normalized_mutual_info_score(people, groups):.3f} "
            f"| {contingency_matrix(labels, groups).max(0).sum() / len(groups):.3f} "
            f"| {knn.score(vectors[~seen], labels[torch.from_numpy(~seen)]):.3f} |",
            flush=True,
        )
        if arguments.sheet and levels == LEVELS:
            rows = list(representatives(vectors, groups).values())
            Image.fromarray(contact_sheet(images, rows)).save(arguments.sheet)
            beside = arguments.sheet.with_stem(f"{arguments.sheet.stem}-sub-classes")
            Image.fromarray(session.pictures["sub-classes"]).save(beside)
            print("\n".join(f"{name}: {note}" for name, note in session.notes.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
