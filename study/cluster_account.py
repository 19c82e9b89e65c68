"""What an AWS account must have for a cluster, and what the cluster costs: asks AWS, changes nothing but one probe in the bucket."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from study.cluster_file import Cluster
from study.errors import StudyError
from study.prices import price_of

# Codes of Service Quotas: vCPUs that may run, by the letter of the family; (on demand, spot).
_QUOTAS = {"g": ("L-DB2E81BA", "L-3819A6DF"), "p": ("L-417A185B", "L-7212CCBC"), "m": ("L-1216C47A", "L-34B43A08")}
# USD a GB and month of gp3 in us-west-2, and an hour of a public address, as of 2026-06; hours of a month.
_DISK, _ADDRESS, _MONTH = 0.08, 0.005, 730


def problems(cluster: Cluster) -> Iterator[str]:
    """What the account lacks for a cluster whose file is right, one sentence each."""
    region = cluster["provider"]["region"]
    session = boto3.Session(region_name=region)
    try:
        session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        yield f"Expected credentials of AWS where its own tools find them (aws configure), found none that work: {_said(error)}."
        return
    groups, images, profiles = set(), set(), set()
    for name, node in cluster["available_node_types"].items():
        config = node["node_config"]
        groups.update(config["SecurityGroupIds"])
        images.add(config["ImageId"])
        profiles.add(config["IamInstanceProfile"].get("Name") or config["IamInstanceProfile"]["Arn"].rpartition("/")[2])
        yield from _quota(session, cluster, name)
    for group in sorted(groups):
        yield from _group(session, group)
    for image in sorted(images):
        yield from _asked(f"the image {image}", lambda image=image: _image(session, image))
    for profile in sorted(profiles):
        ask = lambda profile=profile: session.client("iam").get_instance_profile(InstanceProfileName=profile)  # noqa: E731
        yield from _asked(f"the instance profile {profile}", ask)
    results = (cluster.get("metadata") or {}).get("results")
    if results:
        yield from _asked(f"{results}, to be written to and read", lambda: _bucket(session, results))


def _said(error: Exception) -> str:
    return str(error).rstrip(".").splitlines()[0]


def _asked(what: str, ask: Any) -> Iterator[str]:
    try:
        ask()
    except (BotoCoreError, ClientError) as error:
        yield f"Expected {what}, found that AWS says: {_said(error)}."


def _image(session: boto3.Session, image: str) -> None:
    if image.startswith("resolve:ssm:"):
        session.client("ssm").get_parameter(Name=image.removeprefix("resolve:ssm:"))
    else:
        session.client("ec2").describe_images(ImageIds=[image])


def _bucket(session: boto3.Session, results: str) -> None:
    bucket, _, prefix = results.removeprefix("s3://").partition("/")
    s3, key = session.client("s3"), f"{prefix}/.check-{uuid.uuid4().hex[:8]}".lstrip("/")
    s3.put_object(Bucket=bucket, Key=key, Body=b"")
    s3.get_object(Bucket=bucket, Key=key)
    s3.delete_object(Bucket=bucket, Key=key)


def _group(session: boto3.Session, group: str) -> Iterator[str]:
    try:
        found = session.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    except (BotoCoreError, ClientError) as error:
        yield f"Expected the security group {group}, found that AWS says: {_said(error)}."
        return
    for rule in found["IpPermissions"]:
        ranges = [
            one.get("CidrIp") or one["CidrIpv6"] for one in (*rule.get("IpRanges", []), *rule.get("Ipv6Ranges", []))
        ]
        for cidr in ranges:
            if cidr in ("0.0.0.0/0", "::/0") or rule.get("FromPort") != 22 or rule.get("ToPort") != 22:
                ports = f"ports {rule.get('FromPort', 'all')} to {rule.get('ToPort', 'all')}"
                yield f"Expected the security group {group} to let in SSH from your address alone, found {ports} open to {cidr}."


def _quota(session: boto3.Session, cluster: Cluster, name: str) -> Iterator[str]:
    config, count = cluster["available_node_types"][name]["node_config"], _count(cluster, name)
    instance = config["InstanceType"]
    codes = _QUOTAS.get(re.sub(r"[^a-z].*", "", instance)[:1], _QUOTAS["m"])
    # A machine from spot may have to be rented on demand instead.
    for code in codes if "InstanceMarketOptions" in config else codes[:1]:
        try:
            kinds = session.client("ec2").describe_instance_types(InstanceTypes=[instance])["InstanceTypes"]
            quota = session.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
        except (BotoCoreError, ClientError) as error:
            yield f"Expected AWS to know {instance} and your quota of it, found that it says: {_said(error)}."
            return
        need, may = count * kinds[0]["VCpuInfo"]["DefaultVCpus"], quota["Value"]
        if need > may:
            yield (
                f"Expected a quota of {need} vCPUs for {count} x {instance} ({name}), found {may:g} in {quota.get('QuotaName', code)}: "
                "ask for more under Service Quotas, or lower max_workers."
            )


def _count(cluster: Cluster, name: str) -> int:
    """How many machines of a type there are at most."""
    most = int(cluster["max_workers"])
    return (
        1
        if name == cluster["head_node_type"]
        else min(cluster["available_node_types"][name].get("max_workers", most), most)
    )


def cost(cluster: Cluster) -> list[tuple[str, int, float, str]]:
    """What a cluster costs, the head first: (what, how many at most, USD an hour of one, where the price is from).

    Disks and public addresses are in it. Machines from spot have two lines, since they are rented on demand where there is none to spare.

    Raises:
        StudyError: where the table of prices lacks an instance type.

    """
    region, rows = cluster["provider"]["region"], []
    nodes = cluster["available_node_types"]
    for name in sorted(nodes, key=lambda name: bool(name != cluster["head_node_type"])):
        config = nodes[name]["node_config"]
        price = price_of(config["InstanceType"], region)
        disks = sum(disk["Ebs"]["VolumeSize"] for disk in config.get("BlockDeviceMappings", []))
        prices = {"on demand": price.on_demand}
        if "InstanceMarketOptions" in config:
            if price.spot is None:
                raise StudyError(f"prices.csv has no spot price of {price.instance} in {region}: add one.")
            prices = {"spot, as it was": price.spot, "on demand, where spot has none": price.on_demand}
        for kind, an_hour in prices.items():
            source = f"{kind}, {price.as_of}"
            whole = an_hour + disks * _DISK / _MONTH + _ADDRESS
            rows.append((f"{name} ({price.instance})", _count(cluster, name), whole, source))
    return rows
