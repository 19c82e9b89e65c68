"""A cluster for studies: what Ray's own commands lack.

    python study/cluster.py check [FILE]               what is wrong or missing, before anything is started or paid
    python study/cluster.py cost [FILE]                what it costs an hour
    python study/cluster.py up [FILE]                  check, then `ray up FILE`
    python study/cluster.py submit [FILE] -- ARGUMENTS study/run.py on the cluster: its output, its exit status
    python study/cluster.py status [FILE]              machines, and studies that are running
    python study/cluster.py down [FILE]                `ray down FILE`, unless rows would be lost; leaves no worker behind

FILE is one for `ray up`: cluster.yaml (the default) for AWS, study/conf/cluster/on_prem/cluster.yaml for machines of your own. A study goes
on when `submit` is interrupted, and its output can be followed again: `submit --follow JOB`. Exit status: as study/run.py's; 2 bad input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "study")]

from study import cluster_file  # noqa: E402
from study.cluster_file import Cluster  # noqa: E402
from study.errors import StudyError  # noqa: E402

# Where the file mounts put the project, and what is run there.
PROJECT = "~/platform"
_TOKEN = Path("~/.ray/auth_token").expanduser()
_GOES_ON = ("PENDING", "RUNNING")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StudyError(f"{message[0].upper()}{message[1:]}. See python study/cluster.py --help.")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    os.umask(0o077)
    # Without the token a cluster answers nobody. Ray reads this as it is imported, which it is below.
    os.environ["RAY_AUTH_MODE"] = "token"
    try:
        return _command(sys.argv[1:] if arguments is None else arguments)
    except StudyError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _command(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _Parser(
        prog="python study/cluster.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["check", "cost", "up", "submit", "status", "down"])
    parser.add_argument("file", nargs="?", default=str(ROOT / "cluster.yaml"))
    parser.add_argument("--offline", action="store_true", help="check the file alone, and ask AWS nothing")
    parser.add_argument(
        "--force", action="store_true", help="down: although a study is running, or rows are on the head alone"
    )
    parser.add_argument("--follow", metavar="JOB", help="submit: nothing new, but follow this job")
    chosen = parser.parse_args(arguments[:cut])
    path = Path(chosen.file).absolute()
    cluster, rest = cluster_file.read(path), arguments[cut + 1 :]
    if bool(rest) != (chosen.verb == "submit" and not chosen.follow):
        raise StudyError("Expected arguments of study/run.py after -- for submit, and for nothing else.")
    if chosen.verb == "check":
        _check(cluster, chosen.offline)
        print(f"{path.name} is right.")
        return 0
    if chosen.verb == "cost":
        return _cost(cluster)
    if chosen.verb == "up":
        return _up(cluster, path, chosen.offline)
    if chosen.verb == "status":
        return _status(cluster, path)
    if chosen.verb == "down":
        return _down(cluster, path, chosen.force)
    return _submit(cluster, path, rest, chosen.follow)


def _check(cluster: Cluster, offline: bool) -> None:
    """Raise StudyError with everything that is wrong; makes the token where there is none yet, which every machine is to get."""
    if not _TOKEN.exists():
        _ray("get-auth-token", "--generate", quiet=True)
    wrong = cluster_file.problems(cluster, ROOT)
    if not wrong and not offline and cluster["provider"]["type"] == "aws":
        from study import cluster_account

        wrong = list(cluster_account.problems(cluster))
    wrong += _other_versions()
    if wrong:
        raise StudyError("\n".join(wrong))


def _other_versions() -> list[str]:
    """Packages of this environment that are not as constraints.txt has them."""
    from importlib.metadata import distributions

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate():
                wanted[canonicalize_name(pin.name)] = pin
    found = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}
    others = [
        f"{name} {found[name]}" for name, pin in wanted.items() if name in found and found[name] not in pin.specifier
    ]
    if not others:
        return []
    return [
        f"Expected the versions of constraints.txt, found {', '.join(others)}: run make .venv, or setup.sh on a node."
    ]


def _cost(cluster: Cluster) -> int:
    if cluster["provider"].get("type") != "aws":
        raise StudyError("Expected a file whose provider is aws, since machines of your own have no price here.")
    from study import cluster_account

    rows = cluster_account.cost(cluster)
    for what, count, an_hour, source in rows:
        print(f"{what:34} at most {count:4}  {an_hour:8.4f} USD an hour each ({source})")
    head, workers = rows[0][2], [an_hour for _, _, an_hour, _ in rows[1:]]
    most = head + cluster["max_workers"] * max(workers, default=0.0)
    print(f"Nothing to do: {head:.2f} USD an hour for the head, until `down`.")
    print(
        f"At most: {most:.2f} USD an hour, {24 * most:.2f} a day, {730 * most:.0f} a month, and what S3 keeps and sends."
    )
    print(
        "Prices are of the months in brackets, as study/conf/cluster/prices.csv has them, and not today's: it says how to check them."
    )
    return 0


def _ray(*arguments: str, cluster: Cluster | None = None, quiet: bool = False) -> int:
    """The exit status of Ray's own command."""
    out = subprocess.DEVNULL if quiet else None
    return _begun(arguments, cluster, stdout=out, stderr=out).returncode


def _begun(arguments: Sequence[str], cluster: Cluster | None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Ray's own command, in the root of the project, where relative file mounts begin."""
    # The new autoscaler counts the head of a provider of this type as a worker, and starts one worker too few, for ever.
    local = cluster is not None and cluster["provider"]["type"] == "local"
    environment = os.environ | {"RAY_UP_enable_autoscaler_v2": "0" if local else "1"}
    program = Path(sys.executable).with_name("ray")
    return subprocess.run([str(program), *arguments], cwd=ROOT, env=environment, check=False, text=True, **options)


def _up(cluster: Cluster, path: Path, offline: bool) -> int:
    _check(cluster, offline)
    return _ray("up", "--yes", "--disable-usage-stats", "--no-config-cache", str(path), cluster=cluster)


@contextmanager
def _jobs(path: Path) -> Iterator[Any]:
    """A client of the cluster's jobs, through an SSH tunnel to the head's loopback.

    Raises:
        StudyError: where the head does not answer.

    """
    from ray.job_submission import JobSubmissionClient

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("ray")),
        "dashboard",
        str(path),
        "--port",
        str(port),
        "--no-config-cache",
    ]
    tunnel = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline, client = time.monotonic() + 60, None
        while client is None:
            try:
                client = JobSubmissionClient(f"http://127.0.0.1:{port}")
            except (ConnectionError, RuntimeError) as error:
                if tunnel.poll() is not None or time.monotonic() > deadline:
                    raise StudyError(
                        f"Expected the head of {path.name} to answer, found that it does not: {error}."
                    ) from error
                time.sleep(0.5)
        yield client
    finally:
        if tunnel.poll() is None:
            os.killpg(tunnel.pid, signal.SIGTERM)
            tunnel.wait()


def _submit(cluster: Cluster, path: Path, arguments: list[str], follow: str | None) -> int:
    arguments = _placed(arguments, (cluster.get("metadata") or {}).get("results"))
    if not follow and _ray("rsync-up", str(path), cluster=cluster, quiet=True):
        raise StudyError(f"Expected a cluster of {path.name} that is up, found none: begin with {_own('up', path)}.")
    with _jobs(path) as client:
        line = f"cd {PROJECT} && exec ~/venv/bin/python study/run.py {shlex.join(arguments)}"
        job = follow or client.submit_job(entrypoint=line, runtime_env={"env_vars": _variables()})
        again = f"{_own('submit', path)} --follow {job}"
        print(f"Job {job}; this command may be interrupted, and goes on with: {again}", file=sys.stderr)
        try:
            asyncio.run(_print_log(client, job))
            end = client.get_job_info(job)
        except (RuntimeError, OSError) as error:
            places = [word for word in arguments if word.startswith(("storage=", "storage.root="))]
            print(
                f"The head of {path.name} does not answer any more ({str(error).splitlines()[0]}). If it lives, go on with {again}; "
                f"if it is lost, bring up another, and go on with {_own('submit', path, '--', '--resume', 'STUDY', *places)}.",
                file=sys.stderr,
            )
            return 1
    if end.driver_exit_code is None:
        print(f"The job {job} ended {end.status}: {end.message}", file=sys.stderr)
        return 1
    return int(end.driver_exit_code)


def _own(verb: str, path: Path, *more: str) -> str:
    """A command of this program, as it is to be typed here."""
    return shlex.join(["python", os.path.relpath(__file__), verb, os.path.relpath(path), *more])


def _variables() -> dict[str, str]:
    """What the study's driver is to know of this machine: the commit that it runs a copy of, and how S3 is to encrypt."""
    from results.remote import ENCRYPTION
    from study import provenance

    # The driver hands the second on to its workers, which Ray takes for a contradiction of the job unless it is told to combine them.
    known = {"RAY_ADDRESS": "auto", "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1", provenance.CODE: json.dumps(provenance.code())}
    return known | {name: os.environ[name] for name in [ENCRYPTION] if os.environ.get(name)}


def _placed(arguments: list[str], results: str | None) -> list[str]:
    """Arguments of study/run.py with the places that all machines see; faces are kept beside the results.

    Raises:
        StudyError: where a place would be another one there.

    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    root = given.get("dataset.root", "/").strip("\"'")
    if not root.startswith("/") and "://" not in root:
        raise StudyError(
            f"Expected dataset.root to be an absolute path, which names the same faces on every machine, found {root}."
        )
    if not results:
        return arguments
    places = {"storage.root": results}
    if "--simulate" not in arguments:
        places["dataset.cache"] = f"{results.removesuffix('/results')}/faces"
    return [*arguments, *(f"{name}={place}" for name, place in places.items() if name not in given)]


async def _print_log(client: Any, job: str) -> None:
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)


def _running(client: Any) -> list[str]:
    return [
        f"{job.submission_id or job.job_id}: {job.entrypoint}" for job in client.list_jobs() if job.status in _GOES_ON
    ]


def _status(cluster: Cluster, path: Path) -> int:
    status = _ray("exec", str(path), "ray status", "--no-config-cache", cluster=cluster)
    with _jobs(path) as client:
        for job in _running(client) or ["none"]:
            print(f"Running study: {job}")
    return status


def _down(cluster: Cluster, path: Path, force: bool) -> int:
    if not force:
        try:
            with _jobs(path) as client:
                running = _running(client)
        except StudyError as error:
            raise StudyError(f"{error} If it is gone, or what it runs may be lost, say --force.") from error
        if running:
            raise StudyError(
                f"A study is running, whose uncommitted trials would be lost: {'; '.join(running)}. Wait for it, or say --force."
            )
        if kept := _uncommitted(cluster, path):
            raise StudyError(
                f"Rows that the store could not take are on the head alone, and would be lost: those of {', '.join(kept)}. Bring "
                f"them there with {_own('submit', path, '--', '--resume', kept[0])} and the storage.root of that study, or say --force."
            )
    status = _ray("down", "--yes", str(path), cluster=cluster)
    if cluster["provider"]["type"] == "local":
        # Ray leaves workers of such a cluster to find out for themselves.
        for address in cluster["provider"].get("worker_ips", []):
            status = max(status, _stop(cluster["auth"], address))
    return status


def _uncommitted(cluster: Cluster, path: Path) -> list[str]:
    """Studies of which the head's disk has rows that no store has.

    Raises:
        StudyError: where the head does not say.

    """
    from study.spool import WAITING

    line = f"cd {PROJECT} && ~/venv/bin/python -m study.spool"
    asked = _begun(["exec", str(path), line, "--no-config-cache"], cluster, stdout=subprocess.PIPE)
    if asked.returncode:
        raise StudyError(
            f"Expected the head of {path.name} to say which rows it has, found that it does not. If they may be lost, say --force."
        )
    said = (text.strip() for text in asked.stdout.splitlines())
    return [text.removeprefix(WAITING) for text in said if text.startswith(WAITING)]


def _stop(login: dict[str, str], address: str) -> int:
    key = ["-i", str(Path(login["ssh_private_key"]).expanduser())] if "ssh_private_key" in login else []
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "StrictHostKeyChecking=accept-new"]
    command = ["ssh", *key, *options, f"{login['ssh_user']}@{address}", "~/venv/bin/ray stop --force"]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0:
        return 0
    print(f"The worker {address} does not answer: what runs there ends when it misses its head.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
