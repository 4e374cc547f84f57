"""A real S3 server over HTTP on this machine, and a proxy before it that does to reads what networks do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec

SLOW_S = 3.0
"""Longer than the read timeout that the client is given."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `port`, but does the next of `faults` to each GET of a tar; counts those.

    `harassed` says which other requests meet faults: called with method and path.

    A fault is an HTTP status, `reset` (the connection breaks off), `cut` (it breaks off within the answer), `short`
    (a whole answer with half of the bytes), `slow`, or `flip` (a byte arrives changed).
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.faults, self.seen = port, deque[str](), Counter[str]()
        self.lock = threading.Lock()
        self.harassed: Callable[[str, str], bool] = lambda method, path: method == "GET" and path.endswith(".tar")

    def next_fault(self, path: str) -> str:
        with self.lock:
            self.seen[path] += 1
            return self.faults.popleft() if self.faults else ""

    def handle_error(self, request, client_address) -> None:
        """Say nothing: clients that are gone are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length) if length else None
        path = self.path.partition("?")[0]
        fault = self.server.next_fault(path) if self.server.harassed(self.command, path) else ""
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault.isdigit():
            name = {"403": "AccessDenied", "404": "NoSuchKey"}.get(fault, "InternalError")
            self._answer(int(fault), [], f"<Error><Code>{name}</Code></Error>".encode())
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        upstream.request(self.command, self.path, sent, dict(self.headers))
        response = upstream.getresponse()
        body, headers = response.read(), response.getheaders()
        upstream.close()
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "flip":
            body = body[:-700] + bytes([body[-700] ^ 1]) + body[-699:]
        self._answer(response.status, headers, body, len(body) // 2 if fault == "cut" else None)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: int | None = None) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("content-length", "transfer-encoding", "connection", "content-range"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@contextlib.contextmanager
def s3_server() -> Iterator[Proxy]:
    """Yield the proxy of a fresh S3 server with the bucket `data`, to which every `s3://` goes meanwhile."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    proxy = Proxy(port)
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    before, tries = dict(fsspec.config.conf), S3FileSystem.retries
    fsspec.config.conf["s3"] = {
        "endpoint_url": f"http://127.0.0.1:{proxy.server_port}",
        "key": "k",
        "secret": "s",
        "config_kwargs": {"retries": {"max_attempts": 0}, "read_timeout": 2.0},
    }
    S3FileSystem.retries = 1  # ours are tested here, not theirs
    S3FileSystem.clear_instance_cache()
    try:
        fsspec.filesystem("s3").makedirs("data", exist_ok=True)
        yield proxy
    finally:
        S3FileSystem.clear_instance_cache()
        S3FileSystem.retries = tries
        fsspec.config.conf.clear()
        fsspec.config.conf.update(before)
        proxy.shutdown()
        proxy.server_close()
        server.stop()


def upload(directory: Path, url: str) -> str:
    """Copy the files of a dataset to `url`, which is returned."""
    fs, root = fsspec.core.url_to_fs(url)
    for path in directory.iterdir():
        fs.pipe_file(f"{root}/{path.name}", path.read_bytes())
    return url
