"""A bucket for tests: moto on 127.0.0.1, and before it a proxy that counts, waits and breaks things.

``python tests/cloud.py [delay]`` serves both until its input ends, for the benchmarks; its first line says where.
"""

import http.client
import json
import logging
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bucket"
CONTROL = "/-/"
KEYS = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
#: A test of a cut connection must not wait half a minute.
IMPATIENT = {
    "retry_config": {
        "max_retries": 1,
        "backoff": {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2), "base": 2},
    },
    "client_options": {"timeout": "20s"},
}


@dataclass
class Request:
    """One request as the proxy saw it, and how it was served."""

    method: str
    key: str
    query: dict
    length: int
    conditional: bool
    start: float
    end: float = float("inf")
    status: int = 0
    received: int = 0
    fate: str = ""

    @property
    def what(self):
        """Method and key, as tests write them: a listing is ``LIST prefix``."""
        if self.method == "GET" and "list-type" in self.query:
            return "LIST " + self.query.get("prefix", [""])[0]
        return f"{self.method} {self.key}"


def round_trips(requests):
    """How many requests followed one another: as many as can be chosen of which no two overlap."""
    waves, last = 0, float("-inf")
    for request in sorted(requests, key=lambda one: one.end):
        if request.start >= last:
            waves, last = waves + 1, request.end
    return waves


class Proxy:
    """Forwards to a server, one thread per connection.

    Attributes
    ----------
    delay : float
        Seconds that every request waits before it is forwarded.
    seen : list of Request
    rule : callable or None
        Given the number of the request since `reset` and the request, tells its fate: None, "cut" (closed before it is
        forwarded), "lost" (forwarded, then closed without an answer), "half" (cut in the middle of the answer),
        "expired" (403), "expired400" (what S3 itself answers), "denied", "busy" (503).
    before : callable or None
        Called with each request before it is forwarded.
    """

    def __init__(self, upstream, delay=0.0):
        self.upstream, self.delay = upstream, delay
        self.seen, self.rule, self.before = [], None, None
        self.lock, self.one_by_one = threading.Lock(), threading.Lock()
        self._connections = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self.lock:
            left = list(self._connections)
        for connection in left:
            _shut(connection)

    def reset(self, rule=None, before=None):
        """Forget what was seen, and break things as `rule` says from now on."""
        with self.lock:
            self.seen, self.rule, self.before = [], rule, before

    def requests(self, *methods):
        with self.lock:
            return [one for one in self.seen if not methods or one.method in methods]

    def paths(self, *methods):
        return [one.key for one in self.requests(*methods)]

    def settle(self, seconds=30.0):
        """Wait until no request is under way, also none whose sender has given up."""
        deadline = time.monotonic() + seconds
        while any(one.end == float("inf") for one in self.requests()):
            assert time.monotonic() < deadline, "requests do not end"
            time.sleep(0.005)

    def sent(self):
        """Bytes that clients have sent in bodies."""
        return sum(one.length for one in self.requests())

    @property
    def trips(self):
        return round_trips(self.requests())

    def keep(self, connection, there):
        with self.lock:
            (self._connections.add if there else self._connections.discard)(connection)

    def enter(self, request):
        with self.lock:
            self.seen.append(request)
            rule, number = self.rule, len(self.seen)
        return rule(number, request) if rule is not None else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = 1 << 20

    def __init__(self, proxy, *args):
        self.proxy, self.server_side = proxy, None
        super().__init__(*args)

    def setup(self):
        super().setup()
        self.proxy.keep(self.connection, True)

    def finish(self):
        self.proxy.keep(self.connection, False)
        if self.server_side is not None:
            self.server_side.close()
        try:
            super().finish()
        except OSError:
            return

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, *args):
        return

    def _serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.path.startswith(CONTROL):
            self._control(body)
            return
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        query = parse_qs(parts.query, keep_blank_values=True)
        conditional = self.command == "PUT" and any(self.headers.get(n) for n in ("If-Match", "If-None-Match"))
        request = Request(self.command, key, query, length, conditional, time.perf_counter())
        try:
            request.fate = self.proxy.enter(request) or ""
            self._answer(request, request.fate, body)
        finally:
            request.end = time.perf_counter()

    def _answer(self, request, fate, body):
        time.sleep(self.proxy.delay)
        before = self.proxy.before
        if before is not None:
            before(request)
        if fate == "cut":
            self._hang_up()
            return
        if fate in _REFUSALS:
            status, code = _REFUSALS[fate]
            answer = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused by the proxy</Message></Error>"
            self._reply(request, status, {"Content-Type": "application/xml"}, answer.encode())
            return
        status, headers, answer = self._forward(request, body)
        if fate == "lost":
            request.status = status
            self._hang_up()
        else:
            self._reply(request, status, headers, answer, half=fate == "half")

    def _forward(self, request, body):
        # moto looks at the condition of a put and then stores it, which threads can get between
        if request.conditional:
            with self.proxy.one_by_one:
                return self._exchange(body)
        return self._exchange(body)

    def _exchange(self, body):
        if self.server_side is None:
            where = urlsplit(self.proxy.upstream)
            self.server_side = http.client.HTTPConnection(where.hostname, where.port)
        passed = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        self.server_side.request(self.command, self.path, body, passed)
        found = self.server_side.getresponse()
        return found.status, {n: v for n, v in found.getheaders() if n.lower() not in _HOP}, found.read()

    def _reply(self, request, status, headers, answer, half=False):
        head = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Unknown')}"]
        head += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "content-length"]
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else len(answer)
        head += [f"Content-Length: {length}", "", ""]
        request.status, request.received = status, len(answer)
        if self.command == "HEAD":
            answer = b""
        self.connection.sendall("\r\n".join(head).encode("latin-1") + answer[: len(answer) // 2 if half else None])
        if half:
            self._hang_up()

    def _hang_up(self):
        self.close_connection = True
        _shut(self.connection)

    def _control(self, body):
        if self.command == "POST":
            asked = json.loads(body)
            self.proxy.delay = asked.get("delay", self.proxy.delay)
            self.proxy.reset()
        seen = self.proxy.requests()
        about = {"requests": [one.what for one in seen], "trips": round_trips(seen), "sent": self.proxy.sent()}
        data = json.dumps(about).encode()
        self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815


_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "expect"}
_REFUSALS = {
    "expired": (403, "ExpiredToken"),
    "expired400": (400, "ExpiredToken"),
    "denied": (403, "AccessDenied"),
    "busy": (503, "SlowDown"),
}


def _shut(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class Cloud:
    """moto, the proxy before it, and a bucket."""

    def __init__(self, delay=0.0):
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.moto.start()
        host, port = self.moto.get_host_and_port()
        self.direct = f"http://{host}:{port}"
        self.ask("PUT", f"/{BUCKET}")
        self.proxy = Proxy(self.direct, delay)

    def ask(self, method, path, body=None):
        """Ask moto itself; nothing counts this."""
        connection = http.client.HTTPConnection(*urlsplit(self.direct).netloc.split(":"))
        try:
            connection.request(method, path, body)
            return connection.getresponse().read()
        finally:
            connection.close()

    def options(self, **more):
        """storage_options for the proxy."""
        keys = {"endpoint": self.proxy.url, "region": "us-east-1", "access_key_id": "me", "secret_access_key": "x"}
        return {**keys, **IMPATIENT, **more}

    def store(self, path=""):
        """The bucket as obstore sees it, without the proxy."""
        from obstore.store import S3Store

        options = {k: v for k, v in self.options(endpoint=self.direct).items() if k not in IMPATIENT}
        return S3Store(BUCKET, prefix=path or None, config=options, client_options={"allow_http": True})

    def sizes(self, path):
        """Keys below a path and their sizes."""
        import obstore

        return {about["path"]: about["size"] for batch in obstore.list(self.store(path)) for about in batch}

    def close(self):
        self.proxy.close()
        self.moto.stop()


def dataset(rows=400, seed=0, sources=3, processings=("raw", "snv")):
    """Three sources, targets, metadata, folds and predictions."""
    import numpy as np
    import polars as pl

    from spectroxr import SpectroDataset

    rng = np.random.default_rng(seed)
    widths = {"nir": 40, "mir": 30, "raman": 20}
    spectra = {name: rng.random((rows, len(processings), widths[name]), "f4") for name in list(widths)[:sources]}
    parts = [("train", "train", "test")[k % 3] for k in range(rows)]
    ds = SpectroDataset()
    ds.add_features(spectra, processing=list(processings), partition=parts, units="nm", quantity="absorbance")
    ds.add_targets(pl.DataFrame({"protein": rng.random(rows)}))
    ds.add_meta(pl.DataFrame({"site": [f"field {k % 5}" for k in range(rows)]}))
    ds.set_folds([(list(range(10, 20)), list(range(10)))])
    ds.add_prediction(rng.random(rows), {"model": "pls"})
    return ds


def save_again(url, options, seed, times=1):
    """Load a store and save it with other spectra, again and again: what other processes of the tests do."""
    import numpy as np

    from spectroxr import ConflictError, SpectroDataset

    rng = np.random.default_rng(seed)
    for number in range(times):
        ds = SpectroDataset.load(url, storage_options=options)
        ds.update_x({"nir": rng.random((len(ds), 40), "f4")}, range(len(ds)), f"new {seed}.{number}")
        try:
            ds.save(url, storage_options=options, message=f"{seed}")
        except ConflictError as error:
            return f"conflict: {error}"
    return "saved"


def main():
    cloud = Cloud(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)
    print(json.dumps({"url": cloud.proxy.url, "direct": cloud.direct}), flush=True)
    sys.stdin.read()
    cloud.close()


if __name__ == "__main__":
    main()
