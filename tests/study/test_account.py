"""What study/conf/cluster/aws/account.yaml lets whom do: by its words, by AWS's own linter, and as moto deploys it."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml

from study import cluster_account, cluster_file
from study.config import ROOT

moto = pytest.importorskip("moto", reason="needs the extra `dev`")
FILE = ROOT / "study/conf/cluster/aws/account.yaml"


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as text."""


Loader.add_multi_constructor("!", lambda loader, tag, node: f"!{tag} {node.value}")


@pytest.fixture(scope="module")
def resources():
    return yaml.load(FILE.read_text(), Loader)["Resources"]


def statements(resources, name):
    properties = resources[name]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [properties])]
    return [statement for document in documents for statement in document["Statement"]]


def actions(statement):
    return {statement["Action"]} if isinstance(statement["Action"], str) else set(statement["Action"])


def test_the_linter_of_aws_has_nothing_to_say():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), str(FILE), "--regions", "us-west-2"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_a_worker_may_use_the_bucket_and_nothing_else(resources):
    assert resources["WorkerRole"]["Properties"]["ManagedPolicyArns"] == ["!Ref Results"]
    assert "Policies" not in resources["WorkerRole"]["Properties"]
    allowed = set().union(*(actions(statement) for statement in statements(resources, "Results")))
    assert {action.partition(":")[0] for action in allowed} == {"s3"}
    assert not {action for action in allowed if action.startswith(("s3:Put", "s3:Delete"))} - {
        "s3:PutObject",
        "s3:DeleteObject",
    }
    assert not any("Version" in action or "*" in action for action in allowed)


def test_the_head_rents_nothing_but_machines_of_the_project_with_the_workers_role(resources):
    own = statements(resources, "HeadRole")
    machine, disk = (
        next(one for one in own if actions(one) == {"ec2:RunInstances"} and one["Resource"].endswith(f":{kind}/*"))
        for kind in ("instance", "volume")
    )
    assert machine["Condition"] == {
        "StringEquals": {"aws:RequestTag/project": "mul-dml", "ec2:MetadataHttpTokens": "required"}
    }
    assert disk["Condition"] == {"Bool": {"ec2:Encrypted": "true"}}
    [passing] = [one for one in own if "iam:PassRole" in actions(one)]
    assert passing["Resource"] == "!GetAtt WorkerRole.Arn"
    [ending] = [one for one in own if "ec2:TerminateInstances" in actions(one)]
    assert ending["Condition"] == {"StringEquals": {"aws:ResourceTag/project": "mul-dml"}}
    unbound = set().union(*(actions(one) for one in own if one["Resource"] == "*"))
    assert all(action.startswith("ec2:Describe") for action in unbound)


def test_the_head_may_have_aws_make_its_role_for_spot_and_no_other(resources):
    [making] = [one for one in statements(resources, "HeadRole") if "iam:CreateServiceLinkedRole" in actions(one)]
    assert making["Resource"].endswith("role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot")
    assert making["Condition"] == {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}}


def test_at_all_of_the_budget_the_head_may_rent_nothing_more(resources):
    action = resources["SpentUp"]["Properties"]
    assert (action["ActionThreshold"], action["ApprovalModel"]) == ({"Type": "PERCENTAGE", "Value": 100}, "AUTOMATIC")
    assert action["Definition"]["IamActionDefinition"] == {"PolicyArn": "!Ref RentNothing", "Roles": ["!Ref HeadRole"]}
    [denied] = statements(resources, "RentNothing")
    assert denied == {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*"}
    [allowed] = statements(resources, "BudgetRole")
    assert allowed["Resource"] == "!GetAtt HeadRole.Arn"
    assert allowed["Condition"] == {"ArnEquals": {"iam:PolicyARN": "!Ref RentNothing"}}


def test_the_bucket_is_private_encrypted_and_speaks_tls_alone(resources):
    properties = resources["Bucket"]["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert "ServerSideEncryptionByDefault" in json.dumps(properties["BucketEncryption"])
    [statement] = statements(resources, "OnlyEncryptedTransport")
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


# moto has no budgets and no bucket policies in its CloudFormation.
@pytest.mark.filterwarnings("ignore:Tried to parse AWS")
def test_deployed_it_is_what_the_check_of_a_cluster_asks_for(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        network = boto3.client("ec2", "us-west-2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        given = {"Vpc": network, "MyAddress": "203.0.113.7/32", "MonthlyDollars": "200", "Email": "me@example.org"}
        stacks = boto3.client("cloudformation", "us-west-2")
        stacks.create_stack(
            StackName="mul-dml",
            TemplateBody=FILE.read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        )
        outputs = {
            one["OutputKey"]: one["OutputValue"]
            for one in stacks.describe_stacks(StackName="mul-dml")["Stacks"][0]["Outputs"]
        }
        cluster = cluster_file.read(ROOT / "cluster.yaml")
        cluster["metadata"]["results"] = f"s3://{outputs['Bucket']}/results"
        for node in cluster["available_node_types"].values():
            node["node_config"] |= {"SecurityGroupIds": [outputs["SecurityGroup"]]}
        told = list(cluster_account.problems(cluster))
        # What moto has none of: quotas of EC2, and AWS's public parameters with the ids of images.
        assert all("your quota of it" in line or "the image resolve:ssm" in line for line in told), told
        group = boto3.resource("ec2", "us-west-2").SecurityGroup(outputs["SecurityGroup"])
        group.authorize_ingress(IpProtocol="tcp", FromPort=8265, ToPort=8265, CidrIp="0.0.0.0/0")
        assert any("found ports 8265 to 8265 open to 0.0.0.0/0" in line for line in cluster_account.problems(cluster))
