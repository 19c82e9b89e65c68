"""Workers without Ray."""

from study.worker import Worker


def asked(spec, **more):
    """What Tune hands to a worker."""
    return {"trial": {"spec": spec.json(), "share": 0.0, **more}}


def context(config, root, **changes):
    """What the engine tells every worker of a study; it commits under `root`."""
    return {
        "store_root": str(root),
        "cache": config["dataset"]["cache"],
        "cpus": 1,
        "gpus": 0,
        "code": {"git_commit": "c", "git_dirty": False},
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


class Harmed(Worker):
    """Is to be replaced after every trial."""

    def _step(self):
        result = super()._step()
        if result.get("done"):
            self.suspect = "the test says so"
        return result
