"""Schedules of the learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SCHEDULES = ("constant", "cosine", "halving")
_KEPT = ("best", "best_epoch", "last_loss", "weights")


class Schedule:
    """One schedule over one training.

    - constant, as published by Yang et al. 2024;
    - cosine, to 0 over all steps;
    - halving (Liu et al. 2019): when the loss of an epoch rises by more than 25 %, or nothing was gained on the validation set for 10
      epochs, halve the rate and go back to the best weights. Without a validation set the training loss is what is gained on.

    Args:
        name: which.
        network: whose weights halving keeps and restores.
        optimizer: whose rate is set.
        steps: of the whole training.

    """

    PATIENCE, RISE = 10, 1.25

    def __init__(self, name: str, network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.name, self.network, self.optimizer = name, network, optimizer
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if name == "cosine" else None
        self.best, self.best_epoch, self.last_loss = -torch.inf, 0, torch.inf
        self.weights: dict[str, Tensor] = {}

    def after_step(self) -> None:
        """Called after every step of the optimizer."""
        if self.cosine is not None:
            self.cosine.step()

    def after_epoch(self, record: dict[str, Any]) -> None:
        """Called with the record of every epoch, after the watched sets were judged."""
        if self.name != "halving":
            return
        epoch, loss = record["epoch"], record["train_loss"]
        gained = record.get("val_accuracy")
        gained = -loss if gained is None else gained
        if gained > self.best:
            self.best, self.best_epoch = gained, epoch
            self.weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        if loss > self.RISE * self.last_loss or epoch - self.best_epoch >= self.PATIENCE:
            self.network.load_state_dict(self.weights)
            self.best_epoch, self.last_loss = epoch, torch.inf
            for group in self.optimizer.param_groups:
                group["lr"] /= 2
        else:
            self.last_loss = loss

    def state(self) -> dict[str, Any]:
        """What it depends on beside the network and the optimizer, as plain data."""
        cosine = None if self.cosine is None else self.cosine.state_dict()
        return {name: getattr(self, name) for name in _KEPT} | {"cosine": cosine}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a schedule of the same name."""
        for name in _KEPT:
            setattr(self, name, state[name])
        if self.cosine is not None:
            self.cosine.load_state_dict(state["cosine"])
