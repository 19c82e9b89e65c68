import pytest
import torch

from mdml.errors import MethodError
from mdml.hng import Recipe, train_generator
from mdml.hng.pairs import pair_up
from mdml.hng.training import from_faces, to_faces

TINY = Recipe(epochs=2, width=2, feature_epochs=1, batch_size=4)
# Subject 0 has two neutral faces, 1 one, 2 none, 3 nothing else; class 1 is neutral.
LABELS = torch.tensor([0, 1, 2, 1, 1, 0, 2, 0, 2, 1])
SUBJECTS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])


def images(count=10, channels=1, side=64, seed=0):
    return torch.randint(
        256, (count, channels, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def trained(recipe=TINY, shown=None, seed=0):
    return train_generator(images() if shown is None else shown, LABELS, SUBJECTS, 1, recipe, seed)


def test_pairs_join_a_subjects_faces_and_leave_out_who_lacks_either():
    pairs = pair_up(LABELS, SUBJECTS, 1)
    assert pairs.inputs.tolist() == [0, 2, 5, 6]
    assert pairs.targets.tolist() == [1, 3, 4]
    assert pairs.first.tolist() == [0, 0, 2, 2]
    assert pairs.count.tolist() == [2, 2, 1, 1]
    assert pairs.subjects == 2


def test_targets_are_drawn_evenly_from_the_own_subject():
    pairs = pair_up(LABELS, SUBJECTS, 1)
    drawn = pairs.draw(torch.tensor([0, 2]).repeat(4000), torch.Generator().manual_seed(0)).view(-1, 2)
    assert drawn[:, 1].unique().tolist() == [4]
    assert drawn[:, 0].unique().tolist() == [1, 3]
    assert (drawn[:, 0] == 1).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("labels", "neutral", "words"),
    [
        (LABELS, None, "no class named neutral"),
        (LABELS, 5, "among the 10 training images of 4 subjects there is no such pair"),
        (torch.ones(10, dtype=torch.int64), 1, "there is no such pair"),
    ],
)
def test_without_a_pair_the_method_to_take_instead_is_named(labels, neutral, words):
    with pytest.raises(MethodError, match=words) as caught:
        pair_up(labels, SUBJECTS, neutral)
    assert "the method rml" in str(caught.value)


@pytest.mark.parametrize("side", [48, 64, 80])
@pytest.mark.parametrize("channels", [1, 3])
def test_faces_go_to_the_generators_size_and_back(side, channels):
    flat = torch.full((2, channels, side, side), 77, dtype=torch.uint8)
    faces = to_faces(flat)
    assert faces.shape == (2, channels, 64, 64)
    assert torch.equal(from_faces(faces, side), flat)


def test_black_and_white_are_minus_one_and_one():
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(-1, -1, 64, 64)
    assert to_faces(ends)[:, 0, 0, 0].tolist() == [-1, 1]
    every = torch.arange(256).view(-1, 1, 1, 1).expand(-1, -1, 64, 64).to(torch.uint8)
    assert torch.equal(from_faces(to_faces(every), 64), every)


@pytest.mark.parametrize(("channels", "side"), [(1, 64), (3, 24)])
def test_generated_faces_are_images_like_those_given(channels, side):
    shown = images(10, channels, side)
    result = trained(shown=shown)
    assert result.generate(shown).shape == shown.shape
    assert result.generate(shown).dtype == torch.uint8
    one_by_one = torch.cat([result.generate(shown[i : i + 1]) for i in range(3)])
    assert (result.generate(shown, batch_size=4)[:3].int() - one_by_one.int()).abs().max() <= 1
    assert result.generate(shown[:0]).shape == (0, channels, side, side)


def test_a_training_repeats_bit_for_bit_whatever_the_global_stream():
    torch.manual_seed(0)
    one = trained()
    torch.manual_seed(99)
    state = torch.get_rng_state()
    other = trained()
    assert torch.equal(torch.get_rng_state(), state)
    assert one.history == other.history
    assert one.notes == other.notes
    for (name, a), b in zip(one.hng.state_dict().items(), other.hng.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_another_seed_gives_another_generator():
    one, other = trained(), trained(seed=1)
    assert one.history != other.history


def test_nothing_but_the_faces_of_its_pairs_moves_the_generator(monkeypatch):
    """Faces of subjects without a pair train the frozen networks alone; those are left as they begin here."""
    monkeypatch.setattr("mdml.hng.training.train_classifier", lambda *given: 0.0)
    monkeypatch.setattr("mdml.hng.training.calibrate", lambda *given: None)
    before = trained().hng.state_dict()
    for positions, moves in (([7, 8, 9], False), ([0], True), ([4], True)):
        shown = images()
        shown[positions] = 255 - shown[positions]
        after = trained(shown=shown).hng.state_dict()
        for part in ("encoder.0.weight", "decoder.0.weight", "discriminator.0.weight"):
            assert torch.equal(before[part], after[part]) != moves, (positions, part)


def test_the_history_has_every_loss_of_every_epoch():
    history = trained().history
    assert len(history) == 2
    assert list(history[0]) == ["feature", "identity", "pixel", "symmetry", "decoder", "discriminator"]
    assert all(value > 0 for value in history[-1].values())


def test_notes_say_what_stands_for_what():
    notes = trained().notes
    assert notes["hng_pairs"].startswith("4 expressive faces of 2 subjects")
    assert "in place of VGG-Face" in notes["phi"]
    assert "4 training subjects" in notes["psi"]
    assert "Light CNN-4" in notes["psi"]
    without = trained(Recipe(epochs=1, width=2, feature_epochs=1, batch_size=4, identity_weight=0.0))
    assert without.notes["psi"] == "none, no L_id"
    assert without.history[0]["identity"] == 0


def test_one_subject_cannot_be_told_from_others():
    one = train_generator(images(4), torch.tensor([0, 1, 2, 1]), torch.zeros(4, dtype=torch.int64), 1, TINY, 0)
    assert "one subject" in one.notes["psi"]
    assert one.hng.psi is None


def test_the_trained_networks_are_at_rest():
    hng = trained().hng
    assert not any(module.training for module in hng.modules())
    assert not any(parameter.requires_grad for parameter in hng.parameters())
