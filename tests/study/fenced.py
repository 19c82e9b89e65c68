"""A warm worker that trains nothing, whose allocator refuses at its share, and trials: for studies on GPUs that are only promised."""

import json
import os
import time
from pathlib import Path

import torch
from ray.util import get_node_ip_address

from study.packing import fence
from study.trial_row import spec_row
from study.worker import Worker

GIB = 1 << 30
MEMORY = 24 * GIB
# GiB that a trial is measured to take, and what it then takes, by its method.
TAKES = {"softmax": (9, 9), "triplet": (9, 20), "mul_dml": (15, 40), "contrastive": (40, 40)}
# Memory of a GPU of the nodes where it is not MEMORY.
LARGE = {"127.0.1.1": 80 * GIB}
# Trials of which one waits for another on the same GPU, and such of which one has to find a GPU full before any is done.
TOGETHER, AFTER_A_FULL_ONE = "softmax", "mul_dml"


class FencedWorker(Worker):
    """Notes what it does in the folder of the cache: one file for what it did with a trial."""

    def _begin(self, config):
        super()._begin(config)
        self.index, address = config["trial"]["index"], get_node_ip_address()
        self.gpu, self.memory = f"{address}:{os.environ['CUDA_VISIBLE_DEVICES']}", LARGE.get(address, MEMORY)
        assert self.share == getattr(self, "process_share", self.share)
        self.process_share = self.share

    def _measure(self):
        self._note("measured", 0)
        measured = [TAKES[self.spec.method][0] * GIB, GIB, self.memory]
        return {"row": spec_row(self.spec), "measured": measured, "said": "it was measured.", "done": True}

    def _prepare(self):
        start = time.time()
        if TAKES[self.spec.method][1] * GIB > self.memory * (1 if self.share == 1 else fence(self.share, self.memory)):
            self._note("full", start)
            raise torch.OutOfMemoryError("CUDA out of memory: more than its share")
        here = Path(self.context["cache"]) / f"here-{self.gpu}-{self.index}"
        here.touch()
        while self.spec.method == TOGETHER and len(list(here.parent.glob(f"here-{self.gpu}-*"))) < 2:
            time.sleep(0.05)
        while self.spec.method == AFTER_A_FULL_ONE and not list(here.parent.glob("full-*.json")):
            assert time.time() < start + 60, "no other found a GPU full"
            time.sleep(0.05)
        time.sleep(0.2)
        return Idle(self.spec, lambda: self._note("done", start))

    def _note(self, what, start):
        line = {"index": self.index, "share": self.share, "gpu": self.gpu, "pid": os.getpid(), "what": what}
        (Path(self.context["cache"]) / f"{what}-{self.index}-{self.share}.json").write_text(
            json.dumps(line | {"method": self.spec.method, "start": start, "end": time.time()})
        )


class Idle:
    """A training of one epoch of nothing."""

    def __init__(self, spec, ended):
        self.spec, self.records, self.ended = spec, [], ended

    def run(self, state=None):
        self.records.append({"epoch": 1, "seconds": 0.1, "training_seconds": 0.1, "slices": []})
        yield self.records[0]

    def state(self):
        return {}

    def row(self, status, error=None):
        return spec_row(self.spec) | {"status": status, "error": error, "epochs": 1}

    def finish(self):
        self.ended()
        return {"trials": [self.row("done")]}


def trial(index, method="softmax", size=64, faces="f"):
    """What the dispatcher hands out, as far as packing looks at it."""
    spec = {
        "method": method,
        "backbone": "resnet18",
        "image_size": size,
        "channels": 1,
        "batch_size": 32,
        "index": index,
    }
    return {"spec": json.dumps(spec | {"fingerprint": faces, "evaluation": {}}), "index": index}
