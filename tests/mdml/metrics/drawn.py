"""What the tests of the metrics draw."""

import torch


def drawn(count, classes, seed=0, absent=()):
    generator = torch.Generator().manual_seed(seed)
    kept = torch.tensor([c for c in range(classes) if c not in absent])
    return kept[torch.randint(len(kept), (count,), generator=generator)]
