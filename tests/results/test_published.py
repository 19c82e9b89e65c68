"""Published numbers: what the papers print, and nothing else."""

from results.published import COLUMNS, FILE, beside, published, select
from results.schema import TABLES


def value(**wanted):
    [found] = select(wanted)
    return found.value


def test_every_number_says_where_it_stands():
    metrics = set(TABLES["trials"].schema.names)
    assert len({number.id for number in published()}) == len(published()) == 153
    for number in published():
        assert all((number.source, number.dataset, number.method)), number.id
        assert number.metric in metrics
        assert 0 < number.value <= 100 or number.metric == "seconds"
    assert FILE.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_numbers_are_those_of_the_papers():
    assert value(source="Yang et al. 2024") == 98.49
    assert value(table=3, dataset="mmi", method="IDFERM") == 81.13
    assert value(table=4, method="FN2EN") == 96.8
    assert value(table=6, method="PPDN") == 84.59
    assert value(table=5, dataset="mmi", arm="tuplet_clusters-pretrained") == 78.53
    assert value(table=1, dataset="bu3dfe", arm="sgm-preact_resnet18") == 26.104
    assert value(table=1, dataset="ferplus", arm="random_triplet-cvgg13") == 67.384
    assert value(table=2, arm="sgm-resnet18", metric="test_precision", source="Marrero-Fernandez et al. 2020") == 88.614
    assert value(table=2, arm="softmax-alexnet", metric="test_f1_of_macro") == 72.881
    assert value(source="Barsoum et al. 2016") == 84.99
    assert value(table=2, dataset="ckplus", classes=7, method="triplet") == 5 * 3600 + 24 * 60


def test_table_2_obeys_its_own_definition_of_f1():
    """F1 is 2PR / (P + R) of the macro numbers, on all 15 rows."""
    rows = {}
    for number in select({"source": "Marrero-Fernandez et al. 2020", "table": 2}):
        rows.setdefault(number.method, {})[number.metric] = number.value
    assert len(rows) == 15
    for row in rows.values():
        p, r = row["test_precision"], row["test_balanced_accuracy"]
        assert abs(2 * p * r / (p + r) - row["test_f1_of_macro"]) < 0.0011


def test_accuracies_of_table_2_are_counts_of_3137_images():
    for number in select({"table": 2, "metric": "test_accuracy", "dataset": "ferplus"}):
        count = number.value / 100 * 3137
        assert abs(count - round(count)) < 0.02, number.id


def test_percent_become_fractions_and_seconds_stay():
    [number] = select({"source": "Yang et al. 2024"})
    assert number.in_our_unit == 0.9849
    [number] = select({"table": 2, "dataset": "oulu_casia"})
    assert number.in_our_unit == 3360


def test_only_numbers_of_the_data_set_its_classes_and_the_metric_stand_beside():
    ids = [number.id for number in published()]
    seven, eight = ({one.method for one in beside(ids, "ckplus", classes, "test_accuracy")} for classes in ("7", "8"))
    assert "MSR" in seven - eight
    assert "AUDB" in eight - seven
    assert beside(ids, "ckplus", "7", "test_nmi_knn") == []
    assert beside([], "ckplus", "7", "test_accuracy") == []
