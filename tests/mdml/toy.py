"""Tiny images made by arithmetic, so that no version of a random generator can change them."""

import torch
from torch import nn

from mdml.methods import make_method
from mdml.models import Network
from mdml.session import TrainingSet
from mdml.train import build_network

SIDE, CLASSES = 16, 3
CPU = torch.device("cpu")


def images(count=20, channels=1):
    """(count, channels, 16, 16) uint8: bars, of the class's period and direction."""
    i, c, y, x = torch.meshgrid(*(torch.arange(n) for n in (count, channels, SIDE, SIDE)), indexing="ij")
    label = i % CLASSES
    along = torch.where(label == 0, x, torch.where(label == 1, y, x + y))
    bars = ((along + i * i + c) // (2 + label)) % 2
    return (bars * (90 + 5 * i) + (7 * x + 11 * y + 13 * i) % 32).to(torch.uint8)


def labels(count=20):
    return torch.arange(count) % CLASSES


def session(method, index, seed=0):
    """Three faces of each person, one of each class; class 0 is the neutral one."""
    faces = labels()
    return method.session(TrainingSet(images(), faces[index], index // CLASSES, index, CLASSES, 0, seed))


def resnet(method, seed=0, channels=1):
    return build_network(method, "resnet18", None, channels, CLASSES, seed, CPU)


def network(method, seed=0, channels=1):
    """A trunk of one convolution, a thousand times faster than ResNet-18."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = nn.Sequential(
            nn.Conv2d(channels, 8, 5, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
        )
        return Network(trunk, method.head(72, CLASSES))


def made(name, **options):
    return make_method(name, {"slice_dim": 16, **options})
