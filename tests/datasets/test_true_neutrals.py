import numpy as np
import pytest

from datasets import DatasetError, open_dataset, synthetic
from datasets.drawn.people import sample_shots, standard_shot
from datasets.synthetic import draw_people, true_neutrals

FEW = {"image_size": 24, "subjects": 4}


def test_one_face_a_person_in_the_order_of_the_set():
    grey, colour = true_neutrals(channels=1, **FEW), true_neutrals(channels=3, **FEW)
    assert grey.shape == (4, 24, 24, 1)
    assert colour.shape == (4, 24, 24, 3)
    assert grey.dtype == colour.dtype == np.uint8
    assert np.array_equal(grey[..., 0], (colour @ synthetic.LUMA + 500) // 1000)
    assert np.array_equal(true_neutrals(channels=1, image_size=24, subjects=2), grey[:2])
    assert not np.array_equal(true_neutrals(channels=1, seed=1, **FEW), grey)


@pytest.mark.parametrize("options", [{}, {"identity": 0.4}, {"seed": 3}])
def test_the_people_are_those_of_the_set(monkeypatch, options):
    met, draw = [], synthetic.draw

    def watched(person, units, shot, size):
        met.append({name: values[0].tolist() for name, values in vars(person).items()})
        return draw(person, units, shot, size)

    monkeypatch.setattr(synthetic, "draw", watched)
    true_neutrals(channels=1, **FEW, **options)
    draw_people(24, 4, 1, options.get("identity", 1.0), options.get("seed", 0))
    assert met[:4] == met[4:]
    assert len({str(person) for person in met}) == 4


def test_nothing_but_the_person_shows(monkeypatch):
    met = []

    def watched(person, units, shot, size):
        met.append((units, shot))
        return np.full((len(units), size, size, 3), 0.5)

    monkeypatch.setattr(synthetic, "draw", watched)
    assert np.ptp(true_neutrals(channels=3, **FEW)) == 0  # No noise is added to what is drawn.
    for units, shot in met:
        assert not units.any()
        for name in ("yaw", "pitch", "roll", "dx", "dy", "gaze", "asymmetry", "noise"):
            assert getattr(shot, name) == 0
        assert shot.scale == shot.gain == 1


def test_the_standard_shot_lies_in_the_middle_of_those_by_chance():
    standard, drawn = standard_shot(2), sample_shots(np.random.default_rng(0), 4000)
    assert vars(standard).keys() == vars(drawn).keys()
    for name, values in vars(drawn).items():
        assert vars(standard)[name].shape == (2, *values.shape[1:])
        if name not in ("noise", "wall", "light"):
            assert abs(values.mean() - vars(standard)[name][0]) < 0.02
    to_lamp = drawn.light / drawn.light[:, 2:]
    assert to_lamp.mean(0) == pytest.approx(standard.light[0] / standard.light[0, 2], abs=0.02)
    assert np.linalg.norm(standard.light, axis=1) == pytest.approx([1, 1])


def test_neutral_images_of_the_set_are_nearest_to_it_among_the_expressions(tmp_path):
    faces = open_dataset("synthetic", cache=tmp_path, image_size=24, channels=1, subjects=30, per_class=1)
    truth = true_neutrals(image_size=24, channels=1, subjects=30).repeat(7, 0)
    distances = (faces.images.astype(float) - truth)[:, 6:-4, 5:-5].std((1, 2, 3))
    means = [distances[faces.labels == label].mean() for label in range(7)]
    assert int(np.argmin(means)) == faces.classes.index("neutral")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjects": 0}, "subjects to be a whole number of at least 1, found 0"),
        ({"image_size": 0}, "image_size to be a whole number of at least 1, found 0"),
        ({"seed": -1}, "seed to be a whole number of at least 0, found -1"),
        ({"identity": 3}, "identity to be within 0..2, found 3"),
        ({"channels": 2}, "channels to be 1 or 3, found 2"),
    ],
)
def test_options_out_of_range_are_named(options, words):
    with pytest.raises(DatasetError) as caught:
        true_neutrals(**{"image_size": 24, "channels": 1, **options})
    assert words in str(caught.value)
