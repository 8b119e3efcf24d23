"""A server in systemd's style: takes its sockets from LISTEN_FDS, says READY=1, and on TERM finishes what it has.
  /crash          ends at once, with status 3
  /sockets        what it was passed, as JSON
READY_WHEN=PATH   is ready only once this file exists
EXIT_WHEN=PATH    on TERM waits for this file before it ends, as if a client took long
"""

import json
import os
import selectors
import signal
import socket
import threading
import time
import zlib

NAMES = os.environ["LISTEN_FDNAMES"].split(":")
GENERATION = os.environ["RELAY_GENERATION"]


def take_sockets():
    assert int(os.environ["LISTEN_PID"]) == os.getpid(), "LISTEN_PID is not this process"
    assert len(NAMES) == int(os.environ["LISTEN_FDS"])
    return [socket.socket(fileno=3 + number) for number in range(len(NAMES))]


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
        link.sendall(text.encode())


def serve(link):
    with link:
        data = b""
        while b"\r\n\r\n" not in data:
            more = link.recv(65536)
            if not more:
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        path = lines[0].split()[1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)):
            body += link.recv(65536)
        if path == "/crash":
            os._exit(3)
        said = {"generation": int(GENERATION), "pid": os.getpid()}
        if path == "/sockets":
            said.update(names=NAMES, blocking=BLOCKING, open=OPEN)
        text = json.dumps(said)
        answer = (
            f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nX-Generation: {GENERATION}\r\nConnection: close\r\n"
            f"X-Request-Id: {headers.get('x-request-id', '')}\r\nX-Body-Length: {len(body)}\r\n"
            f"X-Body-Crc32: {zlib.crc32(body):08x}\r\n\r\n{text}"
        )
        link.sendall(answer.encode())


def wait_for_file(variable):
    while os.environ.get(variable) and not os.path.exists(os.environ[variable]):
        time.sleep(0.01)


# Listing them takes one for a moment.
OPEN = [fd for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")]
LISTENERS = take_sockets()
BLOCKING = [listener.getblocking() for listener in LISTENERS]
stop_read, stop_write = socket.socketpair()
signal.signal(signal.SIGTERM, lambda *_: stop_write.send(b"x"))
waiting = selectors.DefaultSelector()
waiting.register(stop_read, selectors.EVENT_READ)
for listener in LISTENERS:
    listener.setblocking(False)  # another process may take the client first
    waiting.register(listener, selectors.EVENT_READ)

wait_for_file("READY_WHEN")
notify("READY=1\nSTATUS=accepting")
threads = []
while True:
    ready = [key.fileobj for key, _ in waiting.select()]
    if stop_read in ready:
        break
    for listener in ready:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            continue
        client.setblocking(True)
        threads = [thread for thread in threads if thread.is_alive()]
        threads.append(threading.Thread(target=serve, args=(client,)))
        threads[-1].start()
for thread in threads:
    thread.join()
wait_for_file("EXIT_WHEN")
