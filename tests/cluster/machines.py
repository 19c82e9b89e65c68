"""Several machines on one: each has namespaces for network, processes, mounts and host name, its own home and /tmp/ray, and an sshd."""

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


class Lab:
    """A switch and machines on it; a host of its own address, 10.77.0.1, stands for everything that is no machine of the cluster.

    Args:
        folder: for homes, keys and logs.
        names: of the machines, each with the last number of its address.

    """

    def __init__(self, folder, names):
        self.folder, self.tag = folder, f"lab{os.getpid()}"
        self.home = folder / "home"
        self.venv = folder / "venv"
        self.machines = {name: Machine(self, name, f"{NETWORK}.{number}") for name, number in names.items()}

    def __enter__(self):
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "id")
        self._make_venv()
        run("ip", "netns", "add", self.tag)
        run("ip", "-n", self.tag, "link", "set", "lo", "up")
        run("ip", "-n", self.tag, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.tag, "link", "set", "br0", "up")
        run("ip", "-n", self.tag, "addr", "add", f"{NETWORK}.1/24", "dev", "br0")
        for machine in self.machines.values():
            machine.start()
        return self

    def __exit__(self, *error):
        for machine in self.machines.values():
            machine.kill()
        subprocess.run(["ip", "netns", "del", self.tag], check=False)

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
        self.folder, self.space = lab.folder / name, f"{lab.tag}-{name}"
        self.init = None

    def start(self):
        """Start it with an empty disk."""
        lab, folder = self.lab, self.folder
        shutil.rmtree(folder, ignore_errors=True)
        home = folder / "home"
        (folder / "ray").mkdir(parents=True)
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        (home / "venv").symlink_to(lab.venv)
        shutil.copy(lab.folder / "id.pub", home / ".ssh" / "authorized_keys")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "hostkey")
        passwd = Path("/etc/passwd").read_text().replace(":/root:", f":{lab.home}:")
        (folder / "passwd").write_text(passwd)
        (folder / "sshd_config").write_text(SSHD.format(address=self.address, folder=folder, home=lab.home))
        link = f"v{os.getpid()}{self.name}"[:15]
        run("ip", "netns", "add", self.space)
        run("ip", "-n", self.space, "link", "set", "lo", "up")
        run("ip", "link", "add", link, "netns", lab.tag, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        run("ip", "-n", lab.tag, "link", "set", link, "master", "br0", "up")
        run("ip", "-n", self.space, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.space, "link", "set", "eth0", "up")
        # A dead end: Ray asks for the way to 8.8.8.8 to learn its own address.
        run("ip", "-n", self.space, "route", "add", "default", "via", f"{NETWORK}.1")
        Path("/tmp/ray").mkdir(exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        inside = (
            f"hostname {self.name}; mount -t tmpfs -o size=2g t /dev/shm; mount --bind {folder / 'ray'} /tmp/ray; "
            f"mount --bind {home} {lab.home}; mount --bind {folder / 'passwd'} /etc/passwd; "
            f"exec {shutil.which('sshd', path='/usr/sbin:/usr/bin')} -D -e -f {folder / 'sshd_config'}"
        )
        spaces = ["unshare", "--fork", "--pid", "--mount-proc", "--mount", "--uts", "--ipc", "--kill-child"]
        with (folder / "sshd.log").open("w") as log:
            self.outer = subprocess.Popen(
                ["ip", "netns", "exec", self.space, *spaces, "bash", "-c", inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while self.init is None:
            children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
            if children and "listening" in (folder / "sshd.log").read_text():
                self.init = int(children[0])
            elif time.monotonic() > deadline:
                raise TimeoutError((folder / "sshd.log").read_text())
            time.sleep(0.05)

    def inside(self, *command, **variables):
        """The command line that runs a command there."""
        path = f"{self.lab.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"HOME": self.lab.home, "PATH": path, "TERM": "dumb", "LC_ALL": "C.UTF-8", **variables}
        enter = ["nsenter", "-t", str(self.init), "--all", f"--wd={self.lab.home}", "env", "-i"]
        return [*enter, *(f"{name}={value}" for name, value in environment.items()), *(str(part) for part in command)]

    def run(self, *command, timeout=120, **variables):
        """Run a command there; the finished process, with its output."""
        return subprocess.run(self.inside(*command, **variables), capture_output=True, text=True, timeout=timeout)

    def spawn(self, log, *command, **variables):
        """Start a command there, its output in the file `log`."""
        with log.open("w") as out:
            return subprocess.Popen(
                self.inside(*command, **variables), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def cut(self):
        """Cut it off the network; it runs on."""
        run("ip", "-n", self.space, "link", "set", "eth0", "down")

    def kill(self):
        """SIGKILL everything on it, at once, and take it off the network."""
        if self.init is None:
            return
        os.kill(self.init, signal.SIGKILL)
        self.outer.wait()
        self.init = None
        subprocess.run(["ip", "netns", "del", self.space], check=False)

    def processes(self):
        """Command lines of what runs there."""
        return self.run("ps", "-eo", "args=").stdout.splitlines()
