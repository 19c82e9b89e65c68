"""Every table and column of the results, with type, unit and meaning; `python -m results.schema` prints them.

Column names are the API of this project. They are only ever added to, at the end of their table, and SCHEMA_VERSION
rises when they are.
The module is one long list on purpose: the declaration is the documentation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 6

TEXT, FLAG, REAL = pa.string(), pa.bool_(), pa.float64()
INT, LONG, BYTES = pa.int32(), pa.int64(), pa.binary()
REALS, FLOATS, TEXTS = pa.list_(pa.float64()), pa.list_(pa.float32()), pa.list_(pa.string())
LONGS = pa.list_(pa.int64())
TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, unit ("" for none) and meaning."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


@dataclass(frozen=True)
class TableSpec:
    """One table: committed with its trial (`per_trial`), or written by name and standing for itself."""

    name: str
    meaning: str
    per_trial: bool
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, columns in the order of their declaration."""
        return pa.schema([(column.name, column.type) for column in self.columns])


KEY = Column("trial_key", TEXT, "", "content address of the trial: what was trained, on which data, by which numerics")
EPOCH = Column("epoch", INT, "epochs", "1 is the first")
SLICE = Column("slice", INT, "", "0 is the first")
THRESHOLD = Column("threshold", REAL, "distance", "threshold of the slice")
SPLIT = Column("split", TEXT, "", "validation or test")

TRIALS = TableSpec(
    "trials",
    "One row per trial: what it was, what it reached, what it cost, and what it takes to do it again.",
    True,
    (
        KEY,
        Column("study", TEXT, "", "study that trained it first; the table members says which studies count it"),
        Column("arm", TEXT, "", "arm that it was in that study"),
        Column("method", TEXT, "", "what is trained, such as softmax, triplet or mul_dml"),
        Column("form", TEXT, "", "form of the loss, such as conventional or dual"),
        Column("slices", INT, "", "number of embedding slices"),
        Column("thresholds", REALS, "distance", "threshold of each slice"),
        Column("slice_dim", INT, "", "dimensions of one slice"),
        Column("embedding_dim", INT, "", "dimensions of the whole embedding"),
        Column("dataset", TEXT, "", "name of the data set"),
        Column("fold", INT, "", "fold that is tested on, 0 is the first"),
        Column("folds", INT, "", "number of folds"),
        Column("fold_rule", TEXT, "", "how subjects were dealt to folds"),
        Column("seed", LONG, "", "seed of the trial's random numbers"),
        Column(
            "protocol", TEXT, "", "sealed: the test fold was opened once, at the end; paper: it chose the best epoch"
        ),
        Column("status", TEXT, "", "done, stopped (by the scheduler, before its planned epochs) or failed"),
        Column("error", TEXT, "", "why it failed, null otherwise"),
        Column("epochs", INT, "epochs", "epochs trained"),
        Column("epochs_planned", INT, "epochs", "epochs it was to train"),
        Column("image_size", INT, "pixels", "height and width of the images"),
        Column("channels", INT, "", "1 for grey, 3 for RGB"),
        Column("batch_size", INT, "images", "images in a batch"),
        Column("train_images", INT, "images", "images trained on"),
        Column("validation_images", INT, "images", "images of the validation subjects"),
        Column("test_images", INT, "images", "images of the test fold"),
        Column("train_loss", REAL, "", "mean loss of the last epoch"),
        Column("train_accuracy", REAL, "fraction", "accuracy on the augmented training batches of the last epoch"),
        Column("val_loss", REAL, "", "loss on the validation images after the last epoch"),
        Column("val_accuracy", REAL, "fraction", "accuracy on the validation images"),
        Column("val_balanced_accuracy", REAL, "fraction", "mean recall over the classes, validation images"),
        Column("val_knn_accuracy", REAL, "fraction", "accuracy of 11 nearest training embeddings, validation images"),
        Column("test_accuracy", REAL, "fraction", "accuracy on the test images"),
        Column("test_balanced_accuracy", REAL, "fraction", "mean recall over the classes, test images"),
        Column("test_macro_f1", REAL, "fraction", "mean F1 over the classes, test images"),
        Column("test_knn_accuracy", REAL, "fraction", "accuracy of 11 nearest training embeddings, test images"),
        *(
            Column(
                f"test_recall_at_{k}", REAL, "fraction", f"test images with one of their class among their {k} nearest"
            )
            for k in (1, 2, 4, 8, 16, 32)
        ),
        Column(
            "best_epoch", INT, "epochs", "protocol paper: the epoch that was picked on the test fold, null otherwise"
        ),
        Column("seconds", REAL, "s", "wall time from the start of the set-up to the end of the evaluation"),
        Column("setup_seconds", REAL, "s", "wall time before the first batch"),
        Column("images_per_second", REAL, "images/s", "training images per second of training"),
        Column("peak_memory_bytes", LONG, "bytes", "peak memory of the device, or of the process on a CPU"),
        Column("device", TEXT, "", "cuda or cpu, and the model"),
        Column("host", TEXT, "", "name of the machine"),
        Column("threads", INT, "", "CPU threads of the worker"),
        Column("config", TEXT, "JSON", "canonical JSON of the TrialSpec"),
        Column("numerics", TEXT, "", "versions of the numbers of the training loop and of the method: LOOP.METHOD"),
        Column("data_fingerprint", TEXT, "sha256", "content of the data set"),
        Column("source_hash", TEXT, "sha256", "source files of the method"),
        Column("git_commit", TEXT, "", "commit of the checkout"),
        Column("git_dirty", FLAG, "", "whether the checkout differed from that commit"),
        Column("versions", TEXT, "JSON", "versions of Python and of the libraries"),
        Column("started_at", TIME, "UTC", "start of the trial"),
        Column("ended_at", TIME, "UTC", "end of the trial"),
        Column("retrained", INT, "", "how often it was trained anew on purpose; null is never"),
        Column("test_precision", REAL, "fraction", "macro precision: mean precision over the classes, test images"),
        Column("test_f1_of_macro", REAL, "fraction", "2PR / (P + R) of test_precision and test_balanced_accuracy"),
        Column(
            "test_sequence_accuracy",
            REAL,
            "fraction",
            "accuracy of one decision a test sequence, by the mean of its frames' scores; test_accuracy is that of frames",
        ),
        Column(
            "test_nearest_mean_accuracy",
            REAL,
            "fraction",
            "accuracy of the nearest class mean of the training embeddings",
        ),
        Column(
            "test_nmi", REAL, "fraction", "NMI = 2I / (H + H) of the classes and k-means, as many clusters as classes"
        ),
        Column("test_pairwise_f1", REAL, "fraction", "F1 of pairs of test images in one cluster of that k-means"),
        Column("test_nmi_knn", REAL, "fraction", "NMI of the classes and the votes of 11 nearest training embeddings"),
        Column("test_pairwise_f1_knn", REAL, "fraction", "F1 of pairs of test images that those votes put together"),
        *(
            Column(
                f"test_acc_at_{k}", REAL, "fraction", f"share of the {k} nearest of a test image that have its class"
            )
            for k in (1, 2, 4, 8, 16, 32)
        ),
        *(
            Column(f"epochs_to_{level}", INT, "epochs", f"first epoch with a training accuracy of at least {level} %")
            for level in (90, 99)
        ),
        Column("notes", TEXT, "JSON", "substitutes and choices that the method made, by name; null where it made none"),
        Column("stopped_by", TEXT, "", "rule that stopped it: asha, racing, collapse or budget; null where none did"),
        Column("resumed_epochs", INT, "epochs", "epochs out of a checkpoint of an earlier attempt; null is none"),
        Column("gpu_share", REAL, "fraction", "share of a GPU that it was given; 0 on a CPU"),
    ),
)

EPOCHS = TableSpec(
    "epochs",
    "One row per trial and epoch: the learning curves.",
    True,
    (
        KEY,
        EPOCH,
        Column("train_loss", REAL, "", "mean loss of the epoch"),
        Column("classification_loss", REAL, "", "its classification part"),
        Column("metric_loss", REAL, "", "its metric part, mean over the slices"),
        Column("train_accuracy", REAL, "fraction", "accuracy on the augmented training batches"),
        Column("val_loss", REAL, "", "loss on the validation images"),
        Column("val_accuracy", REAL, "fraction", "accuracy on the validation images"),
        Column("val_balanced_accuracy", REAL, "fraction", "mean recall over the classes, validation images"),
        Column("test_accuracy", REAL, "fraction", "protocol paper only, null otherwise"),
        Column("seconds", REAL, "s", "wall time of the epoch"),
    ),
)

SLICES = TableSpec(
    "slices",
    "One row per trial, epoch and slice: what the mined triplets of that slice looked like.",
    True,
    (
        KEY,
        EPOCH,
        SLICE,
        THRESHOLD,
        Column("metric_loss", REAL, "", "loss of the slice"),
        Column("active_rate", REAL, "fraction", "valid anchors with a loss above 0"),
        Column("incomplete_rate", REAL, "fraction", "valid anchors judged incompletely: no loss, yet d(a,p) > d(p,n)"),
        Column("flip_rate", REAL, "fraction", "valid anchors with d(a,p) > d(p,n)"),
        Column("positive_distance", REAL, "distance", "mean d(a,p) of the mined triplets"),
        Column("negative_distance", REAL, "distance", "mean d(a,n) of the mined triplets"),
        Column("cross_distance", REAL, "distance", "mean d(p,n) of the mined triplets"),
        Column(
            "spread", REAL, "distance", "root mean square distance of two images of a batch; 0 is a collapsed embedding"
        ),
        Column("inter_distance", REAL, "distance", "mean distance of two images of different classes"),
        Column("intra_distance", REAL, "distance", "mean distance of two images of one class"),
        Column(
            "knn_accuracy", REAL, "fraction", "accuracy of 11 nearest neighbours in this slice alone, last epoch only"
        ),
        Column(
            "population_incomplete_rate",
            REAL,
            "fraction",
            "triplets judged incompletely among all valid ones of the judged images (or 1 000 000 drawn), last epoch only",
        ),
    ),
)

CONFUSION = TableSpec(
    "confusion",
    "One row per trial, split, true class and predicted class.",
    True,
    (
        KEY,
        SPLIT,
        Column("truth", INT, "", "index of the true class"),
        Column("predicted", INT, "", "index of the predicted class"),
        Column("truth_class", TEXT, "", "name of the true class"),
        Column("predicted_class", TEXT, "", "name of the predicted class"),
        Column("count", LONG, "images", "images of the one taken for the other"),
        Column("rate", REAL, "fraction", "count / images of the true class; 0 where there are none"),
    ),
)

PREDICTIONS = TableSpec(
    "predictions",
    "One row per trial and test image.",
    True,
    (
        KEY,
        Column("image", LONG, "", "index of the image in the data set"),
        Column("label", INT, "", "index of its class"),
        Column("predicted", INT, "", "index of the predicted class"),
        Column("scores", FLOATS, "", "score of each class"),
        Column("subject", TEXT, "", "person in the image"),
        Column("sequence", TEXT, "", "sequence that the image is a frame of"),
    ),
)

CLASSES = TableSpec(
    "classes",
    "One row per trial, split and class: its scores.",
    True,
    (
        KEY,
        SPLIT,
        Column("label", INT, "", "index of the class"),
        Column("class_name", TEXT, "", "name of the class"),
        Column("precision", REAL, "fraction", "right among those predicted to be of the class; null where none is"),
        Column("recall", REAL, "fraction", "right among those of the class; null where there are none"),
        Column("f1", REAL, "fraction", "2PR / (P + R); null where the class neither occurs nor is predicted"),
        Column("support", LONG, "images", "images of the class"),
    ),
)

NEIGHBOURS = TableSpec(
    "neighbours",
    "One row per trial, split and K: what the K nearest by Euclidean distance say.",
    True,
    (
        KEY,
        SPLIT,
        Column("k", INT, "images", "K, the number of neighbours"),
        Column("knn_accuracy", REAL, "fraction", "accuracy of the vote of the K nearest training embeddings"),
        Column("recall_at", REAL, "fraction", "Recall@K: images with one of their class among their K nearest others"),
        Column("acc_at", REAL, "fraction", "Acc@K: share of the K nearest others that have the image's class"),
    ),
)

DISTANCES = TableSpec(
    "distances",
    "One row per trial, split, slice and set of image pairs: the distribution of their distances, in L2-normalised slices. "
    "Of more than 2048 images evenly spaced ones are taken.",
    True,
    (
        KEY,
        Column("split", TEXT, "", "train, and test, or validation where the test fold is not opened"),
        SLICE,
        THRESHOLD,
        Column("kind", TEXT, "", "inter: pairs of different classes; intra: pairs of one class"),
        Column("first_class", TEXT, "", "name of the one class; null for the pairs of all classes"),
        Column("second_class", TEXT, "", "name of the other class; null for the pairs of all classes"),
        Column("pairs", LONG, "pairs", "number of pairs"),
        Column("mean", REAL, "distance", "mean distance"),
        Column("std", REAL, "distance", "standard deviation of the distances"),
        Column("p5", REAL, "distance", "5th percentile"),
        Column("p95", REAL, "distance", "95th percentile"),
        Column("counts", LONGS, "pairs", "pairs in each of 100 bins of equal width on [0, 2]; null for single classes"),
    ),
)

EMBEDDING = TableSpec(
    "embedding",
    "One row per trial and test image, where evaluation.tsne asks for it: its place in a plane by t-SNE.",
    True,
    (
        KEY,
        Column("image", LONG, "", "index of the image in the data set"),
        Column("label", INT, "", "index of its class"),
        Column("class_name", TEXT, "", "name of its class"),
        Column("x", REAL, "", "first coordinate"),
        Column("y", REAL, "", "second coordinate"),
    ),
)

PROBE = TableSpec(
    "probe",
    "One row per trial and slice, where evaluation.probe asks for it: what a fixed batch of training images, seen in "
    "evaluation mode after every optimiser step, says of the training. Judgements and losses are null without a threshold.",
    True,
    (
        KEY,
        SLICE,
        THRESHOLD,
        Column("images", INT, "images", "images of the batch"),
        Column("steps", LONG, "steps", "optimiser steps that were looked at"),
        Column("half_cycles", LONG, "", "half-cycles: A judged incompletely with (A, B, C), then B with (B, A, C)"),
        Column("cycles", LONG, "", "cycles: two half-cycles on end that lead back to (A, B, C)"),
        Column("cycles_per_100_steps", REAL, "1/100 steps", "100 x cycles / steps"),
        Column("incomplete_rate", REAL, "fraction", "anchors judged incompletely, mean over the steps"),
        Column(
            "cross_step",
            LONG,
            "steps",
            "first step from which the smoothed d(a,p) is below d(a,n) and d(p,n) for 50 steps; null if never",
        ),
        Column("final_loss", REAL, "", "triplet loss of the batch after the last step"),
        Column("relative_loss_area", REAL, "", "mean over the steps of loss / threshold; 1 is a collapsed embedding"),
    ),
)

PROBE_STEPS = TableSpec(
    "probe_steps",
    "One row per trial, slice and optimiser step, where evaluation.probe asks for it: the curves of that batch.",
    True,
    (
        KEY,
        SLICE,
        Column("step", LONG, "steps", "1 is the first"),
        Column("positive_distance", REAL, "distance", "mean d(a,p) of the mined triplets, smoothed by 0.9"),
        Column("negative_distance", REAL, "distance", "mean d(a,n), smoothed by 0.9"),
        Column("cross_distance", REAL, "distance", "mean d(p,n), smoothed by 0.9"),
        Column("metric_loss", REAL, "", "triplet loss of the batch"),
        Column("incomplete_rate", REAL, "fraction", "anchors judged incompletely"),
        Column("half_cycles", LONG, "", "half-cycles that this step completed"),
        Column("cycles", LONG, "", "cycles that this step completed"),
    ),
)

TRANSFERS = TableSpec(
    "transfers",
    "One row per trial and other data set that evaluation.transfer names: the trained network on all of its images or one "
    "official part, classes matched by their canonical names. Classes that only one side has are left out, of the "
    "predictions and of the neighbours, too.",
    True,
    (
        KEY,
        Column("dataset", TEXT, "", "name of the data set"),
        Column("data_fingerprint", TEXT, "sha256", "content of the data set"),
        Column("images", LONG, "images", "images that were judged"),
        Column("images_left_out", LONG, "images", "images of classes that the trial was not trained on"),
        Column("classes", TEXTS, "", "names of the classes that both sides have"),
        Column("classes_trained_only", TEXTS, "", "names of the classes that only the trial's data set has"),
        Column("classes_transfer_only", TEXTS, "", "names of the classes that only this data set has"),
        Column("accuracy", REAL, "fraction", "accuracy among the classes of both sides"),
        Column("balanced_accuracy", REAL, "fraction", "mean recall over those classes"),
        Column("macro_f1", REAL, "fraction", "mean F1 over those classes"),
        Column("knn_accuracy", REAL, "fraction", "accuracy of 11 nearest training embeddings of those classes"),
        Column("nmi", REAL, "fraction", "NMI of the classes and k-means, as many clusters as classes of both sides"),
        Column("pairwise_f1", REAL, "fraction", "F1 of pairs of images in one cluster of that k-means"),
        Column("part", TEXT, "", "official part that was judged: train, val or test; null for all images"),
    ),
)

PICTURES = TableSpec(
    "pictures",
    "One row per trial and picture that its method made, such as generated references.",
    True,
    (
        KEY,
        Column("name", TEXT, "", "name of the picture"),
        Column("png", BYTES, "PNG", "the picture"),
    ),
)

AUDITS = TableSpec(
    "audits",
    "One row per opening of a test fold: by which trial, when, with what code.",
    False,
    (
        KEY,
        Column("opened_at", TIME, "UTC", "when the test images were first read"),
        Column("protocol", TEXT, "", "sealed or paper"),
        Column("host", TEXT, "", "name of the machine"),
        Column("git_commit", TEXT, "", "commit of the checkout"),
        Column("source_hash", TEXT, "sha256", "source files of the method"),
        Column("test_images", INT, "images", "images that were read"),
    ),
)

STUDIES = TableSpec(
    "studies",
    "One row per study.",
    False,
    (
        Column("study", TEXT, "", "name of the study"),
        Column("kind", TEXT, "", "search, ablation, or method (one arm)"),
        Column("ablation", TEXT, "", "name of the ablation, null for other kinds"),
        Column("baseline", TEXT, "", "arm that the others are compared with"),
        Column("metric", TEXT, "", "column of trials that the study is about"),
        Column("config", TEXT, "JSON", "resolved configuration"),
        Column("overrides", TEXTS, "", "overrides as they were given"),
        Column("created_at", TIME, "UTC", "when it was first planned"),
        Column("git_commit", TEXT, "", "commit of the checkout"),
        Column("question", TEXT, "", "what an ablation asks, null where it does not say"),
        Column("layout", TEXT, "JSON", "factors of the rows and the columns of its table, and the place of each arm"),
        Column("published", TEXTS, "", "ids of the published numbers that stand beside, see results/published.csv"),
    ),
)

MEMBERS = TableSpec(
    "members",
    "One row per study and trial that it consists of; a trial is a member of every study that needs it.",
    False,
    (
        Column("study", TEXT, "", "name of the study"),
        Column("arm", TEXT, "", "arm that the trial is in this study"),
        Column("index", LONG, "", "position in the study's plan, 0 is the first"),
        Column("fold", INT, "", "fold that is tested on"),
        Column("seed", LONG, "", "seed of the trial"),
        KEY,
        Column("parameters", TEXT, "JSON", "what a search proposed, null in an ablation"),
    ),
)

TABLES = {
    table.name: table
    for table in (
        TRIALS,
        EPOCHS,
        SLICES,
        CONFUSION,
        PREDICTIONS,
        CLASSES,
        NEIGHBOURS,
        DISTANCES,
        EMBEDDING,
        PROBE,
        PROBE_STEPS,
        TRANSFERS,
        PICTURES,
        AUDITS,
        STUDIES,
        MEMBERS,
    )
}
TRIAL_TABLES = tuple(table.name for table in TABLES.values() if table.per_trial)


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Build the Arrow table `name` from plain dicts; a column that a row lacks becomes null.

    Raises:
        KeyError: there is no such table, or it has no such column.
        TypeError: a value does not fit its column's type.

    """
    schema = TABLES[name].schema
    unknown = sorted({column for row in rows for column in row} - set(schema.names))
    if unknown:
        raise KeyError(f"The table {name} has no column {', '.join(unknown)}")
    arrays = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        try:
            if pa.types.is_integer(field.type) and not all(v is None or isinstance(v, Integral) for v in values):
                raise pa.ArrowTypeError(f"found {values}")  # Arrow would cut 1.5 to 1
            arrays.append(pa.array(values, type=field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise TypeError(f"Column {name}.{field.name} holds {field.type}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def markdown() -> str:
    """The documentation of all tables as Markdown."""
    lines = [f"# The results tables (schema version {SCHEMA_VERSION})"]
    for table in TABLES.values():
        lines += ["", f"## {table.name}", table.meaning, "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [f"| {c.name} | {c.type} | {c.unit} | {c.meaning} |" for c in table.columns]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
