"""Exported models on a trunk of one convolution, a thousand times smaller than ResNet-18."""

import hashlib
import json

import torch
from torch import nn

from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.description import Description
from mdml.exported import DESCRIPTION, TENSORS, Memory, save
from mdml.methods import make_method
from mdml.models import BACKBONES, Backbone
from mdml.train import NUMERICS, build_network
from tests.mdml import toy

CLASSES = ["happy", "neutral", "sad"]
TRAIN, TEST = torch.arange(14), torch.arange(14, 20)


def _trunk(channels, weights):
    return nn.Sequential(nn.Conv2d(channels, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())


SMALL = Backbone(_trunk, 72, toy.SIDE, None, 1)


def register():
    BACKBONES["small"] = SMALL


def describe(name, options, **changes):
    method = make_method(name, options)
    values = {
        "method": name,
        "options": options,
        "backbone": "small",
        "image_size": toy.SIDE,
        "channels": 1,
        "aligned": False,
        "augmentation": "light",
        "classes": CLASSES,
        "numerics": f"{NUMERICS}.{method.numerics}",
        "tensors_sha256": "0" * 64,
        "origin": {"trial_key": "k"},
    }
    return Description(**(values | changes))


def write(folder, name="softmax", **options):
    """Write a model whose normalisation has run over images; the scores that evaluation gives to the TEST images."""
    description = describe(name, options)
    method = description.make_method()
    network = build_network(method, "small", None, 1, len(CLASSES), 3, toy.CPU)
    with torch.no_grad():
        network.trunk(augmentation("light").test(toy.images()[TRAIN]))
    view, images, labels = augmentation("light"), toy.images(), toy.labels()
    memory, queries = (evaluation.embed(network, method, images, labels, index, view) for index in (TRAIN, TEST))
    knn = method.prediction == "knn"
    save(folder, description, network, Memory(memory.embedding, memory.labels) if knn else None)
    return (evaluation.with_neighbours(queries, memory, len(CLASSES)) if knn else queries).scores


def change(folder, **entries):
    """Change entries of model.json."""
    found = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(found | entries))


def put(folder, data):
    """Put other bytes in the place of the tensors, with a digest that fits."""
    (folder / TENSORS).write_bytes(data)
    change(folder, tensors_sha256=hashlib.sha256(data).hexdigest())
