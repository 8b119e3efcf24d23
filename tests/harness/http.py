"""The least HTTP that tests need on sockets of their own."""

import json
import socket


def connect(address, seconds=20):
    if address.startswith("unix:"):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(seconds)
        link.connect(address[5:])
        return link
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=seconds)


def ask(link, path="/", close=True):
    """Sends a GET; the answer is read by answer()."""
    link.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n{'Connection: close' if close else 'X-Keep: 1'}\r\n\r\n".encode())


def answer(link):
    """(status, headers in lower case, body); ConnectionError where it is not whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = link.recv(65536)
        if not more:
            raise ConnectionError(f"closed after {len(data)} bytes of the head")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    length = int(headers["content-length"])
    while len(body) < length:
        more = link.recv(65536)
        if not more:
            raise ConnectionError(f"closed after {len(body)} of {length} bytes of the body")
        body += more
    return int(lines[0].split()[1]), headers, body


def get(address, path="/", seconds=20):
    with connect(address, seconds) as link:
        ask(link, path)
        return answer(link)


def get_json(address, path="/", seconds=20):
    status, _, body = get(address, path, seconds)
    assert status == 200, (status, body)
    return json.loads(body)
