"""Trials and workers without Ray."""

import os
from dataclasses import replace

from study import plan
from study.faces import Faces
from study.trial import Trial, use_device
from study.worker import Worker

CODE = {"git_commit": "c", "git_dirty": False}
# What the clock and the machine say in records and rows.
MEASURED = {
    *("seconds", "training_seconds", "setup_seconds", "images_per_second", "started_at", "ended_at"),
    "peak_memory_bytes",
}


def spec_of(config, **changes):
    """The first trial of a study."""
    return replace(plan.members(config, plan.open_faces(config), "s")[0].spec, **changes)


def trial(spec, source, audit=lambda row: None, others=()):
    """A trial on a CPU, on these faces and on others for its transfers."""
    faces, *more = (Faces(one, use_device(1, cuda=False)) for one in (source, *others))
    return Trial(spec, faces, CODE, audit, more)


def asked(spec, **more):
    """What Tune hands to a worker."""
    return {"trial": {"spec": spec.json(), "share": 0.0, **more}}


def context(config, root, **changes):
    """What the engine tells every worker of a study; it commits under `root`."""
    return {
        "store_root": str(root),
        "cache": config["dataset"]["cache"],
        "cpus": 1,
        "code": CODE,
        "metric": "val_accuracy",
        "checkpoint": {"root": f"{root}/checkpoints", "every": None},
        "lease": None,
        **changes,
    }


def worker(spec, config, root, **changes):
    """A worker that has a trial to do."""
    made = Worker.__new__(Worker)
    made.setup(asked(spec), context(config, root, **changes))
    return made


def results(made):
    """Do the trial; its results."""
    found = [made.step()]
    while not found[-1].get("done"):
        found.append(made.step())
    return found


def in_turn(specs, config, root):
    """Do trials with one worker, committed under `root`; their rows."""
    made = None
    for spec in specs:
        if made is None:
            made = worker(spec, config, root)
        else:
            made.reset_config(asked(spec))
        yield results(made)[-1]["row"]


def undisturbed(config, root):
    """Do every trial of a study in this process, and commit it under `root`."""
    members = plan.members(config, plan.open_faces(config), config["study"])
    assert all(row["status"] == "done" for row in in_turn([member.spec for member in members], config, root))


class Harmed(Worker):
    """Is to be replaced after every trial."""

    def _step(self):
        result = super()._step()
        if result.get("done"):
            self.suspect = "the test says so"
        return result


def named(file):
    """A class of workers that write down which process they are."""

    class Named(Worker):
        def setup(self, config, context=None):
            file.write_text(str(os.getpid()))
            super().setup(config, context)

    return Named
