"""A researcher's desk in the lab: from it clusters are made of its machines, and studies sent there, by the commands of a user."""

import time

import yaml

from tests.cluster.machines import ROOT
from tests.results.s3_server import KEY, SECRET, server_command

PORT = 8333
FILE = ROOT / "study/conf/cluster/on_prem/cluster.yaml"


class Desk:
    """The machine `cli` of a lab, which knows the S3 server on its machine `s3`."""

    def __init__(self, lab):
        self.lab, self.machine, self.s3 = lab, lab["cli"], lab["s3"]
        self.home = self.machine.folder / "home"
        self.python = lab.venv / "bin" / "python"
        aws = self.home / ".aws"
        aws.mkdir()
        (aws / "config").write_text(f"[default]\nregion = us-east-1\nendpoint_url = http://{self.s3.address}:{PORT}\n")
        (aws / "credentials").write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")

    def serve(self, bucket):
        """Start the S3 server, and make a bucket there."""
        address, folder = self.s3.address, self.s3.folder / "data"
        folder.mkdir()
        log = self.s3.folder / "weed.log"
        self.s3.spawn(log, *server_command(folder, address, [PORT, 9333, 8080, 8888]))
        deadline = time.monotonic() + 60
        while self.s3.run("bash", "-c", f"exec 3<>/dev/tcp/{address}/{PORT}").returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(log.read_text()[-2000:])
            time.sleep(0.2)
        made = self.machine.run(self.python, "-c", f"import boto3; boto3.client('s3').create_bucket(Bucket={bucket!r})")
        assert made.returncode == 0, made.stderr

    def file(self, name, head, *workers):
        """The file of a cluster of machines, each worker with one CPU: the project's own, with what a user sets."""
        cluster = yaml.safe_load(FILE.read_text())
        cluster["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address for worker in workers]}
        cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.lab.folder / "id")}
        cluster["file_mounts"]["~/.aws"] = "~/.aws"
        cluster["worker_start_ray_commands"][-1] += " --num-cpus=1 --object-store-memory=200000000"
        path = self.home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(cluster))
        return path

    def command(self, verb, file, *arguments):
        """The words of study/cluster.py."""
        return [self.python, ROOT / "study" / "cluster.py", verb, file, *(["--", *arguments] if arguments else [])]

    def run(self, verb, file, *arguments, status=0, timeout=300):
        """Run study/cluster.py; the finished process."""
        done = self.machine.run(*self.command(verb, file, *arguments), timeout=timeout)
        assert done.returncode == status, f"{verb}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def by_ray(self, verb, file, *arguments):
        """What Ray's own command prints."""
        inside = ["bash", "-c", f'cd {ROOT} && exec "$@"', "-", self.lab.venv / "bin" / "ray", verb, file, *arguments]
        done = self.machine.run(*inside, timeout=300)
        assert done.returncode == 0, f"ray {verb}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def submit(self, log, file, *arguments):
        """Begin `submit`, its output in a file."""
        return self.machine.spawn(log, *self.command("submit", file, *arguments))

    def code(self, text, *arguments):
        """What a program prints that is run here, in the project."""
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{text}"
        done = self.machine.run(self.python, "-c", program, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout
