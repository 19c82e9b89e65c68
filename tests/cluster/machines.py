"""Several machines on one: each has namespaces for network, processes, mounts and host name, its own home and /tmp, and an sshd.

No namespace has a name: all of them, with what runs and is mounted there, end with the process that made them, however that ends.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "10.77.0"
SSHD = """Port 22
ListenAddress {address}
HostKey {folder}/hostkey
AuthorizedKeysFile {home}/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
UseDNS no
MaxStartups 100
MaxSessions 100
PidFile none
Subsystem sftp internal-sftp
"""


def lacking():
    """What is missing to make machines here, or None."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    programs = {
        "ip": "iproute2",
        "sshd": "openssh-server",
        "rsync": "rsync",
        "setpriv": "util-linux",
        "unshare": "util-linux",
        "nsenter": "util-linux",
    }
    for program, package in programs.items():
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            return f"needs {program} of the package {package}"
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"needs namespaces: {tried.stderr.strip()}"


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options)


# The kernel kills what was begun so when this process dies; Ctrl-C is for this process alone.
BOUND = ["setpriv", "--pdeathsig", "KILL"]


class Lab:
    """A switch and machines on it, with no way out: nothing but their addresses can be reached from there.

    Args:
        folder: for homes, keys and logs; it is made, and removed in the end.
        names: of the machines, each with the last number of its address.

    """

    def __init__(self, folder, names):
        self.folder = folder
        self.home = folder / "home"
        self.venv = folder / "venv"
        self.machines = {name: Machine(self, name, f"{NETWORK}.{number}") for name, number in names.items()}

    def __enter__(self):
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "id")
        self._make_venv()
        command = [*BOUND, "unshare", "--net", "sh", "-c", "echo made; exec sleep infinity"]
        self.switch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            self.switch.stdout.readline()
            enter = ["nsenter", "-t", str(self.switch.pid), "--net"]
            run(
                *enter,
                "sh",
                "-ec",
                f"ip link set lo up; ip link add br0 type bridge; ip link set br0 up; ip addr add {NETWORK}.1/24 dev br0",
            )
            for machine in self.machines.values():
                machine.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for machine in self.machines.values():
            machine.kill()
        self.switch.kill()
        self.switch.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __getitem__(self, name):
        return self.machines[name]

    def _make_venv(self):
        """What setup.sh would make, with the packages of this environment instead of the network's."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.venv)], check=True)
        site = self.venv / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        (site / "base.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        (site / "platform.pth").write_text(f"{self.home / 'platform'}\n")
        ray = f"#!{self.venv}/bin/python\nimport sys\nfrom ray.scripts.scripts import main\nsys.exit(main())\n"
        (self.venv / "bin" / "ray").write_text(ray)
        (self.venv / "bin" / "ray").chmod(0o755)
        files = f"cat {ROOT}/pyproject.toml {ROOT}/constraints.txt | sha256sum"
        (self.venv / ".ready").write_text(run("bash", "-c", files).stdout)


class Machine:
    """One machine: started, reached by SSH, cut off, killed, and started afresh with nothing of what it was."""

    def __init__(self, lab, name, address):
        self.lab, self.name, self.address = lab, name, address
        self.folder = lab.folder / name
        self.outer = self.init = None
        self.spawned = []

    def start(self):
        """Start it with an empty disk."""
        lab, folder = self.lab, self.folder
        shutil.rmtree(folder, ignore_errors=True)
        home, log = folder / "home", folder / "sshd.log"
        (folder / "tmp").mkdir(parents=True)
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        (home / "venv").symlink_to(lab.venv)
        shutil.copy(lab.folder / "id.pub", home / ".ssh" / "authorized_keys")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "hostkey")
        passwd = Path("/etc/passwd").read_text().replace(":/root:", f":{lab.home}:")
        (folder / "passwd").write_text(passwd)
        (folder / "sshd_config").write_text(SSHD.format(address=self.address, folder=folder, home=lab.home))
        # What it needs of the /tmp that it loses to one of its own.
        needed = {
            str(path): f"/run/{path.name}"
            for path in (lab.folder, ROOT, Path(sys.prefix))
            if path.is_relative_to("/tmp")
        }
        inside = "\n".join(
            [
                f"set -e; hostname {self.name}; mount -t tmpfs -o size=2g t /dev/shm; mount -t tmpfs t /run; mkdir /run/sshd",
                *(f"mkdir {aside}; mount --bind {path} {aside}" for path, aside in needed.items()),
                f"mount --bind {folder / 'tmp'} /tmp; chmod 1777 /tmp",
                *(f"mkdir -p {path}; mount --move {aside} {path}" for path, aside in needed.items()),
                f"mount --bind {home} {lab.home}; mount --bind {folder / 'passwd'} /etc/passwd",
                "echo made; until ip route | grep -q default; do sleep 0.05; done",
                f"exec {shutil.which('sshd', path='/usr/sbin:/usr/bin')} -D -e -f {folder / 'sshd_config'}",
            ]
        )
        spaces = ["unshare", "--net", "--fork", "--pid", "--mount-proc", "--mount", "--uts", "--ipc", "--kill-child"]
        with log.open("w") as out:
            self.outer = subprocess.Popen(
                [*BOUND, *spaces, "bash", "-c", inside],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._wait(log, "made")
        switch, outer = str(lab.switch.pid), str(self.outer.pid)
        run("ip", "link", "add", self._port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", outer)
        run("nsenter", "-t", switch, "--net", "ip", "link", "set", self._port, "master", "br0", "up")
        # The default route is a dead end: Ray asks for the way to 8.8.8.8 to learn its own address.
        self._ip(
            "link set lo up",
            f"addr add {self.address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {NETWORK}.1",
        )
        self._wait(log, "listening")
        self.init = int(Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()[0])

    @property
    def _port(self):
        return f"to-{self.name}"

    def _wait(self, log, word):
        deadline = time.monotonic() + 20
        while word not in log.read_text():
            if time.monotonic() > deadline or self.outer.poll() is not None:
                raise TimeoutError(log.read_text())
            time.sleep(0.05)

    def _ip(self, *commands):
        run("nsenter", "-t", self.outer.pid, "--net", "sh", "-ec", "; ".join(f"ip {command}" for command in commands))

    def inside(self, *command, **variables):
        """The command line that runs a command there."""
        path = f"{self.lab.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"HOME": self.lab.home, "PATH": path, "TERM": "dumb", "LC_ALL": "C.UTF-8", **variables}
        enter = ["nsenter", "-t", str(self.init), "--all", "env", "-i", "-C", str(self.lab.home)]
        return [*enter, *(f"{name}={value}" for name, value in environment.items()), *(str(part) for part in command)]

    def take(self, folder):
        """Copy a folder to its home."""
        shutil.copytree(folder, self.folder / "home" / folder.name)

    def run(self, *command, timeout=120, **variables):
        """Run a command there; the finished process, with its output."""
        return subprocess.run(self.inside(*command, **variables), capture_output=True, text=True, timeout=timeout)

    def spawn(self, log, *command, **variables):
        """Start a command there, its output in the file `log`."""
        with log.open("w") as out:
            process = subprocess.Popen(
                self.inside(*command, **variables), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self.spawned.append(process)
        return process

    def cut(self):
        """Cut it off the network; it runs on."""
        self._ip("link set eth0 down")

    def mend(self):
        """Bring it back to the network."""
        self._ip("link set eth0 up", f"route add default via {NETWORK}.1")

    def kill(self):
        """SIGKILL everything on it, at once, and take it off the network."""
        if self.outer is not None:
            os.kill(self.init or self.outer.pid, signal.SIGKILL)
            self.outer.wait()
            # The kernel would do so later, and the next machine of this name needs the port.
            switch = str(self.lab.switch.pid)
            subprocess.run(
                ["nsenter", "-t", switch, "--net", "ip", "link", "del", self._port], capture_output=True, check=False
            )
        for process in self.spawned:
            process.wait()
        self.outer = self.init = None
        self.spawned.clear()

    def processes(self):
        """Command lines of what runs there."""
        return self.run("ps", "-wweo", "args=").stdout.splitlines()
