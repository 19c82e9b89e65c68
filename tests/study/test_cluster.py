import copy
import json
import os
import shlex
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import yaml

from results import Store
from results.errors import StoreUnavailable
from study import cluster_file
from study.config import ROOT
from study.errors import StudyError
from study.spool import Spool
from tests.results.fakes import fake_trial

pytest.importorskip("botocore", reason="needs the extra `cluster`")


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """The command line sets the umask and an environment variable of its process, which is here that of all tests."""
    monkeypatch.setenv("RAY_AUTH_MODE", "")
    umask = os.umask(0o022)
    yield
    os.umask(umask)


@pytest.fixture
def aws(tmp_path):
    """cluster.yaml with its values set, and a token to mount."""
    cluster = yaml.safe_load(
        (ROOT / "cluster.yaml").read_text().replace("sg-SET_ME", "sg-0a1").replace("s3://SET_ME", "s3://bucket")
    )
    (tmp_path / "token").touch()
    cluster["file_mounts"]["~/.ray/auth_token"] = str(tmp_path / "token")
    return copy.deepcopy(cluster)


def test_the_files_are_right_but_for_what_a_user_sets(aws):
    assert cluster_file.problems(aws, ROOT) == []
    raw = cluster_file.read(ROOT / "cluster.yaml")
    unset = [line for line in cluster_file.problems(raw, ROOT) if "SET_ME" in line]
    assert len(unset) == 2
    assert "SecurityGroup" in unset[0]
    assert "Bucket" in unset[1]


def change(path, value):
    def apply(cluster):
        *inner, last = path.split("/")
        for part in inner:
            cluster = cluster[part]
        if value is None:
            del cluster[last]
        else:
            cluster[last] = value

    return apply


WORKER = "available_node_types/gpu"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (change("max_worker", 3), "Ray does not accept the file"),
        (change("provider/regoin", "x"), "There is no setting provider.regoin. Did you mean region?"),
        (change("provider/aws_credentials", {"aws_secret_access_key": "x"}), "no credentials in the file"),
        (change("max_workers", None), "Ray's default is 2"),
        (change("setup_commands", None), "a nightly build"),
        (change("file_mounts/~~data", "nowhere"), "found nowhere"),
        (change(f"{WORKER}/min_workers", 4), None),
        (change(f"{WORKER}/max_workers", -1), "at most its max_workers"),
        (
            change(f"{WORKER}/node_config/InstanceTyp", "g6.xlarge"),
            "node_config.InstanceTyp. Did you mean InstanceType",
        ),
        (change(f"{WORKER}/node_config/InstanceType", None), "node_config.InstanceType, as in g6.xlarge"),
        (change(f"{WORKER}/node_config/ImageId", None), "node_config.ImageId"),
        (change(f"{WORKER}/node_config/IamInstanceProfile", None), "node_config.IamInstanceProfile"),
        (change(f"{WORKER}/node_config/SecurityGroupIds", None), "lets the whole world in by SSH"),
        (change(f"{WORKER}/node_config/MetadataOptions", {"HttpTokens": "optional"}), "IMDSv2"),
        (change(f"{WORKER}/node_config/BlockDeviceMappings", None), "Encrypted: true"),
        (change(f"{WORKER}/node_config/SecurityGroupIds", ["default"]), "as in sg-0123456789abcdef0, found default"),
        (
            change("provider/region", "eu-central-1"),
            "zones of the region eu-central-1, as in eu-central-1a, found us-west-2a",
        ),
        (
            change("metadata/results", "bucket/results"),
            "Expected metadata.results to be s3://BUCKET/PREFIX, found bucket/results",
        ),
        (change("head_start_ray_commands", ["ray start --head --dashboard-host=0.0.0.0"]), "found 0.0.0.0"),
        (change("head_start_ray_commands", ["RAY_AUTH_MODE=token ray start --head"]), "Ray would ask for it for ever"),
        (change("worker_start_ray_commands", ["ray start"]), "RAY_AUTH_MODE=token"),
        (change("available_node_types/head/resources", {}), "the head trains nothing"),
    ],
)
def test_what_ray_accepts_though_it_is_wrong_is_told(aws, broken, said):
    # Types share mappings by YAML's aliases: each is changed alone.
    aws["available_node_types"] = yaml.safe_load(yaml.safe_dump(aws["available_node_types"], default_flow_style=False))
    aws["available_node_types"] = {name: copy.deepcopy(node) for name, node in aws["available_node_types"].items()}
    broken(aws)
    told = cluster_file.problems(aws, ROOT)
    assert (told == []) if said is None else any(said in line for line in told), told


def test_what_every_machine_would_get_beside_the_project_is_told(aws, tmp_path):
    project = tmp_path / "project"
    for place in ("study/plan.py", "my_faces/happy/anna_1.png", "results/tables/part"):
        (project / place).parent.mkdir(parents=True)
        (project / place).touch()
    with (project / "results/tables/part").open("wb") as file:
        file.truncate(1 << 30)  # it is left out
    assert cluster_file.problems(aws, project) == []
    with (project / "my_faces/happy/anna_1.png").open("wb") as file:
        file.truncate(300 << 20)
    [told] = cluster_file.problems(aws, project)
    assert "found 300 MiB in my_faces: move it elsewhere" in told
    aws["rsync_exclude"].append("my_faces")
    assert cluster_file.problems(aws, project) == []


def test_the_driver_is_told_what_it_runs_a_copy_of_and_how_to_encrypt(monkeypatch):
    from study import cluster, provenance

    monkeypatch.setenv("S3_ENCRYPTION", "aws:kms:key")
    told = cluster._variables()
    assert told["S3_ENCRYPTION"] == "aws:kms:key"
    assert json.loads(told[provenance.CODE]) == provenance.code()

    monkeypatch.setattr(provenance, "_git", lambda *words: None)  # a copy without its history
    assert provenance.code() == {"git_commit": None, "git_dirty": None}
    monkeypatch.setenv(provenance.CODE, '{"git_commit": "abc", "git_dirty": false}')
    assert provenance.code() == {"git_commit": "abc", "git_dirty": False}


def test_what_it_says_to_type_can_be_typed(tmp_path, monkeypatch):
    from study import cluster

    monkeypatch.chdir(tmp_path)
    told = cluster._own("submit", tmp_path / "my clusters" / "mine.yaml", "--", "--resume", "one")
    words = shlex.split(told)
    assert (ROOT / "study/cluster.py").samefile(words[1])
    assert words[2:] == ["submit", "my clusters/mine.yaml", "--", "--resume", "one"]


def test_bad_files_and_commands_are_one_sentence(tmp_path, capsys):
    from study import cluster

    (tmp_path / "a.yaml").write_text("a: [")
    for arguments in (["check", str(tmp_path / "a.yaml")], ["check", str(tmp_path / "none")], ["grow"], ["submit"]):
        assert cluster.main(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 4


def test_the_price_is_capped_and_told(capsys):
    from study import cluster, cluster_account

    raw = cluster_file.read(ROOT / "cluster.yaml")
    raw["available_node_types"] = dict(reversed(raw["available_node_types"].items()))
    assert next(row[0] for row in cluster_account.cost(raw)) == "head (m6i.large)"

    assert cluster.main(["cost"]) == 0
    assert "At most: 3.41 USD an hour" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        (["--search"], ["storage.root=s3://b/results", "dataset.cache=s3://b/faces"]),
        (["--search", "storage.root=s3://b/x", "dataset.cache=s3://b/y"], []),
        (["--resume", "far", "storage.root=s3://b/x"], ["dataset.cache=s3://b/faces"]),
        (["--simulate", "study=far"], ["storage.root=s3://b/results"]),
    ],
)
def test_what_is_submitted_finds_its_places_in_the_bucket(arguments, added):
    from study.cluster import _placed

    assert _placed(arguments, "s3://b/results") == [*arguments, *added]
    assert _placed(arguments, None) == arguments


def test_a_folder_that_means_another_one_there_is_refused():
    from study.cluster import _placed

    with pytest.raises(
        StudyError, match="an absolute path, which names the same faces on every machine, found my_faces"
    ):
        _placed(["--search", "dataset.root=my_faces"], None)
    assert _placed(["--search", 'dataset.root="/data/CK+"'], None)


def test_set_up_is_valid_bash():
    subprocess.run(["bash", "-n", str(ROOT / "study/conf/cluster/setup.sh")], check=True)


@pytest.fixture
def ray_of_tests(tmp_path, monkeypatch):
    """In place of `ray`: a head with no job, which is this machine; gives the words that it was told, a line a command."""
    from study import cluster

    heard = tmp_path / "heard"
    fake = f"""#!/bin/sh
echo "$@" >>{heard}
[ "$1" = exec ] || exit 0
echo "what Ray says besides"
cd {ROOT} && {sys.executable} -m study.spool
"""
    (tmp_path / "ray").write_text(fake)
    (tmp_path / "ray").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(cluster, "_jobs", lambda path: nullcontext(SimpleNamespace(list_jobs=list)))
    return heard


def away(*arguments):
    raise StoreUnavailable("The store is away.")


def test_down_is_refused_while_rows_are_on_the_head_alone(tmp_path, monkeypatch, capsys, ray_of_tests):
    from study import cluster

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "mine.yaml"
    file.write_text("cluster_name: mine\nprovider: {type: local, head_ip: 192.0.2.1}\n")
    store = Store(tmp_path / "tables")
    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", away)
        Spool(store, "one-study").commit("k", fake_trial("k"))
    assert cluster.main(["down", str(file)]) == 2
    said = capsys.readouterr().err
    assert "those of one-study." in said
    assert "-- --resume one-study" in said
    assert "down --yes" not in ray_of_tests.read_text()

    assert Spool(store, "one-study").catch_up(now=True)
    assert cluster.main(["down", str(file)]) == 0
    assert ray_of_tests.read_text().splitlines()[-1] == f"down --yes {file}"


def test_down_is_forced_although_the_head_says_nothing(tmp_path, monkeypatch, capsys, ray_of_tests):
    from study import cluster

    file = tmp_path / "mine.yaml"
    file.write_text("cluster_name: mine\nprovider: {type: local, head_ip: 192.0.2.1}\n")
    (tmp_path / "ray").write_text("#!/bin/sh\n[ $1 = down ]\n")
    assert cluster.main(["down", str(file)]) == 2
    assert "say --force" in capsys.readouterr().err
    assert cluster.main(["down", str(file), "--force"]) == 0
