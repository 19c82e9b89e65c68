"""The manifest for KubeRay, against the fields of its API (ray.io/v1) and of the pods in it; nothing applies it here."""

import pytest
import yaml

from study.config import ROOT

FOLDER = ROOT / "study/conf/cluster/kuberay"
SPEC = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "workerGroupSpecs",
}  # fmt: skip
HEAD = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
WORKERS = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas", "resources",
    "scaleStrategy", "suspend", "template",
}  # fmt: skip
AUTOSCALER = {
    "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "securityContext", "upscalingMode", "version",
    "volumeMounts",
}  # fmt: skip
POD = {
    "automountServiceAccountToken", "containers", "nodeSelector", "securityContext", "serviceAccountName",
    "terminationGracePeriodSeconds", "tolerations", "volumes",
}  # fmt: skip
CONTAINER = {"env", "image", "name", "resources", "securityContext", "volumeMounts"}


def test_an_image_has_no_more_of_a_folder_than_the_machines_of_a_cluster():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    left = {line.removeprefix("**/") for line in lines if not line.startswith("#")}
    for file in ("cluster.yaml", "study/conf/cluster/on_prem/cluster.yaml"):
        assert left == set(yaml.safe_load((ROOT / file).read_text())["rsync_exclude"])


@pytest.fixture
def documents():
    return list(yaml.safe_load_all((FOLDER / "cluster.yaml").read_text()))


def test_every_field_is_one_of_the_api(documents):
    cluster = documents[0]
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert set(spec) <= SPEC
    assert set(spec["headGroupSpec"]) <= HEAD
    assert set(spec["autoscalerOptions"]) <= AUTOSCALER
    for group in spec["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in pods(spec):
        assert set(pod) <= POD
        assert all(set(container) <= CONTAINER for container in pod["containers"])
        mounts = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "KubeRay takes text alone"


def pods(spec):
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def test_it_is_as_safe_as_the_others(documents):
    cluster, policy = documents
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    head = spec["headGroupSpec"]
    assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert (head["rayStartParams"]["num-cpus"], head["serviceType"]) == ("0", "ClusterIP")
    for pod in pods(spec):
        assert pod["securityContext"]["runAsNonRoot"]
        assert all(one["securityContext"]["capabilities"] == {"drop": ["ALL"]} for one in pod["containers"])
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["podSelector"]["matchLabels"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert policy["spec"]["ingress"][0]["from"]


def test_its_versions_are_the_projects(documents):
    [pinned] = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray==")]
    assert documents[0]["spec"]["rayVersion"] == pinned.removeprefix("ray==")
    assert "study/conf/cluster/setup.sh" in (FOLDER / "Dockerfile").read_text()
