"""Rows of trials that nobody trained, and studies made of them."""

import datetime
import io
import json
import math
import random

from PIL import Image

from results.schema import TABLES

START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
CLASSES = ("anger", "happiness", "sadness")
_FILE = io.BytesIO()
Image.new("RGB", (8, 6), (200, 30, 60)).save(_FILE, "PNG")
PNG = _FILE.getvalue()


def fake_trial(
    key,
    *,
    study="demo",
    arm="dual",
    fold=0,
    seed=0,
    status="done",
    accuracy=0.8,
    epochs=3,
    ended=60.0,
    whole=False,
    **changes,
):
    """Rows by table of one trial whose test accuracy is `accuracy`; `changes` are columns of its row in trials.

    A `whole` one has rows in every table.
    """
    rng = random.Random(key)
    done = status == "done"
    trial = {
        "trial_key": key,
        "study": study,
        "arm": arm,
        "method": "mul_dml",
        "form": "dual",
        "slices": 2,
        "thresholds": [0.15, 0.45],
        "slice_dim": 64,
        "embedding_dim": 128,
        "dataset": "synthetic",
        "fold": fold,
        "folds": 5,
        "fold_rule": "contiguous",
        "seed": seed,
        "protocol": "sealed",
        "status": status,
        "error": "RuntimeError: the loss is NaN" if status == "failed" else None,
        "epochs": epochs,
        "epochs_planned": 3,
        "image_size": 48,
        "channels": 1,
        "batch_size": 32,
        "train_images": 160,
        "validation_images": 40,
        "test_images": 50,
        "train_loss": 0.5,
        "val_accuracy": None if status == "failed" else accuracy + 0.01,
        "test_accuracy": accuracy if done else None,
        "seconds": ended,
        "config": json.dumps({"arm": arm, "fold": fold}),
        "numerics": "1.1",
        "git_dirty": False,
        "started_at": START,
        "ended_at": START + datetime.timedelta(seconds=ended),
        **changes,
    }
    rows = {
        "trials": [trial],
        "epochs": [
            {
                "trial_key": key,
                "epoch": epoch,
                "train_loss": 2.0 * math.exp(-0.1 * epoch) + rng.uniform(0, 0.05),
                "val_accuracy": accuracy * (1 - math.exp(-0.4 * epoch)) + rng.uniform(-0.02, 0.02),
                "seconds": 1.5,
            }
            for epoch in range(1, epochs + 1)
        ],
        "slices": [
            {"trial_key": key, "epoch": epoch, "slice": index, "threshold": threshold, "active_rate": 0.5}
            for epoch in range(1, epochs + 1)
            for index, threshold in enumerate((0.15, 0.45))
        ],
    }
    if done:
        rows["confusion"] = [
            {"trial_key": key, "split": "test", "truth": t, "predicted": p, "truth_class": CLASSES[t],
             "predicted_class": CLASSES[p], "count": 10 if t == p else 3}
            for t in range(3) for p in range(3)
        ]  # fmt: skip
        rows["predictions"] = [
            {"trial_key": key, "image": i, "label": i % 3, "predicted": i % 3, "scores": [0.5, 0.25, 0.25],
             "subject": f"S{i:03}", "sequence": ""}
            for i in range(4)
        ]  # fmt: skip
        rows |= measured(key) if whole else {}
    return rows


def measured(key):
    """What the evaluation of a trial that is done adds, by table."""
    rng = random.Random(key)
    return {
        "classes": [
            {"trial_key": key, "split": "test", "label": i, "class_name": name, "precision": 0.5, "recall": 0.25,
             "f1": 1 / 3, "support": 10}
            for i, name in enumerate(CLASSES)
        ],
        "neighbours": [
            {"trial_key": key, "split": "test", "k": k, "knn_accuracy": 0.5, "recall_at": 1 - 0.5**k, "acc_at": 0.5}
            for k in (1, 2, 4, 8, 11, 16, 32)
        ],
        "distances": [
            fake_distances(key, split, index, tau, kind)
            for split in ("train", "test") for index, tau in enumerate((0.15, 0.45)) for kind in ("inter", "intra")
        ],
        "embedding": [
            {"trial_key": key, "image": i, "label": i % 3, "class_name": CLASSES[i % 3],
             "x": 9.0 * (i % 3) + rng.gauss(0, 2), "y": rng.gauss(0, 4)}
            for i in range(60)
        ],
        "probe": [{"trial_key": key, "slice": 0, "threshold": 0.15, "images": 32, "steps": 2, "half_cycles": 1, "cycles": 0}],
        "probe_steps": [{"trial_key": key, "slice": 0, "step": step, "metric_loss": 0.1} for step in (1, 2)],
        "transfers": [{"trial_key": key, "dataset": "folder", "images": 9, "classes": ["anger"], "accuracy": 0.5}],
        "pictures": [{"trial_key": key, "name": "references", "png": PNG}],
    }  # fmt: skip


def fake_distances(key, split, index, tau, kind):
    """Counts of 1000 pairs about a mean that grows with the threshold."""
    mean = (1.0 if kind == "inter" else 0.4) + tau / 2
    shares = [math.exp(-((0.02 * i + 0.01 - mean) ** 2) / 0.08) for i in range(100)]
    counts = [round(1000 * share / sum(shares)) for share in shares]
    return {"trial_key": key, "split": split, "slice": index, "threshold": tau, "kind": kind, "pairs": sum(counts),
            "mean": mean, "std": 0.2, "p5": mean - 0.3, "p95": mean + 0.3, "counts": counts}  # fmt: skip


def fake_ablation(store, study="demo", arms=None, folds=3, seeds=2, skip=(), commit=True, **changes):
    """Commit an ablation whose arms differ by their mean accuracy; `skip` are (arm, fold, seed) not yet trained."""
    arms = {"softmax": 0.70, "dual": 0.80} if arms is None else arms
    rng = random.Random(0)
    members = []
    for arm, accuracy in arms.items():
        for fold in range(folds):
            for seed in range(seeds):
                key = f"{study}-{list(arms).index(arm)}-{fold}-{seed}"
                value = accuracy + rng.uniform(-0.03, 0.03)
                members.append(
                    {"study": study, "arm": arm, "index": len(members), "fold": fold, "seed": seed, "trial_key": key}
                )
                if (arm, fold, seed) not in skip:
                    store.commit(
                        key, fake_trial(key, study=study, arm=arm, fold=fold, seed=seed, accuracy=value, **changes)
                    )
    store.write("members", study, members)
    store.write(
        "studies",
        study,
        [{"study": study, "kind": "ablation", "ablation": "loss_form", "baseline": next(iter(arms)),
          "metric": "test_accuracy", "config": "{}", "overrides": ["folds=3"], "created_at": START}],
    )  # fmt: skip


def fake_search(store, study="hunt", trials=12):
    """Commit a search of `trials` trials, some of them stopped early and one failed."""
    rng = random.Random(1)
    for index in range(trials):
        key = f"{study}-{index:03}"
        status = "failed" if index == 3 else "stopped" if index % 3 == 1 else "done"
        epochs = {"failed": 1, "stopped": 3, "done": 12}[status]
        store.commit(
            key,
            fake_trial(key, study=study, arm=key, status=status, epochs=epochs, accuracy=rng.uniform(0.4, 0.9)),
        )
        parameters = json.dumps({"method": "mul_dml", "method.slices": rng.randint(2, 13)})
        store.write(
            "members",
            f"{study}-{index}",
            [{"study": study, "arm": key, "index": index, "fold": 0, "seed": 0, "trial_key": key,
              "parameters": parameters}],
        )  # fmt: skip
    store.write("studies", study, [{"study": study, "kind": "search", "metric": "val_accuracy", "created_at": START}])


def content(store):
    """All rows of all tables, in an order of their own."""
    return {table: sorted(map(repr, store.read(table).to_pylist())) for table in TABLES}
