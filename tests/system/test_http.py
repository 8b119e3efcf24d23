"""HTTP as clients and apps see it, through rollovers: pipelining, bodies, and answers of relayd's own."""

import contextlib
import hashlib
import json
import signal
import subprocess
import zlib

import pytest

from harness import apps, http

MIB = 1 << 20
BLOCK = bytes(ord("0123456789abcdefghijklmnopqrstuvwxyz"[i % 36]) for i in range(65537))  # as node_app.js /bytes


def expected_hash(size):
    digest = hashlib.sha256()
    for begin in range(0, size, len(BLOCK)):
        digest.update(BLOCK[: min(len(BLOCK), size - begin)])
    return digest.hexdigest()


class Kept:
    """A client with one connection, which must outlive the test."""

    def __init__(self, address):
        self.link = http.connect(address, 60)
        self.lines = self.link.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.link.close()

    def send(self, path="/", method="GET", more="", body=b""):
        self.link.sendall(f"{method} {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n".encode() + body)

    def head(self):
        """(status, headers in lower case)"""
        line = self.lines.readline()
        if not line:
            raise ConnectionError("closed instead of an answer")
        headers = {}
        while (field := self.lines.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode().rstrip("\r\n").partition(": ")
            headers[name.lower()] = value
        return int(line.split()[1]), headers

    def answer(self):
        """(status, headers, body): of known length."""
        status, headers = self.head()
        length = int(headers["content-length"])
        body = self.lines.read(length)
        assert len(body) == length, f"closed after {len(body)} of {length} bytes"
        return status, headers, body

    def get(self, path="/", more=""):
        self.send(path, more=more)
        return self.answer()

    def generation(self):
        status, headers, _ = self.get()
        assert status == 200
        return headers["x-generation"]

    def closed(self):
        return self.lines.read(1) == b""


def node(**more):
    return apps.node(**more)


# ---- crossing, seen by one client


@pytest.mark.parametrize("protocol", ["auto", "http"])
def test_a_kept_client_crosses_and_a_held_one_is_answered_by_the_new_generation(relayd, protocol):
    relayd.start({"web": node(protocol=protocol)})
    with Kept(relayd.address) as client:
        assert client.generation() == "1"
        relayd.rollover("phased", until="drained")
        assert client.generation() == "2"
        rollover = relayd.begin_rollover("--mode", "hot")
        relayd.wait_for(lambda service: service["holding"], "clients are held")
        assert client.generation() == "3"
        rollover.communicate(timeout=60)
        assert rollover.returncode == 0
        assert relayd.service()["crossings"] == 2


def test_pipelined_requests_are_answered_in_order_across_a_rollover(relayd):
    relayd.start({"web": node()})
    generations, number, batch = [], 0, 8
    with Kept(relayd.address) as client:
        rollover = None
        while not (generations and generations[-1] == "2"):
            client.link.sendall(
                b"".join(
                    f"GET /wait?5 HTTP/1.1\r\nHost: test\r\nX-Request-Id: {number + i}\r\n\r\n".encode() for i in range(batch)
                )
            )
            for i in range(batch):
                status, headers, _ = client.answer()
                assert (status, headers["x-request-id"]) == (200, str(number + i))
                generations.append(headers["x-generation"])
            number += batch
            rollover = rollover or relayd.begin_rollover()
        rollover.communicate(timeout=60)
    assert generations == sorted(generations) and generations[0] == "1"


def test_curl_keeps_its_connection_through_rollovers(relayd):
    relayd.start({"web": node()})
    said = relayd.folder / "curl.out"
    with said.open("wb") as output:
        command = ["/usr/bin/stdbuf", "-oL", "/usr/bin/curl", "-s", "-o", "/dev/null", "--rate", "100/s"]
        command += ["-w", r"%{http_code} %{num_connects}\n", f"http://{relayd.address}/?[1-1000000]"]
        curl = subprocess.Popen(command, stdout=output, stdin=subprocess.DEVNULL)
        try:
            relayd.wait_for(lambda service: service["requests"] > 5, "curl is being served")
            for number, mode in enumerate(["phased", "hot", "phased"], 1):
                relayd.rollover(mode, until="drained")
                relayd.wait_for(lambda service: service["crossings"] == number, "curl crosses")
            assert curl.poll() is None
        finally:
            curl.kill()
            curl.wait(10)
    lines = said.read_text().split("\n")[:-1]
    assert len(lines) > 5 and lines[0] == "200 1" and set(lines[1:]) == {"200 0"}, set(lines)


def test_wrk_notices_nothing(relayd):
    relayd.start({"web": node()})
    wrk = subprocess.Popen(
        ["/usr/bin/wrk", "-c", "16", "-t", "2", "-d", "300", f"http://{relayd.address}/"], stdout=subprocess.PIPE, text=True
    )
    try:
        relayd.wait_for(lambda service: service["requests"] > 100, "wrk is being served")
        for number, mode in enumerate(["phased", "hot", "phased"], 1):
            relayd.rollover(mode, until="drained")
            relayd.wait_for(lambda service: service["crossings"] == 16 * number, "every connection crosses")
    finally:
        wrk.send_signal(signal.SIGINT)
        output, _ = wrk.communicate(timeout=30)
    assert "Socket errors" not in output and "Non-2xx" not in output, output
    assert "requests in" in output, output


# ---- bodies


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_arrives_whole_though_a_rollover_comes_between(relayd, chunked):
    relayd.start({"web": node(rollover={"graceful_timeout": "60s"})})
    body = bytes(BLOCK[:65536]) * 256  # 16 MiB
    half = len(body) // 2
    with Kept(relayd.address) as client:
        assert client.generation() == "1"
        client.send(method="POST", more="Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {len(body)}\r\n")
        send = (lambda part: b"%x\r\n%b\r\n" % (len(part), part)) if chunked else bytes
        client.link.sendall(send(body[:half]))
        relayd.rollover("phased")
        client.link.sendall(send(body[half:]) + (b"0\r\n\r\n" if chunked else b""))
        status, headers, _ = client.answer()
        assert (status, headers["x-generation"], headers["x-body-length"]) == (200, "1", str(len(body)))
        assert headers["x-body-crc32"] == "%08x" % zlib.crc32(body)
        assert client.generation() == "2"
        relayd.wait_event("generation_stopped", generation=1)


@pytest.mark.parametrize("path", ["/bytes", "/chunked"])
def test_a_download_arrives_whole_though_a_rollover_comes_between(relayd, path):
    relayd.start({"web": node(rollover={"graceful_timeout": "60s"})})
    size = 48 * MIB + 17
    digest = hashlib.sha256()
    with Kept(relayd.address) as client:
        client.send(f"{path}?{size}")
        status, headers = client.head()
        assert (status, headers["x-generation"]) == (200, "1")

        def parts():
            if path == "/bytes":
                for begin in range(0, size, 65536):
                    yield client.lines.read(min(65536, size - begin))
            while path == "/chunked" and (length := int(client.lines.readline(), 16)):
                yield client.lines.read(length)
                assert client.lines.readline() == b"\r\n"
            if path == "/chunked":
                assert client.lines.readline() == b"\r\n"

        rolled = False
        got = 0
        for part in parts():
            digest.update(part)
            got += len(part)
            if got > MIB and not rolled:
                relayd.rollover("phased")
                rolled = True
        assert got == size and digest.hexdigest() == expected_hash(size)
        assert client.generation() == "2"
        relayd.wait_event("generation_stopped", generation=1)


# ---- answers of relayd's own


def test_a_hold_that_times_out_is_answered_503_with_retry_after(relayd):
    relayd.start({"web": node(hold={"timeout": "1s"})})
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Kept(relayd.address))
        assert kept.generation() == "1"
        relayd.ctl("pause")
        fresh = stack.enter_context(Kept(relayd.address))
        for client in (kept, fresh):
            client.send()
        for client in (kept, fresh):
            status, headers, body = client.answer()
            assert status == 503 and int(headers["retry-after"]) >= 1 and body, headers
            assert headers["connection"] == "close" and client.closed()
    assert relayd.service()["answered"] == 2
    relayd.ctl("resume")
    with Kept(relayd.address) as client:
        assert client.generation() == "2"


def test_a_request_that_no_instance_answers_gets_502(relayd):
    relayd.start({"web": node()})
    with Kept(relayd.address) as client:
        client.send("/nothing", method="POST", more="Content-Length: 0\r\n")
        assert client.answer()[0] == 502 and client.closed()
    assert relayd.service()["sent_again"] == 0, "a POST is never sent again"
    with Kept(relayd.address) as client:
        client.send("/nothing")
        assert client.answer()[0] == 502 and client.closed()
    assert relayd.service()["sent_again"] == 1, "a GET is sent once more"


IN_DOUBT = {
    "both lengths": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "differing lengths": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "obs-fold": "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
    "space before the colon": "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
    "bare LF": "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n",
    "NUL": "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0\r\n\r\n",
}


@pytest.mark.parametrize("why", IN_DOUBT)
def test_framing_in_doubt_is_answered_400(relayd, why):
    relayd.start({"web": node()})
    with Kept(relayd.address) as client:
        assert client.generation() == "1"
        client.link.sendall(IN_DOUBT[why].encode())
        assert client.answer()[0] == 400 and client.closed()
    assert relayd.service()["requests"] == 1, "the app has not seen it"


def test_a_head_beyond_64_kib_is_answered_431(relayd):
    relayd.start({"web": node()})
    with Kept(relayd.address) as client:
        client.link.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n")
        assert client.answer()[0] == 431 and client.closed()


# ---- who the client is


def test_forwarded_headers_name_the_client(relayd):
    relayd.start({"web": node(protocol="http", forwarded_headers=True)})
    with Kept(relayd.address) as client:
        for _ in range(2):
            seen = json.loads(client.get("/headers")[2])
            assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http"), seen
        more = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n"
        seen = json.loads(client.get("/headers", more)[2])
        assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("192.0.2.1, 127.0.0.1", "https"), seen


def test_without_forwarded_headers_nothing_is_added(relayd):
    relayd.start({"web": node()})
    with Kept(relayd.address) as client:
        assert json.loads(client.get("/headers", "X-A: b\r\n")[2]) == {"host": "test", "x-a": "b"}
