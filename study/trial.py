"""One trial from its spec to its rows. Knows no scheduler: the worker, `--rerun` and the tests call it alike."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdml import evaluation
from mdml.augmentation import augmentation
from mdml.convergence import epochs_to
from mdml.evaluation import Embedded
from mdml.probe import Probe
from mdml.session import Session, TrainingSet
from mdml.train import Training, build_network, derived_seed
from study import provenance
from study.errors import StudyError
from study.faces import Faces
from study.records import Row, curves, picture_rows
from study.spec import TrialSpec
from study.transfer import transfer_row
from study.trial_row import machine_row, spec_row
from study.verdict import Verdict


def use_device(threads: int, cuda: bool) -> torch.device:
    """The device of this process, made ready for repeatable numbers: on a CPU the same spec gives the same bits.

    Args:
        threads: of the CPU.
        cuda: whether a GPU was given to this process; a GPU that is only promised (a fake resource) leaves the CPU.

    """
    torch.set_num_threads(threads)
    if cuda and torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cpu")


class Trial:
    """A training in progress.

    Args:
        spec: what to train.
        faces: the data set that the spec names.
        code: git_commit and git_dirty of the study's code.
        audit: writes the row of the table `audits`; called before the seal of the test fold is broken.
        others: the other data sets that the spec names, in their order.

    Raises:
        StudyError: where the data set is not the one that was planned.

    """

    def __init__(
        self, spec: TrialSpec, faces: Faces, code: Row, audit: Callable[[Row], None], others: Sequence[Faces] = ()
    ) -> None:
        self.started_at, self._start = datetime.now(UTC), time.perf_counter()
        transfers = spec.evaluation.get("transfer", [])
        planned = [(spec.dataset, spec.fingerprint), *((one["dataset"], one["fingerprint"]) for one in transfers)]
        for (dataset, fingerprint), found in zip(planned, [faces, *others], strict=True):
            if found.set.fingerprint != fingerprint:
                raise StudyError(
                    f"The data set {dataset['name']} has changed since the study was planned: expected fingerprint "
                    f"{fingerprint[:12]}, found {found.set.fingerprint[:12]}. Plan the study again."
                )
        self.spec, self.faces, self._audit, self._others = spec, faces, audit, others
        self.session: Session | None = None
        self._probe: Probe | None = None
        self._training: Training | None = None
        self.method, self.records = spec.make_method(), list[Row]()
        self.split = faces.split_and_seal(spec)
        device = faces.images.device
        self.network = build_network(
            self.method, spec.backbone, spec.weights, spec.channels, len(faces.set.classes), spec.seed, device
        )
        self._code = code | {"source_hash": provenance.source_hash(spec.method)}
        self._best: tuple[int, dict[str, Tensor]] | None = None
        self.resumed_epochs: int | None = None
        self._earlier = 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._setup_seconds = time.perf_counter() - self._start

    def run(self, state: Row | None = None, after_step: Callable[[], None] | None = None) -> Iterator[Row]:
        """Train: one record an epoch. Under the protocol `paper` the test fold is watched, and the best network on it is kept.

        Args:
            state: of a trial of the same spec that was cut off; its records come first, as if they had just been trained.
            after_step: called after every step, in the place of the probe.

        """
        paper = self.spec.protocol == "paper"
        watch = {"val": self.split.validation} if len(self.split.validation) else {}
        if paper:
            self._open_test_fold()
            watch["test"] = self.split.test
        subjects = np.unique(self.faces.set.subjects, return_inverse=True)[1]
        index = torch.from_numpy(self.split.train)
        classes = self.faces.set.classes
        training = TrainingSet(
            self.faces.images,
            torch.from_numpy(self.faces.set.labels[self.split.train]),
            torch.from_numpy(subjects[self.split.train]),
            index,
            len(classes),
            self.faces.set.neutral,
            self.spec.seed,
        )
        self.session = self.method.session(training)
        if self.spec.evaluation.get("probe"):
            self._probe = self._begin_probe()
        self._training = Training(
            self.network,
            self.method,
            self.spec.recipe(),
            self.faces.images,
            self.faces.labels,
            index,
            {name: torch.from_numpy(members) for name, members in watch.items()},
            self.spec.seed,
            self.session,
            after_step or (None if self._probe is None else self._probe.look),
        )
        best = -1.0
        earlier, weights = ([], {}) if state is None else self._restore(state, self._training)
        for record in chain(earlier, self._training):
            self.records.append(record)
            if paper and record["test_accuracy"] >= best:
                best = record["test_accuracy"]
                if record["epoch"] > len(earlier):
                    weights = {name: value.clone() for name, value in self.network.state_dict().items()}
                self._best = record["epoch"], weights
            yield record

    def state(self) -> Row:
        """All that the epochs to come and the evaluation depend on, between two epochs, as plain data; it changes with the trial."""
        if self._training is None:
            raise ValueError("A trial that has not begun has no state.")
        return {
            "training": self._training.state(),
            "probe": None if self._probe is None else self._probe.state(),
            "best": None if self._best is None else self._best[1],
            "seconds": self._seconds,
        }

    def _restore(self, state: Row, training: Training) -> tuple[list[Row], dict[str, Tensor]]:
        """Put a state back; the records and the weights of the best epoch that come with it."""
        training.restore(state["training"])
        if self._probe is not None:
            self._probe.restore(state["probe"])
        self._earlier, self.resumed_epochs = state["seconds"], len(training.records)
        return list(training.records), state["best"] or {}

    @property
    def _seconds(self) -> float:
        """Of this attempt, and of the earlier ones up to where it goes on from."""
        return self._earlier + time.perf_counter() - self._start

    def finish(self) -> dict[str, list[Row]]:
        """Evaluate, unless it belongs to a search opening the test fold, and give all rows of a trial that is done."""
        final: Row = {}
        if self._best is not None:
            final["best_epoch"] = self._best[0]
            self.network.load_state_dict(self._best[1])
        memory = self._embed(self.split.train)
        verdict = Verdict(self.spec.key, self.faces.set, self.method.layout.thresholds, memory)
        judged: list[tuple[str, Embedded]] = []
        if len(self.split.validation):
            embedded = self._judge(self.split.validation, memory)
            scores = verdict.judge("validation", embedded)
            final |= {f"val_{name}": scores[name] for name in ("accuracy", "balanced_accuracy", "knn_accuracy")}
            judged.append(("validation", embedded))
        if self.spec.search is None:
            if self._best is None:
                self._open_test_fold()
            embedded = self._judge(self.split.test, memory)
            final |= {f"test_{name}": value for name, value in verdict.judge("test", embedded).items()}
            final["test_sequence_accuracy"] = verdict.predictions(self.split.test, embedded)
            judged.append(("test", embedded))
            self._extras(verdict, embedded)
        if judged:
            verdict.slices(judged[0][1], self._judged()["slices"])
            verdict.distances(*judged[-1])
        accuracies = [record["train_accuracy"] for record in self.records]
        final |= {f"epochs_to_{level}": epochs_to(accuracies, level / 100) for level in (90, 99)}
        if self.session is not None:
            verdict.tables["pictures"] = picture_rows(self.spec.key, self.session.pictures)
        return {"trials": [self.row("done") | final], **curves(self.spec.key, self.records), **verdict.tables}

    def row(self, status: str, error: str | None = None) -> Row:
        """The trial's row of the table `trials`, as of now."""
        spec, layout, images = self.spec, self.method.layout, self.faces.images
        last = self._judged() if self.records else {}
        trained = sum(record["training_seconds"] for record in self.records)
        sizes = {f"{name}_images": len(getattr(self.split, name)) for name in ("train", "validation", "test")}
        kept = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy")
        return (
            spec_row(spec)
            | sizes
            | {name: last.get(name) for name in kept}
            | self._code
            | {
                "form": layout.form,
                "slices": layout.slices,
                "thresholds": list(layout.thresholds),
                "slice_dim": layout.width,
                "embedding_dim": layout.slices * layout.width,
                "status": status,
                "error": error,
                "epochs": len(self.records),
                "seconds": self._seconds,
                "resumed_epochs": self.resumed_epochs,
                "setup_seconds": self._setup_seconds,
                "images_per_second": len(self.records) * len(self.split.train) / trained if trained else None,
                "notes": json.dumps(self.session.notes, sort_keys=True)
                if self.session and self.session.notes
                else None,
                "started_at": self.started_at,
                "ended_at": datetime.now(UTC),
            }
            | machine_row(images.device)
        )

    def _judged(self) -> Row:
        """The record of the network that the row speaks of: the best epoch under `paper`, else the last."""
        return self.records[(self._best[0] if self._best else len(self.records)) - 1]

    def _open_test_fold(self) -> None:
        row = {
            "trial_key": self.spec.key,
            "opened_at": datetime.now(UTC),
            "protocol": self.spec.protocol,
            "host": platform.node(),
            "git_commit": self._code["git_commit"],
            "source_hash": self._code["source_hash"],
            "test_images": len(self.split.test),
        }
        self._audit(row)
        self.faces.unseal()

    def _extras(self, verdict: Verdict, tested: Embedded) -> None:
        """What the spec asks for besides the default evaluation."""
        key, asked = self.spec.key, self.spec.evaluation
        if asked.get("tsne"):
            verdict.projection(self.split.test, tested)
        if self._probe is not None:
            for table, rows in zip(("probe", "probe_steps"), self._probe.rows(), strict=True):
                verdict.tables[table] = [{"trial_key": key} | row for row in rows]
        for one, other in zip(asked.get("transfer", []), self._others, strict=True):
            part = one["dataset"].get("part")
            row = transfer_row(self.faces.set, other.set, verdict.memory, partial(self._embed_other, other), part)
            verdict.tables["transfers"].append({"trial_key": key} | row)

    def _begin_probe(self) -> Probe:
        """The same training images whatever the method."""
        generator = torch.Generator().manual_seed(derived_seed("probe", self.spec.seed))
        chosen = torch.randperm(len(self.split.train), generator=generator)[: self.spec.batch_size]
        index = torch.from_numpy(self.split.train)[chosen].to(self.faces.images.device)
        inputs = augmentation(self.spec.augmentation).test(self.faces.images[index])
        return Probe(self.network, inputs, self.faces.labels[index], self.method.layout)

    def _embed_other(self, other: Faces, labels: Tensor, index: Tensor) -> Embedded:
        view, images = augmentation(self.spec.augmentation), other.images
        return evaluation.embed(self.network, self.method, images, labels.to(images.device), index, view)

    def _embed(self, index: Any) -> Embedded:
        view = augmentation(self.spec.augmentation)
        faces = self.faces
        return evaluation.embed(self.network, self.method, faces.images, faces.labels, torch.from_numpy(index), view)

    def _judge(self, index: Any, memory: Embedded) -> Embedded:
        """A set of images with the scores of its predictions."""
        embedded = self._embed(index)
        if self.method.prediction == "knn":
            embedded = evaluation.with_neighbours(embedded, memory, len(self.faces.set.classes))
        return embedded
