"""Tiny trials of every method, whose numbers are kept in golden.json with the versions that they were made by.

A method's `numerics` (and mdml.train.NUMERICS, for what all methods share) is part of the key under which results are
reused: it must rise whenever numbers change, so that no table mixes old and new ones. When test_golden.py says so,
raise it and run

    python -m tests.mdml.golden

which writes golden.json anew, and refuses to where numbers moved under a version that did not.

Processors round differently, and a few steps of ResNet-18 on images of 16 pixels make 1e-7 grow to 3e-3: Adam's first
steps take the sign of gradients that nearly cancel. Hence ResNet-18 takes one step, a trunk of one convolution several.
"""

import json
import sys
from pathlib import Path

import torch

from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.methods import make_method, method_names
from mdml.train import NUMERICS, Recipe, Training
from tests.mdml import toy

FILE = Path(__file__).with_suffix(".json")
TOLERANCE = 1e-4
# Embeddings that no loss normalises start nearly in one direction: rounding grows to 1e-3 in their distances.
WIDER = dict.fromkeys(("dgms", "idferm", "random_triplet", "rml", "sgm", "tuplet_clusters"), 3e-3)
TRAIN, VALIDATION = torch.arange(14), torch.arange(14, 20)
# Default options, but where a training would take long.
OPTIONS = {"idferm": {"hng_epochs": 1, "hng_width": 4}}
TRIALS = {
    "resnet18": (toy.resnet, Recipe(epochs=1, batch_size=14, learning_rate=1e-5)),
    "small": (toy.network, Recipe(epochs=3, batch_size=5, learning_rate=1e-3, schedule="cosine", augmentation="paper")),
    "turns": (toy.network, Recipe(epochs=2, batch_size=6, learning_rate=1e-3, sampler="balanced", augmentation="none")),
}


def versions(name):
    return {"numerics": make_method(name, {}).numerics, "NUMERICS": NUMERICS}


def trial(name):
    """Every number of the trainings of a method with its OPTIONS on 14 images of 16 pixels, judged on 6."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    metrics: dict[str, float | None] = {}
    for kind, (network, recipe) in TRIALS.items():
        method = make_method(name, OPTIONS.get(name, {}))
        for key, value in _numbers(method, network(method), recipe).items():
            metrics[f"{kind}.{key}"] = value if value is None else float(f"{value:.8g}")
    torch.set_num_threads(threads)
    return metrics


def _numbers(method, network, recipe):
    images, labels, view = toy.images(), toy.labels(), augmentation(recipe.augmentation)
    found: dict[str, float | None] = {}
    watch = {"val": VALIDATION}
    for record in Training(network, method, recipe, images, labels, TRAIN, watch, 0, toy.session(method, TRAIN)):
        epoch, rows = record["epoch"], record["slices"]
        numbers = {key: value for key, value in record.items() if key not in ("epoch", "slices")}
        found |= {f"epoch{epoch}.{key}": value for key, value in numbers.items() if not key.endswith("seconds")}
        for row in {0: rows[0], len(rows) - 1: rows[-1]}.values():
            own = {key: value for key, value in row.items() if key not in ("epoch", "slice")}
            found |= {f"epoch{epoch}.slice{row['slice']}.{key}": value for key, value in own.items()}
    memory, queries = (evaluation.embed(network, method, images, labels, index, view) for index in (TRAIN, VALIDATION))
    if method.prediction == "knn":
        queries = evaluation.with_neighbours(queries, memory, toy.CLASSES)
    return found | {f"scores.{key}": value for key, value in evaluation.scores(queries, memory).items()}


def moved(kept, found, tolerance=TOLERANCE):
    """Names of the numbers that differ by more than the tolerance, are new, or are gone."""

    def differ(a, b):
        return a is not b and (a is None or b is None or abs(a - b) > tolerance * max(abs(a), abs(b), 1e-2))

    return sorted(key for key in kept | found if key not in kept or key not in found or differ(kept[key], found[key]))


def read():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main():
    kept, new = read(), {}
    for name in method_names():
        new[name] = {"versions": versions(name), "metrics": trial(name)}
        same_versions = name in kept and kept[name]["versions"] == versions(name)
        # A score that is new says nothing of the numbers that were there.
        changed = same_versions and moved(kept[name]["metrics"], new[name]["metrics"], WIDER.get(name, TOLERANCE))
        if changed and kept[name]["metrics"].keys() & changed:
            return f"The numbers of {name} moved, its versions did not: raise its `numerics` or mdml.train.NUMERICS."
    FILE.write_text(json.dumps(new, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
