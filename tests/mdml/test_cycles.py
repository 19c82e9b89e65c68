"""Cycles of incomplete judgements in histories made by hand and at random."""

import pytest
import torch

from mdml.cycles import CycleCounter, Judgement


def count(history):
    """Totals (half-cycles, cycles) of a history: per step (p, n, incomplete) of every anchor, in one slice."""
    counter = CycleCounter()
    for p, n, incomplete in history:
        counter.show(Judgement(torch.tensor([p]), torch.tensor([n]), torch.tensor([incomplete])))
    return [int(torch.stack(counts).sum()) for counts in (counter.half_cycles, counter.cycles)]


# Anchors A = 0, B = 1, C = 2; A and B are each other's positive, C is the negative of both.
P, N = [1, 0, 0], [2, 2, 1]
OF_A, OF_B, OF_NONE = [True, False, False], [False, True, False], [False] * 3


def test_the_history_of_the_definition_has_two_half_cycles_and_one_cycle():
    """Incomplete at t0 (A, B, C), at t1 (B, A, C), at t2 (A, B, C)."""
    assert count([(P, N, OF_A), (P, N, OF_B), (P, N, OF_A)]) == [2, 1]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([(P, N, OF_A)], [0, 0]),
        ([(P, N, OF_A), (P, N, OF_B)], [1, 0]),
        ([(P, N, OF_A), (P, N, OF_NONE), (P, N, OF_B)], [0, 0]),  # a step between
        ([(P, N, OF_A), (P, N, OF_A)], [0, 0]),  # the same anchor again
        ([(P, N, OF_A), (P, [2, 3, 1], OF_B), (P, N, OF_A)], [0, 0]),  # another negative
        ([(P, N, OF_A), ([1, 2, 0], N, OF_B), (P, N, OF_A)], [0, 0]),  # another positive
        ([(P, N, OF_A), (P, N, OF_B), (P, [3, 2, 1], OF_A)], [1, 0]),  # back, but to another triplet
        ([(P, N, OF_A), (P, N, OF_B), (P, N, OF_A), (P, N, OF_B)], [3, 2]),
        ([(P, N, [True, True, False])] * 3, [2, 1]),  # both anchors at once: one pair {A, B} with one C
    ],
)
def test_other_histories(history, expected):
    assert count(history) == expected


def by_loop(history):
    """Half-cycles and cycles of every step, counted in sets of (unordered pair, negative)."""

    def leads(t, a, b, c):
        """Whether step t judges (a, b, c) incompletely and step t + 1 judges (b, a, c) so."""
        if t + 1 >= len(history):
            return False
        (p, n, bad), (p_next, n_next, bad_next) = history[t], history[t + 1]
        return bad[a] and (p[a], n[a]) == (b, c) and bad_next[b] and (p_next[b], n_next[b]) == (a, c)

    half, whole = [0] * len(history), [0] * len(history)
    for t, (p, n, _) in enumerate(history):
        keys = [(a, p[a], n[a]) for a in range(len(p))]
        halves = {(frozenset((a, b)), c) for a, b, c in keys if leads(t, a, b, c)}
        cycles = {(frozenset((a, b)), c) for a, b, c in keys if leads(t, a, b, c) and leads(t + 1, b, a, c)}
        if halves:
            half[t + 1] = len(halves)
        if cycles:
            whole[t + 2] = len(cycles)
    return half, whole


def test_random_histories_of_two_slices_equal_a_loop():
    generator = torch.Generator().manual_seed(0)
    batch, counter, seen = 4, CycleCounter(), [[], []]
    for _ in range(300):
        p = (torch.arange(batch) + torch.randint(1, batch, (2, batch), generator=generator)) % batch
        n = torch.randint(2, (2, batch), generator=generator)
        bad = torch.rand(2, batch, generator=generator) < 0.8
        counter.show(Judgement(p, n, bad))
        for index in range(2):
            seen[index].append((p[index].tolist(), n[index].tolist(), bad[index].tolist()))
    for index in range(2):
        half, whole = by_loop(seen[index])
        assert [counts[index].item() for counts in counter.half_cycles] == half
        assert [counts[index].item() for counts in counter.cycles] == whole
        assert sum(whole) > 5, "the case must have cycles"
