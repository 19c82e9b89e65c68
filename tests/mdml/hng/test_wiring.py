"""Which images meet in which loss: the losses of a batch by hand, the two optimisers, and what the training shows them."""

import pytest
import torch
import torch.nn.functional as F

from mdml.hng import Hng, Recipe, train_generator
from mdml.hng.features import Phi, Psi, freeze
from mdml.hng.model import Optimizers, Terms
from mdml.hng.networks import SIDE

NEUTRAL, PAIRED = 1, 6
EPOCHS, BATCH = 4, 6
# Each of six subjects has three expressive and two neutral faces; subject 6 has no neutral face and 7 no other.
LABELS = torch.tensor([0, 1, 2, 1, 3] * PAIRED + [0, 2, 3] + [1, 1])
SUBJECTS = torch.arange(PAIRED).repeat_interleave(5).tolist() + [6] * 3 + [7] * 2
MARK = 255  # Of the right half; the left half has the image's position for its grey value.


def made(**options):
    torch.manual_seed(0)
    phi, psi = Phi(1, 2), Psi(1)
    freeze(phi)
    freeze(psi)
    return Hng(1, Recipe(width=2, **options), phi, psi).train()


def symmetry_by_hand(images, laplacian):
    if laplacian:
        kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
        images = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel)
    columns = [(images[..., n] - images[..., SIDE - 1 - n]).abs().mean() for n in range(SIDE // 2)]
    return torch.stack(columns).mean()


@pytest.mark.parametrize("laplacian", [False, True])
def test_the_losses_of_a_batch_by_hand(laplacian):
    """Batch statistics are those of the images at hand, so that whatever a network is shown again, it answers alike."""
    hng = made(laplacian=laplacian)
    faces, targets, guides = (
        torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(count)) * 2 * light - light
        for count, light in ((4, 1.0), (4, 0.5), (3, 0.2))
    )
    targets = targets + 0.4
    found = hng.terms(faces, targets, guides)
    generated = hng.decoder(hng.encoder(faces))
    # Probabilities of being a real neutral face: the guides are asked, not the targets.
    real, fake = hng.discriminator(guides).sigmoid(), hng.discriminator(generated).sigmoid()
    expected = Terms(
        feature=(hng.phi(generated) - hng.phi(targets)).square().mean(),
        # The input, not the target, says who it is.
        identity=sum((a - b).abs().mean() for a, b in zip(hng.psi(faces), hng.psi(generated), strict=True)),
        pixel=(generated - targets).abs().mean(),
        symmetry=symmetry_by_hand(generated, laplacian),
        decoder=-fake.log().mean(),
        discriminator=-real.log().mean() - (1 - fake).log().mean(),
    )
    for name, one, other in zip(Terms._fields, found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_the_optimisers():
    hng = made(learning_rate=3e-4)
    optimizers = Optimizers(hng, 10)
    makers, judges = [*hng.encoder.parameters(), *hng.decoder.parameters()], [*hng.discriminator.parameters()]
    for optimizer, parameters in ((optimizers.make, makers), (optimizers.judge, judges)):
        assert type(optimizer) is torch.optim.Adam
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.999), 0)
        assert {id(p) for p in group["params"]} == {id(p) for p in parameters}


def read(faces):
    """Positions of the images shown, and which of them are mirrored: two lists."""
    values = ((faces[:, 0] + 1) * 127.5).round().int()
    left, right = values[:, 0, 0], values[:, 0, -1]
    half = SIDE // 2
    assert (values[..., :half] == left[:, None, None]).all()
    assert (values[..., half:] == right[:, None, None]).all()
    assert ((left == MARK) ^ (right == MARK)).all()
    return torch.minimum(left, right).tolist(), (left == MARK).tolist()


@pytest.fixture
def steps(monkeypatch):
    """What every step of a training was shown: inputs, targets and guides, each as by `read`."""
    shown = []

    def step(self, faces, targets, guides):
        shown.append((read(faces), read(targets), read(guides)))
        return Terms(*torch.zeros(6))

    monkeypatch.setattr(Optimizers, "step", step)
    images = torch.full((len(LABELS), 1, SIDE, SIDE), MARK, dtype=torch.uint8)
    images[..., : SIDE // 2] = torch.arange(len(LABELS), dtype=torch.uint8)[:, None, None, None]
    recipe = Recipe(epochs=EPOCHS, width=2, feature_epochs=1, batch_size=BATCH, identity_weight=0.0)
    train_generator(images, LABELS, torch.tensor(SUBJECTS), NEUTRAL, recipe, 0)
    return shown


def paired(neutral):
    return [i for i, label in enumerate(LABELS.tolist()) if SUBJECTS[i] < PAIRED and (label == NEUTRAL) == neutral]


def test_every_target_is_a_neutral_face_of_its_inputs_subject(steps):
    inputs, targets = ([i for step in steps for i in step[part][0]] for part in (0, 1))
    assert [SUBJECTS[i] for i in targets] == [SUBJECTS[i] for i in inputs]
    assert sorted(set(targets)) == paired(neutral=True)


def test_every_epoch_shows_every_expressive_face_once(steps):
    inputs = [i for step in steps for i in step[0][0]]
    expressive = paired(neutral=False)
    assert len(inputs) == EPOCHS * len(expressive)
    for epoch in range(EPOCHS):
        assert sorted(inputs[epoch * len(expressive) :][: len(expressive)]) == expressive


def test_both_faces_of_a_pair_are_mirrored_or_neither(steps):
    assert all(inputs == targets for (_, inputs), (_, targets), _ in steps)
    mirrored = [flag for step in steps for flag in step[0][1]]
    assert 0.3 < sum(mirrored) / len(mirrored) < 0.7
    assert any(0 < sum(step[0][1]) < len(step[0][1]) for step in steps)  # Each pair for itself, not a batch as one.


def test_guides_are_neutral_faces_of_anyone_who_takes_part(steps):
    guides = [i for step in steps for i in step[2][0]]
    assert sorted(set(guides)) == paired(neutral=True)
    inputs = [i for step in steps for i in step[0][0]]
    own = sum(SUBJECTS[i] == SUBJECTS[j] for i, j in zip(guides, inputs, strict=True))
    assert own < len(inputs) / 2  # A sixth by chance.
