"""relay_load is the witness of every loss: here a server misbehaves on purpose, and each kind must be named right."""

import json
import os
import socket
import struct
import subprocess
import threading
import zlib

import pytest

RELAY_LOAD = os.path.join(os.environ.get("RELAYD_BIN_DIR", "build/bin"), "relay_load")


def head(request, length, status="200 OK", request_id=None, crc=None, accepted=1):
    lines = dict(line.split(": ", 1) for line in request.split("\r\n")[1:] if ": " in line)
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Generation: 3\r\nX-Instance: 0\r\n"
        f"X-Request-Id: {lines['X-Request-Id'] if request_id is None else request_id}\r\n"
        f"X-Accepted: {accepted}\r\nX-Body-Length: {lines.get('Content-Length', 0)}\r\n"
        f"X-Body-Crc32: {crc}\r\nConnection: close\r\n\r\n"
    ).encode()


class Server:
    """Answers each connection by `behave(socket, head of the request, body)`, one at a time, on a loopback port. `first`
    takes from the socket what comes before the request."""

    def __init__(self, behave, first=lambda client: None):
        self.behave = behave
        self.first = first
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                try:
                    self.first(client)
                    self.behave(client, *read_request(client))
                except OSError:
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()
        self.thread.join(10)


def read_request(client):
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    text, _, body = data.partition(b"\r\n\r\n")
    request = text.decode()
    length = next((int(line[16:]) for line in request.split("\r\n") if line.startswith("Content-Length: ")), 0)
    while len(body) < length:
        body += client.recv(65536)
    return request, body


def crc(body):
    return "%08x" % zlib.crc32(body)


def good(client, request, body):
    client.sendall(head(request, 2, crc=crc(body)) + b"ok")


def rst(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset(client, request, body):
    rst(client)


def never_closes(client, request, body):
    good(client, request, body)
    client.recv(1)


def hangs(client, request, body):
    client.recv(1)


BEHAVIOURS = {
    "reset": (reset, "reset"),
    "closed at once": (lambda client, request, body: None, "closed_early"),
    "half an answer": (lambda client, request, body: client.sendall(head(request, 10) + b"half"), "truncated"),
    "half a head": (lambda client, request, body: client.sendall(b"HTTP/1.1 200 OK\r\nConte"), "truncated"),
    "error": (lambda client, request, body: client.sendall(head(request, 0, status="502 Bad Gateway")), "bad_status"),
    "another's answer": (
        lambda client, request, body: client.sendall(head(request, 0, request_id="x", crc=crc(body))),
        "bad_body",
    ),
    "wrong hash": (lambda client, request, body: client.sendall(head(request, 0, crc="00000bad")), "bad_body"),
    "answered twice": (
        lambda client, request, body: client.sendall(2 * (head(request, 2, crc=crc(body)) + b"ok")),
        "bad_body",
    ),
    "no HTTP": (lambda client, request, body: client.sendall(b"Content-Length\r\nContent-Length: 0\r\n\r\n"), "bad_body"),
    "hangs": (hangs, "timed_out"),
    "never closes": (never_closes, "timed_out"),
}


def run_load(address, *options):
    ended = subprocess.run([RELAY_LOAD, address, *options], capture_output=True, text=True, timeout=60)
    return ended.returncode, json.loads(ended.stdout), ended.stderr


@pytest.fixture
def serve():
    servers = []

    def start(behave, *first):
        servers.append(Server(behave, *first))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_loss_is_named_by_its_kind(serve, name):
    behave, kind = BEHAVIOURS[name]
    status, report, _ = run_load(serve(behave).address, "--count", "3", "--post", "100", "--timeout", "0.5")
    assert status == 1
    assert {key: n for key, n in report["losses"].items() if n} == {kind: 3}, report["complaints"]
    assert report["requests"] == report["lost"] == 3


def test_good_answers_are_counted_by_generation(serve):
    status, report, _ = run_load(serve(good).address, "--count", "40", "--clients", "4", "--post", "50")
    assert (status, report["answered"], report["lost"]) == (0, 40, 0)
    assert report["generations"] == {"3": 40}
    assert report["longest_stall_ms"] > 0


def test_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
    status, report, _ = run_load(address, "--count", "2")
    assert (status, report["losses"]["refused"]) == (1, 2)


def test_an_answer_that_cannot_be_checked_is_the_clients_error(serve):
    server = serve(lambda client, request, body: client.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"))
    status, report, _ = run_load(server.address, "--count", "1")
    assert (status, report["client_errors"], report["lost"]) == (3, 1, 0)


def test_answers_out_of_arrival_order_are_counted(serve):
    """Three clients wait together; the app says that it accepted them in the order 3, 1, 2."""
    waiting = []

    def collect(client, request, body):
        waiting.append((client.dup(), request, body))
        if len(waiting) == 3:
            for (each, text, sent), accepted in zip(waiting, (3, 1, 2)):
                each.sendall(head(text, 0, crc=crc(sent), accepted=accepted))
                each.shutdown(socket.SHUT_RDWR)

    status, report, _ = run_load(serve(collect).address, "--count", "3", "--clients", "3", "--order", "--timeout", "10")
    assert (status, report["lost"], report["order_compared"], report["order_violations"]) == (1, 0, 3, 1)


def test_lines_and_redis(serve):
    listener = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % listener.getsockname()[1]

    def echo():
        for _ in range(2):
            client, _ = listener.accept()
            with client:
                data = client.recv(65536)
                client.sendall(data if not data.startswith(b"*2") else data.split(b"PING\r\n")[1])

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    for protocol in ("line", "redis"):
        status, report, _ = run_load(address, "--protocol", protocol, "--count", "1")
        assert (status, report["answered"]) == (0, 1), report
    thread.join(10)
    listener.close()


def read_proxy_header(client):
    """The client that the header names, as "address:port"."""
    if client.recv(1, socket.MSG_PEEK) == b"P":
        line = b""
        while not line.endswith(b"\r\n"):
            line += client.recv(1)
        word, family, source, _, port, _ = line[:-2].decode().split(" ")
        assert (word, family) == ("PROXY", "TCP6" if ":" in source else "TCP4"), line
        return f"{source}:{port}"
    fixed = client.recv(16, socket.MSG_WAITALL)
    assert fixed[:13] == b"\r\n\r\n\0\r\nQUIT\n\x21", fixed
    family, size = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}[fixed[13]]
    rest = client.recv(int.from_bytes(fixed[14:], "big"), socket.MSG_WAITALL)
    assert len(rest) == 2 * size + 4
    return f"{socket.inet_ntop(family, rest[:size])}:{int.from_bytes(rest[2 * size : 2 * size + 2], 'big')}"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_proxy_headers_name_a_client_that_the_answer_must_name(serve, version):
    told = []

    def says(change):
        def behave(client, request, body):
            client.sendall(head(request, 0, crc=crc(body))[:-2] + f"X-Client: {change(told[-1])}\r\n\r\n".encode())

        return serve(behave, lambda client: told.append(read_proxy_header(client))).address

    options = ["--proxy-protocol", version, "--count", "6", "--check-client"]
    status, report, _ = run_load(says(lambda client: client), *options, "port")
    assert (status, report["answered"]) == (0, 6), report
    assert len(set(told)) == 6 and {client.count(":") > 1 for client in told} == {True, False}, told
    another_port = says(lambda client: client + "0")
    assert run_load(another_port, *options, "address")[0] == 0
    status, report, _ = run_load(another_port, *options, "port")
    assert (status, report["losses"]["bad_body"]) == (1, 6), report
    status, report, _ = run_load(says(lambda client: "1" + client), *options, "address")
    assert (status, report["losses"]["bad_body"]) == (1, 6), report


def test_without_a_header_the_client_is_the_load_client_itself(serve):
    def tells(client, request, body):
        host, port = client.getpeername()
        client.sendall(head(request, 0, crc=crc(body))[:-2] + f"X-Client: {host}:{port}\r\n\r\n".encode())

    assert run_load(serve(tells).address, "--count", "3", "--check-client", "port")[0] == 0
    status, report, _ = run_load(serve(good).address, "--count", "3", "--check-client", "address")
    assert (status, report["losses"]["bad_body"]) == (1, 3), report


def test_term_lets_requests_under_way_finish(serve):
    begun, release = threading.Event(), threading.Event()

    def late(client, request, body):
        begun.set()
        release.wait(10)
        good(client, request, body)

    load = subprocess.Popen([RELAY_LOAD, serve(late).address], stdout=subprocess.PIPE, text=True)
    assert begun.wait(10)
    load.terminate()
    release.set()
    output, _ = load.communicate(timeout=20)
    report = json.loads(output)
    assert (load.returncode, report["lost"], report["unfinished"]) == (0, 0, 0)
    assert report["answered"] >= 1
