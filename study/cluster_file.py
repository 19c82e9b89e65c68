"""What can be wrong with a file for `ray up`: Ray's own validation, and what Ray accepts although it cannot work or is not safe."""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from results.remote import ADDRESS
from study.config import nearest
from study.errors import StudyError

Cluster = dict[str, Any]
# Keys of `provider` that Ray's providers read; it passes over all others without a word.
_PROVIDER = {
    "aws": ("type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "security_group", "key_pair"),
    "local": ("type", "head_ip", "worker_ips", "use_internal_ips"),
}  # fmt: skip
_PLACEHOLDER = "SET_ME"
_WHAT = {
    "security_group": "the output SecurityGroup of the stack in study/conf/cluster/aws/account.yaml",
    "results": "s3:// and the output Bucket of the stack in study/conf/cluster/aws/account.yaml, as in s3://BUCKET/results",
    "head_ip": "the address of the machine that runs the head",
    "worker_ips": "the addresses of the machines that train",
    "ssh_user": "the user to log in as on every machine",
    "ssh_private_key": "the key to log in with",
}
# Bytes of a folder that every machine gets beyond which there is something in it that is not the project.
_MUCH = 200 << 20


def read(path: Path) -> Cluster:
    """The file as it stands, aliases resolved.

    Raises:
        StudyError: where there is none, or it is no mapping in YAML.

    """
    try:
        cluster = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"Expected a file for `ray up`, found none that can be read at {path}: {error}.") from error
    except yaml.YAMLError as error:
        raise StudyError(f"Expected {path} to be YAML, found {' '.join(str(error).split())}.") from error
    if not isinstance(cluster, dict) or not isinstance(cluster.get("provider"), dict):
        raise StudyError(f"Expected {path} to hold the keys of a file for `ray up`, provider among them, found others.")
    return cluster


def problems(cluster: Cluster, root: Path) -> list[str]:
    """Everything that is wrong with a file, one sentence each; asks nobody and starts nothing.

    Args:
        cluster: the file.
        root: folder that `ray up` is run in, where relative file_mounts begin.

    """
    unset = list(_unset(cluster))
    return [*unset, *_rays_own(cluster), *_general(cluster, root), *_provider(cluster)]


def _unset(cluster: Cluster) -> Iterator[str]:
    seen = set()
    for path, value in _leaves(cluster):
        if isinstance(value, str) and _PLACEHOLDER in value and value not in seen:
            seen.add(value)
            name = next((part for part in reversed(path) if part in _WHAT), path[-1])
            yield f"Expected {'.'.join(path)} to be {_WHAT.get(name, 'set')}, found the placeholder {value}."


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
    else:
        for key, inner in items:
            yield from _leaves(inner, (*path, str(key)))


def _rays_own(cluster: Cluster) -> Iterator[str]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(copy.deepcopy(cluster)))
    except Exception as error:  # Ray, jsonschema and the provider have each errors of their own
        yield f"Ray does not accept the file: {str(error).strip().splitlines()[0]}."


def _general(cluster: Cluster, root: Path) -> Iterator[str]:
    provider = cluster["provider"]
    known = _PROVIDER.get(str(provider.get("type")))
    if known is None:
        yield f"Expected provider.type to be {' or '.join(_PROVIDER)}, found {provider.get('type')!r}."
    for key in provider:
        if key == "aws_credentials":
            yield "Expected no credentials in the file, found provider.aws_credentials: keep them where AWS's own tools look."
        elif known is not None and key not in known:
            yield f"There is no setting provider.{key}.{nearest(key, known)}"
    if not cluster.get("setup_commands"):
        yield "Expected setup_commands to install the versions of constraints.txt, found none: Ray's default is a nightly build."
    if known == _PROVIDER["aws"] and "max_workers" not in cluster:
        yield "Expected max_workers to cap what is rented, found none: Ray's default is 2."
    for target, source in (cluster.get("file_mounts") or {}).items():
        if not (root / Path(str(source)).expanduser()).exists():
            hint = ": make one with `ray get-auth-token --generate`" if str(target).endswith("auth_token") else ""
            yield f"Expected file_mounts to name what is there, found {source} (to be {target}), which is not{hint}."
        if (root / Path(str(source)).expanduser()).resolve() == root.resolve():
            yield from _heavy(root, {str(one).removeprefix("**/") for one in cluster.get("rsync_exclude") or []})
    results = (cluster.get("metadata") or {}).get("results")
    if results and _PLACEHOLDER not in results and not ADDRESS.fullmatch(results):
        yield f"Expected metadata.results to be s3://BUCKET/PREFIX, found {results}."
    for where in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = " ".join(cluster.get(where) or [])
        if "RAY_AUTH_MODE=token" not in start:
            yield f"Expected {where} to start Ray with RAY_AUTH_MODE=token, found none: whoever reaches it could run anything."
        host = re.search(r"--dashboard-host[= ](\S+)", start)
        if host and host[1] not in ("127.0.0.1", "localhost"):
            yield f"Expected --dashboard-host in {where} to be 127.0.0.1, which SSH reaches, found {host[1]}."


def _heavy(folder: Path, excluded: set[str]) -> Iterator[str]:
    """Whether what is copied of the project's folder is more than the project."""
    sizes: Counter[str] = Counter()
    for here, folders, files in os.walk(folder):
        inside = Path(here).relative_to(folder)
        folders[:] = [name for name in folders if not {name, str(inside / name)} & excluded]
        for name in files:
            with suppress(OSError):  # it is gone
                sizes[(inside / name).parts[0]] += Path(here, name).lstat().st_size
    if sizes.total() > _MUCH:
        [(most, size)] = sizes.most_common(1)
        yield (
            f"Expected {folder} to hold the project alone, since every machine gets a copy, found {size >> 20} MiB in {most}: move it "
            "elsewhere, or name it in rsync_exclude."
        )


def _provider(cluster: Cluster) -> Iterator[str]:
    types = cluster.get("available_node_types")
    if cluster["provider"].get("type") != "aws":
        return
    provider = cluster["provider"]
    region, zones = str(provider.get("region")), str(provider.get("availability_zone") or "")
    for zone in filter(None, (part.strip() for part in zones.split(","))):
        if not re.fullmatch(re.escape(region) + "[a-z]", zone):
            yield f"Expected provider.availability_zone to be zones of the region {region}, as in {region}a, found {zone}."
    if not isinstance(types, dict):
        yield "Expected available_node_types to describe a head and workers, found none."
        return
    nodes = {
        name: node
        for name, node in types.items()
        if isinstance(node, dict) and isinstance(node.get("node_config"), dict)
    }
    for name, node in nodes.items():
        yield from _node(name, node, name == cluster.get("head_node_type"))
    spot = [name for name, node in nodes.items() if node["node_config"].get("InstanceMarketOptions")]
    start = " ".join(cluster.get("head_start_ray_commands") or [])
    if spot and not re.search(r"study\.spot_first.*--autoscaling-config=~/autoscaler\.yaml", start):
        yield (
            f"Expected head_start_ray_commands to run study.spot_first and to start Ray with --autoscaling-config=~/autoscaler.yaml, found "
            f"neither or one: where AWS has no spot machine for {spot[0]}, Ray would ask for it for ever."
        )


def _node(name: str, node: Cluster, head: bool) -> Iterator[str]:
    where, config = f"available_node_types.{name}", node["node_config"]
    least, most = node.get("min_workers") or 0, node.get("max_workers")
    if most is not None and least > most:
        yield f"Expected {where}.min_workers to be at most its max_workers, {most}, found {least}."
    if head and (node.get("resources") or {}).get("CPU") != 0:
        yield f"Expected {where}.resources to be {{CPU: 0, GPU: 0}}, so that the head trains nothing, found {node.get('resources')}."
    for key, example in (
        ("InstanceType", "g6.xlarge"),
        ("ImageId", "ami-0123456789abcdef0"),
        ("IamInstanceProfile", "{Name: mul-dml-worker}"),
        ("SecurityGroupIds", "[sg-0123456789abcdef0]; a group that Ray makes lets the whole world in by SSH"),
    ):
        if not config.get(key):
            yield f"Expected {where}.node_config.{key}, as in {example}, found none."
    for group in config.get("SecurityGroupIds") or []:
        if not re.fullmatch("sg-[0-9a-f]+", str(group)) and _PLACEHOLDER not in str(group):
            yield f"Expected {where}.node_config.SecurityGroupIds to hold ids of groups, as in sg-0123456789abcdef0, found {group}."
    if (config.get("MetadataOptions") or {}).get("HttpTokens") != "required":
        yield f"Expected {where}.node_config.MetadataOptions.HttpTokens to be required (IMDSv2), found another or none."
    disks = [disk.get("Ebs") or {} for disk in config.get("BlockDeviceMappings") or [{}] if isinstance(disk, dict)]
    if not all(disk.get("Encrypted") for disk in disks):
        yield f"Expected {where}.node_config.BlockDeviceMappings to have Encrypted: true, found a disk without."
    yield from _parameters(where, config)


def _parameters(where: str, config: Cluster) -> Iterator[str]:
    """What the description of EC2 that comes with boto3 says of a node_config."""
    from botocore.validate import ParamValidator

    # Ray's own key; Ray adds the two counts.
    asked = {key: value for key, value in config.items() if key != "SubnetIds"} | {"MinCount": 1, "MaxCount": 1}
    for line in ParamValidator().validate(asked, _run_instances()).generate_report().splitlines():
        unknown = re.match(r'Unknown parameter in (\S+): "(.+?)", must be one of: (.*)', line)
        if unknown:
            inside = "" if unknown[1] == "input" else f" in {unknown[1]}"
            hint = nearest(unknown[2], unknown[3].split(", "))
            yield f"There is no setting {where}.node_config.{unknown[2]}{inside}.{hint}"
        else:
            yield f"Expected {where}.node_config to be parameters of EC2's RunInstances, found: {line}."


@cache
def _run_instances() -> Any:
    """The shape of what RunInstances is asked for, which takes a second to load."""
    import botocore.session

    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
