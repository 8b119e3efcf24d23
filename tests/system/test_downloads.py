"""What is under way during a rollover arrives whole; what is overdue is cut in time."""

import hashlib
import time
import zlib

import pytest

from harness import apps, http

BLOCK = 65536
PATTERN = bytes((i * 167 + 13) & 255 for i in range(BLOCK))  # as demo_app's /stream
GIGABYTE = 1 << 30
NOISE = 10.0  # seconds that a busy machine may add


def expected_hash(size):
    digest = hashlib.sha256()
    for number in range((size + BLOCK - 1) // BLOCK):
        block = number.to_bytes(8, "big") + PATTERN[8:]
        digest.update(block[: min(BLOCK, size - number * BLOCK)])
    return digest.hexdigest()


class Download:
    """A download that the test reads as far as it likes."""

    def __init__(self, address, size, rate=0):
        self.link = http.connect(address, 60)
        http.ask(self.link, f"/stream?bytes={size}&rate={rate}")
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.link.recv(4096)
        first = head.partition(b"\r\n\r\n")[2]
        self.got = len(first)
        self.digest = hashlib.sha256(first)
        self.buffer = bytearray(1 << 20)

    def read(self, until=None):
        """Up to `until` bytes in all, or to the end. True where more may come."""
        while until is None or self.got < until:
            count = self.link.recv_into(self.buffer)
            if count == 0:
                return False
            self.digest.update(memoryview(self.buffer)[:count])
            self.got += count
        return True


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_a_gigabyte_arrives_whole(relayd, mode):
    relayd.start({"web": apps.demo(rollover={"graceful_timeout": "120s"})})
    download = Download(relayd.address, GIGABYTE)
    assert download.read(50_000_000)
    rollover = relayd.begin_rollover("--mode", mode)
    relayd.wait_event("draining", generation=1)
    assert relayd.generation(1)["connections"] == 1
    while download.read(download.got + 1):
        pass
    assert download.got == GIGABYTE
    assert download.digest.hexdigest() == expected_hash(GIGABYTE)
    download.link.close()
    assert rollover.wait(60) == 0
    rollover.communicate()
    relayd.wait_event("generation_stopped", generation=1)
    assert http.get_json(relayd.address)["generation"] == 2


def test_a_slow_download_arrives_whole(relayd):
    relayd.start({"web": apps.demo()})
    download = Download(relayd.address, 600_000, rate=300_000)
    assert download.read(60_000)
    relayd.rollover("phased")
    assert relayd.generation(1)["state"] == "draining"
    assert not download.read()
    assert download.got == 600_000
    assert download.digest.hexdigest() == expected_hash(600_000)
    download.link.close()


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_what_is_overdue_is_cut_at_graceful_timeout(relayd, mode):
    relayd.start({"web": apps.demo(rollover={"graceful_timeout": "2s"})})
    download = Download(relayd.address, GIGABYTE, rate=100_000)
    rollover = relayd.begin_rollover("--mode", mode)
    draining = relayd.wait_event("draining", generation=1)
    try:
        assert not download.read()
    except ConnectionResetError:
        pass
    lasted = time.time() - draining["unix_ms"] / 1000
    assert 1.9 < lasted < 2 + NOISE
    cut = relayd.wait_event("cut", generation=1)
    assert cut["unix_ms"] - draining["unix_ms"] >= 1900
    assert 0 < download.got < GIGABYTE
    assert rollover.wait(30) == 0
    rollover.communicate()
    download.link.close()


def test_an_upload_under_way_arrives_whole(relayd):
    size = 64 << 20
    relayd.start({"web": apps.demo()})
    body = PATTERN * (size // BLOCK)
    with http.connect(relayd.address, 60) as link:
        link.sendall(f"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        link.sendall(body[: size // 2])
        relayd.rollover("phased")
        link.sendall(body[size // 2 :])
        status, headers, _ = http.answer(link)
    assert (status, headers["x-generation"]) == (200, "1")
    assert headers["x-body-crc32"] == "%08x" % zlib.crc32(body)
