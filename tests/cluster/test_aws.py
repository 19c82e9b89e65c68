"""cluster.yaml from nothing to nothing, in an account of AWS that moto plays and on machines that namespaces play."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.cluster.machines import BOUND, ROOT, Lab, lacking

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
    pytest.mark.timeout(1800),
]
# moto hands out the addresses of a subnet from .4 on, in order; the researcher's own machine is none of them.
MACHINES = {"own": 200, "head": 4, "first": 5, "second": 6, "third": 7, "fourth": 8}
ACCOUNT = "http://10.77.0.1:5555"
PATIENCE = 500  # seconds for one step, of which each takes less than a minute where nothing else runs
OWN_KEYS = {"AWS_ACCESS_KEY_ID": "key-of-researcher", "AWS_SECRET_ACCESS_KEY": "secret-of-researcher"}
# Trials of some seconds that nothing stops early. GPUs of the lab are promised and have no memory to share, so that trials get whole ones.
STUDY = [
    "--search",
    "study=far",
    "method=softmax",
    "search.trials=12",
    "search.grace=90",
    "epochs=90",
    "cluster.workers=2",
]
TINY = ["cluster.gpus_per_trial=1", "folds=2", "dataset.subjects=4", "dataset.per_class=1", "image_size=16"]


ASKING = """
import boto3, json, sys
c = boto3.client
for line in sys.stdin:
    exec(json.loads(line))
    print(json.dumps(answer, default=str), flush=True)
"""


class Account:
    """The account, as the researcher's machine sees it."""

    def __init__(self, lab):
        self.lab, self.folder = lab, lab.folder / "aws"
        self.folder.mkdir()
        script = Path(__file__).with_name("aws_stand_in.py")
        command = [
            *BOUND,
            "nsenter",
            "-t",
            lab.switch.pid,
            "--net",
            sys.executable,
            script,
            "10.77.0.1",
            "5555",
            self.folder,
        ]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        while "Running on" not in (self.folder / "log").read_text():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)

        command = lab["own"].inside(
            "python", "-c", ASKING, AWS_ENDPOINT_URL=ACCOUNT, AWS_DEFAULT_REGION="us-west-2", **OWN_KEYS
        )
        self.asking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self):
        """End what was started."""
        for process in (self.asking, self.process):
            process.kill()
            process.communicate()

    def ask(self, code):
        """Run Python on the researcher's machine, with clients of boto3 at hand; what it leaves in `answer`."""
        self.asking.stdin.write(json.dumps(code) + "\n")
        self.asking.stdin.flush()
        return json.loads(self.asking.stdout.readline())

    def machines(self):
        """Every machine that was ever rented."""
        return self.ask("""answer = [
    dict(id=i['InstanceId'], state=i['State']['Name'], address=i.get('PrivateIpAddress'), market=i.get('InstanceLifecycle', 'on demand'),
         type={t['Key']: t['Value'] for t in i['Tags']}['ray-user-node-type'])
    for r in c('ec2').describe_instances()['Reservations'] for i in r['Instances']]""")

    def asked(self, what):
        """What was asked of it so far: "rent" or "put"."""
        lines = [json.loads(line) for line in (self.folder / "asked.jsonl").read_text().splitlines()]
        return [line for line in lines if what in line]


def deploy(account):
    """account.yaml as CloudFormation makes it, a network, and the lab's own key; (outputs, subnet, image)."""
    return account.ask(f"""
vpc = c('ec2').create_vpc(CidrBlock='10.77.0.0/16')['Vpc']['VpcId']
subnet = c('ec2').create_subnet(VpcId=vpc, CidrBlock='10.77.0.0/24', AvailabilityZone='us-west-2a')['Subnet']['SubnetId']
c('ec2').import_key_pair(KeyName='lab', PublicKeyMaterial=open({str(account.lab.folder / "id.pub")!r}, 'rb').read())
given = dict(Vpc=vpc, MyAddress='10.77.0.200/32', MonthlyDollars='200', Email='me@example.org')
c('cloudformation').create_stack(
    StackName='mul-dml', Capabilities=['CAPABILITY_NAMED_IAM'],
    TemplateBody=open({str(ROOT / "study/conf/cluster/aws/account.yaml")!r}).read(),
    Parameters=[dict(ParameterKey=name, ParameterValue=value) for name, value in given.items()])
stack = c('cloudformation').describe_stacks(StackName='mul-dml')['Stacks'][0]
outputs = {{one['OutputKey']: one['OutputValue'] for one in stack['Outputs']}}
answer = [outputs, subnet, c('ec2').describe_images()['Images'][0]['ImageId']]""")


def for_the_lab(text, outputs, subnet, image, key):
    """cluster.yaml with what its user sets, and with what is forced here: the machines are not AWS's."""
    text = text.replace("sg-SET_ME", outputs["SecurityGroup"]).replace("s3://SET_ME", f"s3://{outputs['Bucket']}")
    cluster = yaml.safe_load(text)
    cluster["provider"]["use_internal_ips"] = True  # there is no internet between them
    # sshd of these machines knows the lab's key and root, where AWS would have given them Ray's key and ubuntu.
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    for node in cluster["available_node_types"].values():
        node["node_config"] |= {"KeyName": "lab", "SubnetIds": [subnet], "ImageId": image}
    for start in ("head_start_ray_commands", "worker_start_ray_commands"):  # /dev/shm is small
        cluster[start] = [
            re.sub("(ray start .*)", r"\1 --object-store-memory=200000000", line) for line in cluster[start]
        ]
    return yaml.safe_dump(cluster)


def until(what, value):
    """Wait until value() is true; returns it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := value()):
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Everything once: check, up, a study, no spot to spare, a reclaim, down; what was seen of it."""
    seen = SimpleNamespace(said={})
    with Lab(tmp_path_factory.mktemp("aws") / "lab", MACHINES) as lab:
        account = Account(lab)
        try:
            Story(lab, account, seen).tell()
        finally:
            account.close()
    return seen


class Story:
    """What a researcher does, and what AWS does meanwhile."""

    def __init__(self, lab, account, seen):
        self.lab, self.account, self.seen = lab, account, seen
        self.own, self.file = lab["own"], lab.folder / "cluster.yaml"
        for (
            machine
        ) in lab.machines.values():  # all that a machine of AWS has of it: where it is, and where to ask who one is
            known = (
                ""
                if machine is self.own
                else f"export AWS_ENDPOINT_URL={ACCOUNT} AWS_EC2_METADATA_SERVICE_ENDPOINT={ACCOUNT}\n"
            )
            (machine.folder / "home" / ".bashrc").write_text(known)

    def run(self, program, *arguments, status=0):
        """Run one of the project's programs on the researcher's machine; what it prints."""
        done = self.own.run(
            "python", ROOT / program, *arguments, AWS_ENDPOINT_URL=ACCOUNT, timeout=PATIENCE, **OWN_KEYS
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def cluster(self, verb, *arguments, status=0):
        self.seen.said[verb] = self.run("study/cluster.py", verb, *arguments, status=status)

    def rented(self, market):
        """Addresses of workers that run, from spot or on demand."""
        return [
            one["address"]
            for one in self.account.machines()
            if (one["type"], one["market"], one["state"]) == ("gpu", market, "running")
        ]

    def tell(self):
        seen, file = self.seen, self.file
        self.cluster("check", status=2)
        seen.unset = seen.said["check"]
        seen.outputs, subnet, image = deploy(self.account)
        file.write_text(
            for_the_lab((ROOT / "cluster.yaml").read_text(), seen.outputs, subnet, image, self.lab.folder / "id")
        )
        seen.results = f"s3://{seen.outputs['Bucket']}/results"
        self.cluster("check", file)
        self.cluster("cost", file)
        self.cluster("up", file)
        seen.token = (self.own.folder / "home/.ray/auth_token").read_text().strip()
        seen.at_first = self.account.machines()
        self.study()
        self.cluster("status", file)
        seen.rows = json.loads(
            self.run(
                "results/query.py", "SELECT * FROM trials", f"storage.root={seen.results}", "--format", "json"
            ).partition("\n\n")[0]
        )
        self.cluster("down", file)
        seen.at_last, seen.disks = (
            self.account.machines(),
            self.account.ask("answer = c('ec2').describe_volumes()['Volumes']"),
        )
        seen.asked = [json.loads(line) for line in (self.account.folder / "asked.jsonl").read_text().splitlines()]
        seen.rents, seen.puts = self.account.asked("rent"), self.account.asked("put")

    def study(self):
        """A study begins where AWS has one spot machine to spare, and loses it."""
        seen, account, log = self.seen, self.account, self.lab.folder / "submit.log"
        (account.folder / "scarce").touch()
        command = ["python", ROOT / "study/cluster.py", "submit", self.file, "--", *STUDY, *TINY]
        job = self.own.spawn(log, *command, AWS_ENDPOINT_URL=ACCOUNT, **OWN_KEYS)
        until("a worker on demand", lambda: self.rented("on demand"))
        [seen.lost] = until("a worker from spot", lambda: self.rented("spot"))
        (account.folder / "scarce").unlink()
        until(
            "its first trial",
            lambda: [put for put in account.asked("put") if put["from"] == seen.lost and "trials" in put["put"]],
        )
        seen.outsider = self.without_token()
        seen.listeners = self.lab["head"].run("ss", "-Hltn").stdout
        self.cluster("down", self.file, status=2)
        seen.refused = seen.said["down"]
        machine = next(one for one in self.lab.machines.values() if one.address == seen.lost)
        (account.folder / f"reclaim-{seen.lost}").touch()
        until("the machine to be drained", lambda: "reclaim.py" not in " ".join(machine.processes()))
        seen.note = (machine.folder / "home" / "reclaim.log").read_text()
        [gone] = [one["id"] for one in account.machines() if one["address"] == seen.lost]
        account.ask(
            f"answer = c('ec2').terminate_instances(InstanceIds=[{gone!r}])['TerminatingInstances'][0]['InstanceId']"
        )
        machine.kill()
        seen.status = job.wait(timeout=PATIENCE)
        seen.said["submit"] = log.read_text()
        seen.processes = {name: one.processes() for name, one in self.lab.machines.items() if one.init}

    def without_token(self):
        """What somebody gets who reaches the head and has no token: answers of its servers of jobs, and of Ray itself."""
        code = f"""
import json, urllib.error, urllib.request
def post(port, path):
    ask = urllib.request.Request(f'http://{self.lab["head"].address}:{{port}}{{path}}', data=b'{{"entrypoint": "id"}}', method='POST')
    try:
        return urllib.request.urlopen(ask, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return type(error.reason).__name__
answer = {{'agent': post(52365, '/api/job_agent/jobs/'), 'dashboard': post(8265, '/api/jobs/')}}
from ray._raylet import GcsClient
try:
    GcsClient(address='{self.lab["head"].address}:6379')
    answer['gcs'] = 'in'
except Exception as error:
    answer['gcs'] = type(error).__name__
import ray
try:
    ray.init('ray://{self.lab["head"].address}:10001')
    answer['client'] = 'in'
except Exception as error:
    answer['client'] = type(error).__name__
print(json.dumps(answer))"""
        done = self.own.run("python", "-c", code, HOME="/nowhere", RAY_AUTH_MODE="disabled", timeout=PATIENCE)
        return json.loads(done.stdout.strip().splitlines()[-1])


def test_what_a_user_must_set_is_said_before_anything_starts(story):
    assert "metadata.security_group" in story.unset
    assert "metadata.results" in story.unset
    assert "is right" in story.said["check"]
    assert "At most" in story.said["cost"]


def test_up_rents_the_head_alone_on_demand(story):
    [head] = story.at_first
    assert (head["type"], head["market"], head["state"]) == ("head", "on demand", "running")


def test_every_machine_is_asked_for_as_the_file_says(story):
    granted = [line["rent"] for line in story.rents if not line["refused"]]
    assert {asked["InstanceType"] for asked in granted} == {"m6i.large", "g6.xlarge"}
    for line in story.rents:
        asked, head = line["rent"], line["rent"]["InstanceType"] == "m6i.large"
        assert asked["IamInstanceProfile.Name"] == ("mul-dml-head" if head else "mul-dml-worker")
        assert asked["SecurityGroupId.1"] == story.outputs["SecurityGroup"]
        assert asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
        assert asked["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
        assert (asked["MetadataOptions.HttpTokens"], asked["MetadataOptions.HttpPutResponseHopLimit"]) == (
            "required",
            "1",
        )
        assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
        assert {"instance", "volume"} <= tagged(asked), asked
        if head:
            assert "InstanceMarketOptions.MarketType" not in asked
        assert line["key"] == ("key-of-researcher" if head else "key-of-mul-dml-head")


def tagged(asked):
    """What bears the tag of the project: instance, volume."""
    found = set()
    for name, value in asked.items():
        place = re.fullmatch(r"(TagSpecification\.\d+)\.Tag\.\d+\.Key", name)
        if place and value == "project" and asked[name.removesuffix("Key") + "Value"] == "mul-dml":
            found.add(asked[f"{place[1]}.ResourceType"])
    return found


def test_workers_come_from_spot_and_on_demand_where_there_is_none(story):
    workers = [line for line in story.rents if line["rent"]["InstanceType"] == "g6.xlarge"]
    markets = [line["rent"].get("InstanceMarketOptions.MarketType") for line in workers]
    first = markets.index(None)
    assert first > 0
    assert set(markets[:first]) == {"spot"}
    assert workers[first]["rent"]["MaxCount"] == "1", "one came from spot"
    options = [line["rent"] for line in workers if ("InstanceMarketOptions.MarketType" in line["rent"])]
    assert {asked["InstanceMarketOptions.SpotOptions.SpotInstanceType"] for asked in options} == {"one-time"}
    assert {asked["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] for asked in options} == {
        "terminate"
    }


def test_all_machines_of_a_search_are_asked_for_at_once(story):
    workers = {f"10.77.0.{number}" for name, number in MACHINES.items() if name not in ("own", "head")}
    met = next(i for i, line in enumerate(story.asked) if line["from"] in workers)
    before = [line for line in story.asked[:met] if "rent" in line and line["rent"]["InstanceType"] == "g6.xlarge"]
    assert len([line for line in before if not line["refused"]]) == 2, "the second came after the first had begun"


def test_the_study_survives_the_reclaim(story):
    assert story.status == 0, story.said["submit"]
    assert "study far: 12 trials, 12 new" in story.said["submit"]
    assert len({row["trial_key"] for row in story.rows}) == len(story.rows) == 12
    assert {row["status"] for row in story.rows} == {"done"}
    assert all(row["gpu_share"] == 1 for row in story.rows)
    later = [one for one in story.at_last if one["market"] == "spot" and one["address"] != story.lost]
    assert later, "no machine came in the place of the one that was lost"
    assert "Traceback" not in story.note


def test_rows_are_written_by_the_profiles_of_the_machines(story):
    assert {put["key"] for put in story.puts if "/results/" in put["put"] and put["from"] != "10.77.0.200"} == {
        "key-of-mul-dml-head",
        "key-of-mul-dml-worker",
    }


def test_who_has_no_token_gets_nothing(story):
    refusals = {
        "agent": 401,
        "dashboard": "ConnectionRefusedError",
        "gcs": "AuthenticationError",
        "client": "ConnectionError",
    }
    assert story.outsider == refusals
    dashboard = [line.split()[3] for line in story.listeners.splitlines() if line.split()[3].endswith(":8265")]
    assert dashboard == ["127.0.0.1:8265"]


def test_no_secret_is_shown(story):
    shown = " ".join(
        [
            *story.said.values(),
            story.note,
            json.dumps(story.rows),
            *(line for one in story.processes.values() for line in one),
        ]
    )
    assert story.token not in shown
    assert "secret-of-" not in shown
    assert "token-of-" not in shown


def test_down_waits_for_a_study_and_then_leaves_nothing_that_costs(story):
    assert "A study is running" in story.refused
    assert {one["state"] for one in story.at_last} == {"terminated"}
    assert story.disks == []
