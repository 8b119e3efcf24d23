"""When a generation counts as ready, by each kind of check."""

import threading

import pytest

from harness import apps, http, places, processes
from harness.load import Load, assert_nothing_lost

NOTIFY = """
import http.server, os, socket, time
address = (os.environ["HOST"], int(os.environ["PORT"]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
server = http.server.HTTPServer(address, Handler)
go = os.environ.get("GO")
while go and not os.path.exists(go):
    time.sleep(0.01)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
    path = os.environ["NOTIFY_SOCKET"]
    link.connect("\\0" + path[1:] if path.startswith("@") else path)
    link.send(b"STATUS=warm\\nREADY=1\\n")
server.serve_forever()
"""


def notifying(**more):
    return apps.service([places.PYTHON, "-c", NOTIFY], path=None, **more)


def test_notify_waits_for_ready_1_not_for_the_port(relayd):
    go = relayd.folder / "go"
    relayd.start({"web": notifying(health={"check": "notify"})})
    assert relayd.service()["generations"][0]["instances"][0]["note"] == "warm"
    rollover = relayd.begin_rollover("--env", f"GO={go}")
    relayd.wait_event("generation_starting", generation=2)
    with pytest.raises(AssertionError):  # it listens, but has not said so
        relayd.wait_event("generation_ready", generation=2, seconds=1)
    go.touch()
    relayd.wait_event("generation_ready", generation=2)
    assert rollover.wait(30) == 0
    rollover.communicate()


def test_auto_takes_ready_1_or_a_connect(relayd):
    relayd.start({"web": notifying(health={"check": "auto"})})
    assert http.get(relayd.address)[0] == 200


def test_command(relayd):
    """Ready once the command exits with 0; what it says last is the reason of a failure."""
    flag = relayd.folder / "flag"
    flag.touch()
    script = f'test -e {flag} || (echo "no flag for $0" >&2; exit 1)'
    health = {"check": "command", "command": ["/bin/sh", "-c", script, "{address}"], "ready_timeout": "1500ms"}
    relayd.start({"web": apps.demo(path=None, health=health)})
    flag.unlink()
    failed = relayd.rollover(expect=1)
    assert "no flag for 127.0.0.1:" in failed["reason"], failed
    flag.touch()
    assert relayd.rollover()["result"] == "done"


def test_tcp_and_none(relayd):
    services = {"web": apps.demo(path=None, health={"check": "tcp"}), "idle": apps.service(["sleep", "1000"], path=None)}
    services["idle"]["health"]["check"] = "none"
    relayd.start(services)
    for name in services:
        assert relayd.ctl_json("rollover", name)["to"] == 2


def test_an_instance_that_fails_its_checks_gets_no_new_clients(relayd):
    """Two instances; one begins to answer its check with an error, and is well again later."""
    flag = relayd.folder / "unwell"
    script = f'test "$1" = 0 && test -e {flag} && exit 1; exit 0'
    health = {"check": "command", "command": ["/bin/sh", "-c", script, "check", "{instance}"], "interval": "100ms"}
    relayd.start({"web": apps.demo(path=None, health=health, backend={"instances": 2})})
    with Load(relayd.address, clients=4, options=["--think", "2"]) as load:
        flag.touch()
        relayd.wait_event("instance_unhealthy", instance=0)
        # The event is told as the workers are; they follow within a moment.
        processes.wait_until(lambda: {http.get_json(relayd.address)["instance"] for _ in range(20)} == {1}, "only the other")
        flag.unlink()
        relayd.wait_event("instance_healthy", instance=0)
        processes.wait_until(lambda: {http.get_json(relayd.address)["instance"] for _ in range(20)} == {0, 1}, "both")
        report = load.finish()
    assert_nothing_lost(report)


def test_at_once_lets_the_app_drain_itself(relayd):
    """stop: at_once sends the stop signal when the drain begins; the app finishes what it has."""
    relayd.start({"web": apps.demo(backend={"stop": "at_once"})})
    answers = []

    def ask_slowly():
        answers.append(http.get(relayd.address, "/slow?ms=1500"))

    client = threading.Thread(target=ask_slowly)
    client.start()
    relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
    relayd.rollover()
    old = relayd.generation(1)
    assert (old["state"], old["instances"][0]["state"], old["connections"]) == ("draining", "stopping", 1)
    client.join(20)
    assert answers[0][0] == 200 and answers[0][1]["x-generation"] == "1"
    relayd.wait_event("generation_stopped", generation=1)
