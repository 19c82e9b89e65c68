"""A training that is cut between two epochs and goes on in another process equals one that was not, bit for bit."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from mdml.methods import make_method, method_names
from mdml.methods.softmax import Softmax
from mdml.probe import Probe
from mdml.schedule import SCHEDULES
from mdml.session import Session
from mdml.train import OPTIMIZERS, Recipe, Training
from tests.mdml import golden, toy

TRAIN, VALIDATION = torch.arange(14), torch.arange(14, 20)
EPOCHS = 4
RECIPE = Recipe(EPOCHS, batch_size=5, learning_rate=0.01, schedule="cosine", augmentation="paper")
VARIANTS = [(name, golden.OPTIONS.get(name, {})) for name in method_names()] + [
    ("center", {"form": "island"}),
    ("rml", {"center": "ema", "form": "fixed"}),
    ("tuplet_clusters", {"reduction": "all"}),
]


def begin(method, recipe, network=toy.network, session=None):
    """A fresh training with its probe; the stream of torch stands where another trial left it."""
    torch.manual_seed(random.randrange(1 << 30))
    made = network(method)
    view, images, labels = toy.images()[:8].float() / 255, toy.images(), toy.labels()
    probe = Probe(made, view, labels[:8], method.layout)
    session = toy.session(method, TRAIN) if session is None else session
    watch = {"val": VALIDATION}
    return Training(made, method, recipe, images, labels, TRAIN, watch, 0, session, probe.look), probe


def check(method, recipe=RECIPE, network=toy.network, session=lambda: None):
    """Cut after every epoch, go on in new objects, and compare all that there is at the end."""
    whole, probe = begin(method, recipe, network, session())
    states = [(written(whole.state()), written(probe.state())) for _ in whole]
    for state, seen in states[:-1]:
        resumed, other = begin(method, recipe, network, session())
        resumed.restore(state)
        other.restore(seen)
        assert len(list(resumed)) == recipe.epochs - len(state["records"])
        assert without_times(resumed.records) == without_times(whole.records)
        differing = list(differences(resumed.network, whole.network, "network"))
        differing += differences(resumed.session, whole.session, "session")
        differing += differences(other.rows(), probe.rows(), "probe")
        assert not differing, f"Not saved, or not put back, after epoch {len(state['records'])}: {differing}"


def written(state):
    """A copy as a file gives it: plain data alone, and of the layout of tensors in memory nothing."""
    if isinstance(state, dict):
        return {key: written(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(written, state))
    if isinstance(state, torch.Tensor):
        return state.detach().contiguous().clone()
    assert isinstance(state, (type(None), str, int, float, np.ndarray)), f"{state!r} is not plain data"
    return copy.deepcopy(state)


def without_times(records):
    return [{key: value for key, value in record.items() if "seconds" not in key} for record in records]


def differences(one, other, place, seen=None):
    """Names of what differs in two objects of any kind, whatever it is that they keep."""
    seen = set() if seen is None else seen
    if type(one) is not type(other):
        yield f"{place} is of another type"
    elif isinstance(one, (torch.Tensor, np.ndarray)):
        if bits(one) != bits(other):
            yield place
    elif isinstance(one, (type(None), str, bytes, int, float)):
        if one != other and (one == one or other == other):
            yield place
    elif id(one) not in seen:
        seen.add(id(one))
        yield from (name for part in parts(one, other, place) for name in differences(*part, seen))


def bits(value):
    tensor = torch.as_tensor(value).detach()
    return tensor.dtype, tensor.shape, tensor.flatten().view(torch.uint8).numpy().tobytes()


def parts(one, other, place):
    """What two objects of one type consist of, in pairs with their place."""
    if isinstance(one, dict):
        yield list(one), list(other), f"keys of {place}"
        yield from ((one[key], other[key], f"{place}[{key!r}]") for key in one.keys() & other.keys())
    elif isinstance(one, (list, tuple)):
        yield len(one), len(other), f"length of {place}"
        yield from ((*pair, f"{place}[{i}]") for i, pair in enumerate(zip(one, other, strict=False)))
    elif isinstance(one, torch.Generator):
        yield one.get_state(), other.get_state(), place
    elif isinstance(one, (np.random.Generator, random.Random)):
        yield str(vars_of(one)), str(vars_of(other)), place
    elif hasattr(one, "state_dict"):
        yield dict(one.state_dict()), dict(other.state_dict()), place
    else:
        yield vars(one), vars(other), place


def vars_of(chance):
    return chance.getstate() if isinstance(chance, random.Random) else chance.bit_generator.state


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{name} {options}" for name, options in VARIANTS])
def test_every_method_resumes_bit_for_bit(name, options):
    check(make_method(name, options))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_schedule_and_optimizer_resumes_bit_for_bit(schedule, optimizer, monkeypatch):
    """RISE 0: every epoch but the last ends with a return to the best weights."""
    monkeypatch.setattr("mdml.schedule.Schedule.RISE", 0.0)
    sampler = "balanced" if optimizer == "sgd" else "shuffle"
    recipe = Recipe(EPOCHS, 5, 0.02, schedule=schedule, optimizer=optimizer, sampler=sampler)
    check(make_method("triplet", {}), recipe)


def test_halving_resumes_while_it_is_patient(monkeypatch):
    """No return: what is kept is the best weights and since when."""
    monkeypatch.setattr("mdml.schedule.Schedule.PATIENCE", 2)
    check(make_method("softmax", {}), Recipe(6, 5, 0.05, schedule="halving"))


def test_a_resnet_resumes_bit_for_bit_as_its_weights_are_laid_out_by_channels():
    check(make_method("softmax", {}), Recipe(2, 7, 1e-3), toy.resnet)


class Turning(Session):
    """Turns the labels round by a chance of its own, kept as the test asks."""

    def __init__(self, training, chance, keep):
        super().__init__(training)
        keep(self, chance)
        self.ask = lambda: keep.ask(self)

    def begin_epoch(self, epoch, epochs, embed):
        self.labels = (self.training.labels + self.ask()) % toy.CLASSES


class Kept:
    """Ways to keep a generator: as an attribute, in an object, or in a list, which the default does not look into."""

    def __init__(self, put, generator):
        self.put, self.generator = put, generator

    def __call__(self, session, chance):
        self.put(session, chance)

    def ask(self, session):
        return int(torch.randint(toy.CLASSES, (), generator=self.generator(session)))


class Holder:
    def __init__(self, held):
        self.held = held


PLAIN = Kept(lambda session, chance: setattr(session, "chance", chance), lambda session: session.chance)
HELD = Kept(lambda session, chance: setattr(session, "holder", Holder(chance)), lambda session: session.holder.held)
LISTED = Kept(lambda session, chance: setattr(session, "chances", [chance]), lambda session: session.chances[0])


def turning(keep):
    training = toy.session(Softmax(16), TRAIN).training
    return lambda: Turning(training, torch.Generator().manual_seed(5), keep)


@pytest.mark.parametrize("keep", [PLAIN, HELD], ids=["attribute", "object"])
def test_a_session_with_chances_of_its_own_resumes_without_a_line_for_it(keep):
    check(Softmax(16), session=turning(keep))


def test_a_session_that_keeps_what_is_not_saved_is_caught():
    with pytest.raises(AssertionError):
        check(Softmax(16), session=turning(LISTED))


class Late(Session):
    """Makes its network in the first epoch, so that there is none to put the state into."""

    net = None

    def begin_epoch(self, epoch, epochs, embed):
        self.net = self.net or nn.Linear(1, 1)


def test_what_is_made_after_the_session_is_refused_in_one_sentence():
    training = toy.session(Softmax(16), TRAIN).training
    with pytest.raises(TypeError, match="Expected Late to have its net once it is made, found none"):
        check(Softmax(16), session=lambda: Late(training))
