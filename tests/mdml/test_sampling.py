import pytest
import torch

from mdml.sampling import batches

LABELS = torch.tensor([0] * 11 + [1] * 3 + [2] * 6 + [5])  # 21 samples, 4 classes


def epoch(batch_size, sampler, seed=0, labels=LABELS):
    return list(batches(labels, batch_size, sampler, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(7, [7] * 3), (6, [6, 6, 6, 3]), (5, [5] * 4), (21, [21]), (64, [21]), (2, [2] * 10)]
)
@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_batches_are_full_but_the_last_and_one_sample_alone_is_dropped(batch_size, sizes, sampler):
    """21 = 4 x 5 + 1 = 10 x 2 + 1: there the last sample is left out."""
    found = epoch(batch_size, sampler)
    assert [len(batch) for batch in found] == sizes
    assert all(batch.dtype == torch.int64 for batch in found)


@pytest.mark.parametrize("batch_size", [6, 7, 64])
def test_shuffle_meets_every_sample_once(batch_size):
    seen = torch.cat(epoch(batch_size, "shuffle"))
    assert seen.sort().values.tolist() == list(range(21))
    assert seen.tolist() != list(range(21))


@pytest.mark.parametrize("batch_size", [3, 4, 6, 8, 10])
def test_balanced_batches_hold_every_class_equally_often_give_or_take_one(batch_size):
    for batch in epoch(batch_size, "balanced"):
        counts = [int((LABELS[batch] == label).sum()) for label in (0, 1, 2, 5)]
        assert max(counts) - min(counts) <= 1, counts


def test_a_balanced_class_repeats_a_sample_only_when_it_has_run_out():
    """6 turns of 4 classes, cut at 21: the 3 of class 1 come twice or once each, the lone one of class 5 five times."""
    seen = torch.cat(epoch(7, "balanced"))
    times = {label: sorted(int((seen == i).sum()) for i in torch.where(LABELS.eq(label))[0]) for label in (0, 1, 2, 5)}
    assert times == {0: [0] * 5 + [1] * 6, 1: [1, 2, 2], 2: [0] + [1] * 5, 5: [5]}


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_the_order_depends_on_the_generator_alone(sampler):
    torch.manual_seed(1)
    first = torch.cat(epoch(6, sampler, seed=3)).tolist()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.cat(epoch(6, sampler, seed=3)).tolist() == first
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.cat(epoch(6, sampler, seed=4)).tolist() != first


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_epochs_of_one_generator_differ(sampler):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(batches(LABELS, 6, sampler, generator))).tolist() for _ in range(2))
    assert first != second


def test_shuffled_orders_are_uniform():
    """Each of 4 samples comes first in a quarter of 2000 epochs: 500 give or take 5 standard deviations of 19.4."""
    generator, labels = torch.Generator().manual_seed(0), torch.zeros(4, dtype=torch.int64)
    firsts = torch.stack([next(iter(batches(labels, 4, "shuffle", generator)))[0] for _ in range(2000)])
    assert (firsts.bincount() - 500).abs().max() < 97
