import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from results import Store, StoreError, asking
from results.asking import FUNCTIONS, query
from results.query import main, saved
from results.schema import TABLES
from tests.results.fakes import fake_ablation, fake_search, fake_trial

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "tables")
    fake_ablation(store, folds=2, seeds=1)
    fake_search(store, trials=5)
    return store


@pytest.fixture
def ask(store, capsys):
    def ask(*arguments):
        status = main([f"storage.root={store.root}", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return ask


def test_run_as_a_file_from_anywhere(store, tmp_path):
    command = [sys.executable, "-W", "error", str(ROOT / "results" / "query.py"), f"storage.root={store.root}"]
    done = subprocess.run(
        [*command, "SELECT count(*) AS n FROM trials", "--format", "csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "n\n9\n", "")
    wrong = subprocess.run([*command, "SELECT x FROM trials"], cwd=tmp_path, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(("arguments", "needless"), [(["--table", "demo"], {"duckdb"}), (["FROM trials"], {"scipy"})])
def test_the_command_imports_no_more_than_it_needs(store, arguments, needless):
    """The command takes as long as its imports: pandas, which pyarrow would take up, is a third of them."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "results" / "query.py"), f"storage.root={store.root}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyarrow" in imported
    assert not imported & {
        "pandas.core",
        "scipy.stats",
        "scipy.optimize",
        "matplotlib",
        "torch",
        "ray",
        "boto3",
        *needless,
    }


def test_every_table_can_be_asked(store):
    for name in TABLES:
        assert query(store, f"SELECT * FROM {name}").columns == tuple(TABLES[name].schema.names)
    assert query(store, "SELECT max(index) FROM members WHERE study = 'demo'").rows == [(3,)]
    assert query(store, "SELECT DISTINCT slice FROM slices ORDER BY ALL").rows == [(0,), (1,)]
    assert len(query(store, "DESCRIBE trials").rows) == len(TABLES["trials"].columns)
    assert query(store, "SELECT 1 AS a, 2 AS a").columns[0] == "a"


@pytest.mark.parametrize("sql", [
    "SHOW TABLES",
    "FROM (SHOW TABLES)",
    "SELECT table_name FROM information_schema.tables",
    "SELECT view_name FROM duckdb_views() WHERE NOT internal",
    "SELECT name FROM sqlite_master",
])  # fmt: skip
def test_what_lists_tables_lists_all(store, sql):
    """Also those that the statement does not name."""
    assert {row[0] for row in query(store, sql).rows} >= set(TABLES)


def test_lists_and_times_in_each_format(ask):
    sql = "SELECT trial_key, thresholds, ended_at, test_accuracy, git_dirty FROM trials WHERE study = 'hunt' ORDER BY 1"
    status, out, _ = ask(sql, "--format", "json")
    rows = json.loads(out)
    assert status == 0
    assert rows[0]["thresholds"] == [0.15, 0.45]
    assert rows[0]["ended_at"] == "2026-01-02T03:05:05Z"
    assert isinstance(rows[0]["test_accuracy"], float)
    assert rows[3]["test_accuracy"] is None
    found = list(csv.DictReader(io.StringIO(ask(sql, "--format", "csv")[1])))
    assert found[0]["thresholds"] == "[0.15, 0.45]"
    assert found[0]["ended_at"] == "2026-01-02T03:05:05Z"
    assert float(found[0]["test_accuracy"]) == rows[0]["test_accuracy"]
    assert (found[3]["test_accuracy"], found[0]["git_dirty"]) == ("", "false")
    assert "| [0.15, 0.45] | 2026-01-02 03:05:05Z |" in ask(sql, "--format", "md")[1]
    assert r"{[0.15, 0.45]} & 2026-01-02 03:05:05Z &" in ask(sql, "--format", "latex")[1]
    assert "[0.15, 0.45]" in ask(sql)[1]


@pytest.mark.parametrize("format", ["csv", "json", "md", "latex", "table"])
def test_nothing_is_cut(store, ask, format):  # noqa: A002
    long = "x" * 500
    store.commit("long", fake_trial("long", config=long))
    _, out, _ = ask("SELECT * FROM trials WHERE trial_key = 'long'", "--format", format)
    assert long in out
    assert all(name.replace("_", r"\_") in out or name in out for name in TABLES["trials"].schema.names)


def test_numbers_that_json_has_no_word_for(ask):
    assert json.loads(ask("SELECT 'nan'::DOUBLE AS a, 'inf'::FLOAT AS b, 12::HUGEINT AS c", "--format", "json")[1]) == [
        {"a": None, "b": None, "c": 12}
    ]


def test_times_are_utc_whatever_the_zone_of_the_machine(ask, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    sql = "SELECT ended_at::VARCHAR AS t FROM trials LIMIT 1"
    assert ask(sql, "--format", "csv")[1] == "t\n2026-01-02 03:05:05+00\n"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "COPY trials TO 'out.csv'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "ATTACH 'other.db'",
        "CREATE TABLE x AS SELECT 1",
        "DELETE FROM trials",
        "SET threads = 1",
        "RESET enable_external_access",
        "PRAGMA enable_profiling",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY trials TO 'out.csv'",
        "EXPLAIN ANALYZE COPY trials TO 'out.csv'",
        "EXPORT DATABASE 'out'",
        "SELECT * FROM store",
        "SELECT * FROM read_parquet('/dev/fd/3')",
        "SELECT * FROM parquet_metadata('/dev/fd/3')",
        "SELECT * FROM main.read_blob('/etc/passwd')",
        "SELECT * FROM \"read_text\" /* x */ ('/etc/passwd')",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT 1 WHERE EXISTS (FROM glob('/*'))",
        "WITH a AS MATERIALIZED (FROM read_csv('/etc/passwd')) FROM a",
        "SELECT 1 UNION ALL SELECT 2 FROM trials, LATERAL (FROM read_text(trials.arm))",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT * FROM query_table('trials')",
        "FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM trials'))",
        "SELECT * FROM arrow_scan(1, 2, 3)",
        "SELECT * FROM seq_scan('trials')",
        "SELECT * FROM python_map_function(1)",
        "SELECT * FROM enable_logging(storage='file', storage_path='log')",
        "SELECT * FROM create_external_resource('x')",
        "SELECT * FROM checkpoint()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_settings()",
        "PIVOT (FROM read_text('/etc/passwd')) ON filename USING count(*)",
        "PIVOT (FROM arrow_scan(1, 2, 3)) ON a USING count(*)",
        "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
        "EXPLAIN SELECT * FROM glob('*')",
        "FROM 's3://bucket/x.parquet'",
        "FROM 'https://example.org/x.csv'",
        "CALL enable_logging()",
        "EXECUTE x",
        "PREPARE x AS SELECT 1",
        "USE memory",
        "SET VARIABLE study = 'x'",
        "INSERT INTO trials VALUES (1)",
        "UPDATE trials SET arm = 'x'",
        "MERGE INTO trials USING members USING (trial_key) WHEN MATCHED THEN DELETE",
        "TRUNCATE trials",
        "DROP VIEW trials",
        "CREATE MACRO f() AS 1",
        "CREATE SECRET (TYPE s3)",
        "DETACH memory",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "IMPORT DATABASE 'x'",
        "COPY (SELECT 1) TO '/dev/fd/3'",
        "WITH a AS (DELETE FROM trials RETURNING *) FROM a",
        "",
        "-- nothing",
    ],
)
def test_a_query_reads_only_the_tables_and_writes_nothing(store, sql, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(StoreError):
        query(store, sql)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("sql", [
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT sum(n) FROM r",
    "FROM trials SELECT count(*)",
    "SELECT * FROM range(3), unnest([1, 2])",
    "PIVOT trials ON arm USING avg(test_accuracy) GROUP BY fold",
    "SELECT * FROM (PIVOT trials ON arm IN ('dual', 'softmax') USING avg(test_accuracy) GROUP BY fold)",
    "EXPLAIN ANALYZE SELECT count(*) FROM trials",
    "SUMMARIZE trials",
    "SHOW TABLES",
    "SELECT column_name FROM information_schema.columns WHERE table_name = 'trials'",
    "SELECT t.arm FROM trials t SEMI JOIN epochs e USING (trial_key)",
    "SELECT * FROM trials QUALIFY row_number() OVER (PARTITION BY arm ORDER BY seconds) = 1",
    "-- a comment\nSELECT 1;",
])  # fmt: skip
@pytest.mark.parametrize("compacted", [False, True])
def test_what_a_query_may_do(store, sql, compacted):
    if compacted:
        store.compact()
    assert query(store, sql).rows


def test_no_function_that_reads_or_writes_anything_is_allowed():
    """A later DuckDB may have functions that nobody has looked at; only what is named is allowed, and it is harmless."""
    assert not [name for name in FUNCTIONS if any(w in name for w in ("read", "scan", "file", "query", "log", "sql"))]


def test_settings_are_locked_and_memory_and_threads_are_bounded(store):
    [row] = query(
        store, "SELECT current_setting('enable_external_access'), current_setting('lock_configuration'), "
        "current_setting('memory_limit'), current_setting('threads')"
    ).rows  # fmt: skip
    assert (row[0], row[1], row[2]) == (False, True, "572.2 MiB")
    assert 1 <= row[3] <= 8


def test_an_answer_of_too_many_cells_is_refused(store, monkeypatch):
    monkeypatch.setattr(asking, "CELLS", 100)
    assert query(store, "FROM range(100)").rows
    with pytest.raises(StoreError, match="more than 100 cells: aggregate"):
        query(store, "FROM range(101)")
    with pytest.raises(StoreError, match="more than 100 cells"):
        query(store, "FROM range(1000000000000)")


def test_two_tables_are_of_one_moment(store, monkeypatch):
    """A trial that is committed while a query starts is in all the tables or in none."""
    from results.layout import Layout

    generations = Layout.generations

    def busy(layout):
        monkeypatch.setattr(Layout, "generations", generations)
        Store(store.root).commit("late", fake_trial("late"))
        Store(store.root).compact()
        return generations(layout)

    monkeypatch.setattr(Layout, "generations", busy)
    sql = "SELECT (SELECT count(*) FROM trials), (SELECT count(DISTINCT trial_key) FROM epochs)"
    assert query(store, sql).rows in ([(9, 9)], [(10, 10)])


def test_a_query_reads_on_when_its_files_are_removed(store):
    store.compact()
    with store.snapshot(["trials"]) as snapshot:
        store.commit("new", fake_trial("new"))
        for _ in range(3):
            store.commit(f"new{_}", fake_trial(f"new{_}"))
            store.compact()
        assert snapshot.rows("trials", TABLES["trials"].schema).num_rows == 9


@pytest.mark.parametrize("name", sorted(saved()))
@pytest.mark.parametrize("compacted", [False, True])
def test_saved_queries(store, ask, name, compacted):
    store.write("audits", "a", [{"trial_key": "demo-0-0-0", "protocol": "sealed"}])
    if compacted:
        store.compact()
    status, out, err = ask("--saved", name, "study=demo", "--format", "csv")
    assert (status, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["study"] for row in rows} == (set() if name == "failures" else {"demo"})
    every = list(csv.DictReader(io.StringIO(ask("--saved", name, "--format", "csv")[1])))
    assert {row["study"] for row in every} == ({"hunt"} if name in ("failures", ) else
        {"demo"} if name == "confusions" and not every else {row["study"] for row in every})  # fmt: skip
    assert len(every) >= len(rows)


def test_a_saved_query_takes_the_latest_study_of_an_ablation(store, ask):
    fake_ablation(store, "later", folds=2, seeds=1)
    rows = csv.DictReader(io.StringIO(ask("--saved", "arms", "study=loss_form", "--format", "csv")[1]))
    assert {row["study"] for row in rows} == {"later"}


def test_the_saved_queries_are_listed_with_their_questions(ask):
    listed = json.loads(ask("--saved", "--format", "json")[1])
    assert json.loads(ask("--saved", "study=demo", "--format", "json")[1]) == listed  # a setting is no name
    assert [row["saved"] for row in listed] == sorted(saved())
    assert all(row["question"].count("?") == 1 for row in listed)


def test_the_schema_is_browsed(ask):
    rows = {row["table"]: row["rows"] for row in json.loads(ask("--tables", "--format", "json")[1])}
    assert list(rows) == list(TABLES)
    assert (rows["trials"], rows["studies"], rows["audits"]) == (9, 2, 0)
    status, out, _ = ask("--columns", "epochs", "--format", "csv")
    assert status == 0
    assert [row["column"] for row in csv.DictReader(io.StringIO(out))] == TABLES["epochs"].schema.names


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--columns", "trails"], "There is no table trails; did you mean trials?"),
        (["--saved", "arm"], "There is no saved query arm; did you mean arms?"),
        (["--saved", "arms", "study=dmeo"], "There is no ablation or study dmeo"),
        (["--saved", "arms", "--tables"], "Expected one query"),
        (["SELECT acuracy FROM trials"], 'Referenced column "acuracy" not found'),
        (["SELECT * FROM trails"], "There is no table trails; did you mean trials?"),
        (["SELEC 1"], "syntax error"),
        (["SELECT 'a'::INT"], "Could not convert"),
        (["SELECT 1", "SELECT 2"], "Expected one query"),
        (["SELECT 1", "--table", "loss_form"], "Expected one query"),
        (["SELECT 1", "storage.rot=x"], "did you mean storage.root?"),
        (["SELECT 1", "--formt", "csv"], "There is no option --formt; did you mean --format?"),
        (["SELECT 1", "--format", "xml"], "invalid choice"),
        (["SELECT 1", "--format"], "expected one argument"),
        (["SELECT 1", "--output", "/no/such/folder/file"], "--output /no/such/folder/file"),
        (["SELECT 1", "storage.root=gs://bucket/x"], "Expected a folder or s3://"),
        (["SELECT 1", "storage.root=/no/such/folder"], "There are no results in /no/such/folder"),
        (["--table", "los_form"], "there is loss_form."),
        (["--table", "loss_form", "study=hunt"], "There is no study hunt of loss_form; there is demo."),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(ask, arguments, part):
    status, out, err = ask(*arguments)
    assert (status, out) == (2, "")
    assert part in err
    assert err.endswith((".\n", "?\n", "!\n"))
    assert err.count("\n") == 1


def test_a_damaged_store_is_one_sentence(store, ask):
    [path, *_] = (store.root / "parts" / "trials").iterdir()
    path.write_bytes(b"PAR1")
    status, _, err = ask("SELECT * FROM trials")
    assert (status, err.count("\n")) == (2, 1)
    assert str(path) in err


def test_without_a_question_the_tables_and_how_to_ask(ask):
    status, out, _ = ask()
    assert status == 0
    assert "trials" in out
    assert "Studies: demo, hunt" in out
    assert 'results/query.py "SELECT' in out


def test_the_output_goes_to_a_file(ask, tmp_path):
    status, out, _ = ask("SELECT 1 AS a", "--format", "csv", "--output", str(tmp_path / "a.csv"))
    assert (status, out, (tmp_path / "a.csv").read_text()) == (0, "", "a\n1\n")


def test_table_of_an_ablation_and_of_a_search(ask):
    assert "| dual |" in ask("--table", "loss_form", "--format", "md")[1].replace(" | 2/2", " |")
    assert json.loads(ask("--table", "hunt", "--format", "json")[1])[0]["rank"] == 1
    assert ask("--table", "demo", "--format", "csv") == ask("--table", "loss_form", "study=demo", "--format", "csv")


def test_asking_writes_nothing(store, ask):
    before = sorted(store.root.rglob("*"))
    ask("SELECT * FROM trials JOIN epochs USING (trial_key)")
    ask("--table", "loss_form")
    assert sorted(store.root.rglob("*")) == before
