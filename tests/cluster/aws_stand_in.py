"""An account of AWS to rent machines of a lab from: moto, and around it what moto lacks.

    python aws_stand_in.py ADDRESS PORT FOLDER

Every instance is asked of its own identity at /latest (IMDSv2, told apart by its address): its role's credentials, and whether it is to
be reclaimed. FOLDER/asked.jsonl has every RunInstances as it was asked, who was met, and who wrote what to S3. While there is a file
FOLDER/scarce, AWS has one spot machine to spare and no more; FOLDER/reclaim-ADDRESS is the two minutes' notice to the machine of that
address.
"""

import json
import os
import sys
from io import BytesIO
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qs, urlencode

from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.servicequotas.models import ServiceQuotasBackend
from werkzeug.serving import run_simple

REGION, ACCOUNT, VCPUS = "us-west-2", "123456789012", 64.0
_TOKEN = os.urandom(16).hex()
_NO_SPOT = (
    "<Response><Errors><Error><Code>InsufficientInstanceCapacity</Code><Message>There is no Spot capacity available that matches "
    "your request.</Message></Error></Errors><RequestID>lab</RequestID></Response>"
)


def instance_of(address):
    """The running instance with this address, as moto has it, or None."""
    instances = [
        one for reservation in ec2_backends[ACCOUNT][REGION].reservations.values() for one in reservation.instances
    ]
    return next((one for one in instances if one.private_ip == address and one.state == "running"), None)


class StandIn:
    """moto's application, and what is asked before it."""

    def __init__(self, folder):
        self.folder, self.moto = folder, DomainDispatcherApplication(create_backend_app)
        self.lock, self.spare, self.met = Lock(), 1, set()

    def __call__(self, environ, start):
        path = environ["PATH_INFO"]
        if path.startswith("/latest/"):
            status, body = self.identity(environ["REQUEST_METHOD"], path, environ)
        else:
            status, body = self.note(environ)
        if status:
            start(status, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
            return [body.encode()]
        return self.moto(environ, start)

    def identity(self, method, path, environ):
        """What IMDSv2 says to whoever asks."""
        if method == "PUT" and path == "/latest/api/token":
            if environ["REMOTE_ADDR"] not in self.met:
                self.met.add(environ["REMOTE_ADDR"])
                self.write({"from": environ["REMOTE_ADDR"], "met": "for the first time"})
            return "200 OK", _TOKEN
        if environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") != _TOKEN:
            return "401 Unauthorized", ""
        address = environ["REMOTE_ADDR"]
        instance, asked = instance_of(address), path.removeprefix("/latest/meta-data/").strip("/")
        if asked == "spot/instance-action" and (self.folder / f"reclaim-{address}").exists():
            return "200 OK", '{"action": "terminate"}'
        role = instance and instance.iam_instance_profile and instance.iam_instance_profile["Arn"].rpartition("/")[2]
        if role and asked == "iam/security-credentials":
            return "200 OK", role
        if role and asked == f"iam/security-credentials/{role}":
            keys = {
                "AccessKeyId": f"key-of-{role}",
                "SecretAccessKey": f"secret-of-{role}",
                "Token": f"token-of-{role}",
            }
            return "200 OK", json.dumps({"Code": "Success", "Expiration": "2100-01-01T00:00:00Z", **keys})
        return "404 Not Found", ""

    def note(self, environ):
        """Write down who rents machines, and who writes to S3; refuse what is not to be had."""
        said = {
            "from": environ["REMOTE_ADDR"],
            "key": environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0],
        }
        if environ["REQUEST_METHOD"] == "PUT":
            self.write(said | {"put": environ["PATH_INFO"]})
        elif environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            if asked.get("Action") == "RunInstances":
                refused = False
                if asked.get("InstanceMarketOptions.MarketType") == "spot" and (self.folder / "scarce").exists():
                    with self.lock:
                        refused, self.spare = not self.spare, 0
                    body = urlencode(asked | {"MaxCount": "1"}).encode()
                    environ["CONTENT_LENGTH"] = str(len(body))
                self.write(said | {"rent": asked, "refused": refused})
                if refused:
                    return "500 Internal Server Error", _NO_SPOT
            environ["wsgi.input"] = BytesIO(body)
        return None, ""

    def write(self, line):
        with (self.folder / "asked.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def main(address, port, folder):
    quota = lambda self, service_code, quota_code: {"QuotaName": quota_code, "Value": VCPUS}  # noqa: E731
    ServiceQuotasBackend.get_service_quota = quota  # moto's has none of EC2
    run_simple(address, int(port), StandIn(Path(folder)), threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(*sys.argv[1:])
