"""The control socket: JSON-RPC 2.0, one message a line."""

import contextlib
import json
import socket
import threading


class ControlError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('message')} ({error.get('code')})")
        self.code = error.get("code")


def call(path, method, seconds=20, **params):
    """One request on a connection of its own."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(seconds)
        link.connect(path)
        link.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        with link.makefile("rb") as lines:
            line = lines.readline()
    if not line:
        raise ConnectionError("relayd closed the control connection without an answer")
    answer = json.loads(line)
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer["result"]


class Events:
    """Everything that relayd has reported since its start, gathered by a thread until relayd ends the connection."""

    def __init__(self, path):
        self._link = socket.socket(socket.AF_UNIX)
        self._link.connect(path)
        request = {"jsonrpc": "2.0", "id": 1, "method": "events.subscribe", "params": {"since": 0}}
        self._link.sendall(json.dumps(request).encode() + b"\n")
        self._all = []
        self._more = threading.Condition()
        self.ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with contextlib.suppress(OSError, ValueError), self._link.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if message.get("method") == "event":
                    with self._more:
                        self._all.append(message["params"])
                        self._more.notify_all()
        self.ended = True

    def all(self):
        with self._more:
            return list(self._all)

    def wait_for_more(self, known, seconds):
        """Until there are more than `known`, at most for `seconds`."""
        with self._more:
            self._more.wait_for(lambda: len(self._all) > known, seconds)

    def close(self):
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()
        self._thread.join(5)
