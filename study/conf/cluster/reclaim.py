"""Watches for the two minutes' notice that AWS gives of reclaiming this machine, and then drains it; ends one that has lost its head.

    python study/conf/cluster/reclaim.py

Ray ends on a machine whose head is lost, and with that who would end the machine, which is paid for: after a quarter of an hour without
Ray it is shut down, which terminates it.

Ray starts nothing more on a node that is drained, and counts its loss as no failure of what ran there. Asks IMDSv2 every five seconds;
AWS_EC2_METADATA_SERVICE_ENDPOINT is AWS's own name for another place to ask.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

SERVICE = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
# Seconds without Ray after which there is no head any more; to install all packages anew takes less.
ALONE = 900.0


def noticed() -> bool:
    """Whether this machine is to be reclaimed."""
    ask = urllib.request.Request(  # noqa: S310 - AWS's own address
        f"{SERVICE}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    try:
        with urllib.request.urlopen(ask, timeout=2) as answer:  # noqa: S310
            token = answer.read().decode()
        look = urllib.request.Request(  # noqa: S310
            f"{SERVICE}/latest/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token}
        )
        with urllib.request.urlopen(look, timeout=2):  # noqa: S310
            return True
    except OSError:  # among them 404: there is no notice
        return False


def drain(seconds: int) -> int:
    """Drain the Ray node of this machine, which ends `seconds` from now; the exit status of `ray drain-node`."""
    import ray
    from ray.util import get_node_ip_address

    own = get_node_ip_address()
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == own]
    address = ray.get_runtime_context().gcs_address
    ray.shutdown()
    command = [
        *(str(Path(sys.executable).with_name("ray")), "drain-node", "--address", address, "--node-id", nodes[0]),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "reclaimed by AWS"),
        *("--deadline-remaining-seconds", str(seconds)),
    ]
    return subprocess.run(command, check=False).returncode


def joined() -> bool:
    """Whether Ray runs on this machine."""
    for process in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it has ended
            if process.read_text().strip() == "raylet":
                return True
    return False


def main() -> int:
    """Wait for the notice, or for the head to be lost."""
    os.environ["RAY_AUTH_MODE"] = "token"
    last = time.monotonic()
    while not noticed():
        if joined():
            last = time.monotonic()
        elif time.monotonic() - last > ALONE:
            subprocess.run(["sudo", "-n", "shutdown", "-h", "now"], check=False)
            last = time.monotonic()  # if it was not done, it is tried again
        time.sleep(5)
    return drain(100)


if __name__ == "__main__":
    sys.exit(main())
