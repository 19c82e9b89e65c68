"""Faults of a server in S3's place, for its proxy: requests that fail, a bucket that is read-only, credentials that expire."""

import http.server
import json
import random
import re
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

from tests.results.s3_server import DROP, OTHERS, Answer

SLOW_DOWN, BROKEN, AWAY = (503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")


def unreliable(share, seed=0):
    """A share of the requests fails, of those half after the server has done what was asked."""
    rng = random.Random(seed)

    def fault(method, path, headers):
        if rng.random() >= share:
            return None
        kind = rng.choice([SLOW_DOWN, BROKEN, AWAY, DROP])
        return DROP if kind is DROP else Answer(*kind, after=rng.random() < 0.5)

    return fault


def read_only(method, path, headers):
    return Answer(403, "AccessDenied") if method != "GET" else None


def away(method, path, headers):
    return DROP


@contextmanager
def credentials(seconds):
    """A server of credentials that expire after so many seconds; gives its address and which keys it gave when."""
    given = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            now = time.time()
            if not given or now - given[-1][1] >= seconds - 0.3:  # a moment earlier: an answer takes its time
                given.append((OTHERS[len(given) % len(OTHERS)], now))
            (key, secret), since = given[-1]
            end = datetime.fromtimestamp(since + seconds, UTC).isoformat()
            answer = {"AccessKeyId": key, "SecretAccessKey": secret, "Token": None, "Expiration": end}
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/role", given
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def expiring(given, seconds, used):
    """A request is refused whose credentials, as `credentials` gave them, have expired; adds to `used` those that were sent."""

    def fault(method, path, headers):
        key = key_of(headers)
        used.add(key)
        since = max(since for (known, _), since in given if known == key)
        return Answer(400, "ExpiredToken") if time.time() > since + seconds else None

    return fault


def key_of(headers):
    """Which key a request is signed with."""
    return re.search(r"Credential=(\w+)/", headers["Authorization"])[1]
