"""`steering: on | auto`: servers that know nothing of it, to which the kernel takes new connections straight.

In network namespaces of the test's own, with the clients behind a cable. Without the privileges only the error and the
fallback are tested, and what is skipped says so.
"""

import os
import signal
import socket
import subprocess

import pytest

from harness import apps, http, namespaces, places, processes
from harness.load import Load, assert_nothing_lost
from harness.relayd import merge

ROLLOVERS = 100 if places.SOAK else 10
PORT = 8080
ADDRESS = f"{namespaces.HOST}:{PORT}"
WITHOUT_RIGHTS = [
    "setpriv",
    "--bounding-set=-bpf,-sys_admin,-net_admin,-perfmon",
    "--inh-caps=-bpf,-sys_admin,-net_admin,-perfmon",
]
HTTP = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as link:
    link.sendall(sys.argv[3].encode())
    while more := link.recv(65536):
        print(more.decode(), end="")
"""


LISTENS_ON_BOTH_FAMILIES = """
import os, socket, sys
public = socket.socket(socket.AF_INET6)
public.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
public.bind(("::", int(sys.argv[1])))
public.listen(4096)
os.dup2(public.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def network():
    with namespaces.made(namespaces.Pair(), "only the error and the fallback") as made:
        yield made


def steered(service, listen=(ADDRESS,), steering="on", **backend):
    return {**service, "listen": list(listen), "backend": {**service["backend"], "steering": steering, **backend}}


def start(relayd, network, service, **more):
    relayd.start({"web": steered(service, **more)}, prefix=network.host, threads=2)
    assert relayd.service()["steering"] == "steered", relayd.log()


def answer_to(network, request, address=ADDRESS):
    """All that one of the clients is answered, until the app closes."""
    host, _, port = address.rpartition(":")
    command = [*network.clients, places.PYTHON, "-c", ASK, host.strip("[]"), port, request]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def headers_from(network, address=ADDRESS):
    lines = answer_to(network, HTTP, address).splitlines()
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


class Inside:
    """Sockets of this process that live in a namespace of the test's: made there, used from here."""

    def __init__(self, name):
        self._there = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
        self._here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def connect(self, address=ADDRESS):
        set_namespace(self._there)
        try:
            link = socket.socket()
        finally:
            set_namespace(self._here)
        host, _, port = address.rpartition(":")
        link.settimeout(20)
        link.connect((host, int(port)))
        return link

    def close(self):
        os.close(self._there)
        os.close(self._here)


def set_namespace(descriptor):
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
def inside(network):
    clients = Inside(network.clients[-1])
    yield clients
    clients.close()


SERVERS = {
    "nginx": lambda folder: (apps.nginx(folder), ["--check", "length"]),
    "node": lambda folder: (apps.node(), []),
    "gunicorn": lambda folder: (apps.gunicorn(), []),
    "gunicorn with a passed socket": lambda folder: (apps.activated(apps.gunicorn_with_passed_sockets()), []),
    # It sees real clients, and by default trusts none but those of its own machine.
    "redis": lambda folder: (apps.redis("--protected-mode", "no"), ["--protocol", "redis"]),
}


# Nothing slows the clients down, and on a busy machine they leave an app little of the CPU to start with.
BOOTS_SLOWLY = {"health": {"ready_timeout": "60s"}, "hold": {"timeout": "60s"}}
PATIENT = ["--timeout", 50]


@pytest.mark.parametrize("server", SERVERS)
def test_rollovers_under_load_lose_nothing(relayd, network, server):
    service, options = SERVERS[server](relayd.folder)
    request = "PING\r\nQUIT\r\n" if server == "redis" else HTTP
    start(relayd, network, merge(service, BOOTS_SLOWLY))
    with Load(ADDRESS, clients=32, options=[*options, *PATIENT], prefix=network.clients) as load:
        for number in range(ROLLOVERS):
            assert answer_to(network, request)
            assert relayd.rollover("hot" if number % 2 else "phased", until="drained")["result"] == "done"
        assert answer_to(network, request)
        report = load.finish()
    assert_nothing_lost(report, at_least=500)
    if server != "redis":
        assert len(report["generations"]) == ROLLOVERS + 1
    service = relayd.service()
    assert service["steering"] == "steered"
    print(f"{server}: {report['answered']} answered, {service['accepted']} of them forwarded")
    assert service["accepted"] < report["answered"] / 2


def test_restarts_refuse_nobody(relayd, network):
    """nginx finishes what it has on QUIT, so that not even a restart loses what is under way."""
    start(relayd, network, apps.nginx(relayd.folder, rollover={"mode": "restart"}))
    with Load(ADDRESS, clients=32, options=["--check", "length"], prefix=network.clients) as load:
        for _ in range(ROLLOVERS):
            assert headers_from(network)
            assert relayd.rollover(until="drained")["result"] == "done"
        report = load.finish()
    assert_nothing_lost(report, at_least=500)


def test_several_instances_share_the_connections_of_two_services(relayd, network):
    other = f"{namespaces.HOST}:{PORT + 1}"
    services = {
        "web": steered(apps.nginx(relayd.folder), instances=1),
        "api": steered(apps.node(), listen=(other,), instances=2),
    }
    relayd.start(services, prefix=network.host)
    with Load(ADDRESS, clients=8, options=["--check", "length"], prefix=network.clients) as first:
        with Load(other, clients=8, prefix=network.clients) as second:
            for _ in range(3):
                for name in ("web", "api"):
                    assert relayd.ctl_json("rollover", name, "--until", "drained")["result"] == "done"
            assert_nothing_lost(second.finish(), at_least=200)
        assert_nothing_lost(first.finish(), at_least=200)


def test_the_app_sees_its_clients(relayd, network):
    start(relayd, network, apps.naming_its_client())
    assert headers_from(network)["x-client"].startswith(f"{namespaces.CLIENT}:")
    assert relayd.service()["accepted"] == 0


def test_a_family_that_the_app_does_not_listen_on_is_forwarded(relayd, network):
    six = f"[{namespaces.HOST_V6}]:{PORT}"
    start(relayd, network, apps.naming_its_client(), listen=(ADDRESS, six))
    assert headers_from(network, six)["x-client"].startswith("127.0.0.1:")
    assert relayd.service()["accepted"] == 1
    assert headers_from(network)["x-client"].startswith(f"{namespaces.CLIENT}:")


def test_an_ipv6_app_is_steered_to_by_both_families(relayd, network):
    command = [places.PYTHON, "-B", "-c", DUAL_STACK, "{port}"]
    six = f"[{namespaces.HOST_V6}]:{PORT}"
    start(relayd, network, apps.service(command), listen=(ADDRESS, six))
    assert headers_from(network)["x-client"] == f"::ffff:{namespaces.CLIENT}"
    assert headers_from(network, six)["x-client"] == namespaces.CLIENT_V6
    assert relayd.service()["accepted"] == 0


DUAL_STACK = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Client", self.client_address[0])
        self.send_header("Content-Length", "0")
        self.end_headers()
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
Server(("::", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_passed_socket_of_both_families_is_steered_for_both(relayd, network):
    service = steered(apps.naming_its_client(), listen=["fd:web"])
    relayd.start({"web": service}, prefix=[*network.host, places.PYTHON, "-c", LISTENS_ON_BOTH_FAMILIES, str(PORT)])
    assert relayd.service()["steering"] == "steered", relayd.log()
    assert headers_from(network)["x-client"].startswith(f"{namespaces.CLIENT}:")  # over IPv4


def test_a_kept_connection_is_seen_and_holds_up_the_drain(relayd, network, inside):
    start(relayd, network, apps.demo())
    with inside.connect() as link:
        http.ask(link, close=False)
        assert http.answer(link)[0] == 200
        relayd.wait_for(lambda s: s["steered"] == 1, "it is counted")
        listed = relayd.ctl_json("connections")
        assert [c["state"] for c in listed["connections"]] == ["steered"]
        assert listed["connections"][0]["client"].startswith(f"{namespaces.CLIENT}:")
        relayd.rollover("phased")
        draining = relayd.generation(1)
        assert draining["state"] == "draining" and draining["connections"] == 1
        http.ask(link)  # still with generation 1
        status, headers, _ = http.answer(link)
        assert status == 200 and headers["x-generation"] == "1"
    relayd.wait_event("drained", generation=1)
    relayd.wait_event("generation_stopped", generation=1)


def test_graceful_timeout_ends_the_drain(relayd, network, inside):
    start(relayd, network, apps.demo(rollover={"graceful_timeout": "300ms"}))
    with inside.connect() as link:
        http.ask(link, close=False)
        assert http.answer(link)[0] == 200
        relayd.rollover("phased")
        relayd.wait_event("cut", generation=1)
        relayd.wait_event("generation_stopped", generation=1)


def test_paused_clients_are_held_and_forwarded(relayd, network, inside):
    start(relayd, network, apps.demo())
    relayd.ctl("pause")
    assert relayd.service()["steering"] == "held"
    links = [inside.connect() for _ in range(3)]
    for link in links:
        http.ask(link)
    relayd.wait_for(lambda s: s["held"] == 3, "they are held")
    relayd.ctl("resume")
    for link in links:
        with link:
            assert http.answer(link)[0] == 200
    assert relayd.service()["accepted"] == 3
    assert headers_from(network)["x-generation"] == "2"
    assert relayd.service()["accepted"] == 3  # past relayd again


def leave_in_the_queue(relayd, inside, number):
    """Clients of an instance that has been killed before it accepted them."""
    (pid,) = relayd.instance_pids()
    os.kill(pid, signal.SIGSTOP)
    links = [inside.connect() for _ in range(number)]
    for link in links:
        http.ask(link)
    os.kill(pid, signal.SIGKILL)
    return links


def assert_answered(links, generation):
    for link in links:
        with link:
            status, headers, _ = http.answer(link)
            assert status == 200 and headers["x-generation"] == str(generation)


def test_a_crash_loses_nobody_in_the_queue(relayd, network, inside):
    start(relayd, network, apps.demo(health={"interval": "0s"}))
    assert_answered(leave_in_the_queue(relayd, inside, 5), generation=1)
    assert relayd.service()["accepted"] == 5
    relayd.wait_for(lambda s: s["steering"] == "steered", "the new process is steered to")


def test_the_queue_of_a_passed_socket_outlives_a_crash(relayd, network, inside):
    """As without steering: the next process gets the same socket, with whoever waits in its queue."""
    start(relayd, network, apps.activated(apps.passed(health={"interval": "0s"})))
    assert_answered(leave_in_the_queue(relayd, inside, 5), generation=1)
    assert relayd.service()["accepted"] == 0
    relayd.wait_for(lambda s: s["steering"] == "steered", "the new process is steered to")
    assert headers_from(network)["x-generation"] == "1"


@pytest.mark.parametrize("mode", ["phased", "hot", "restart"])
def test_the_queue_of_a_passed_socket_that_nobody_takes_again_is_forwarded(relayd, network, inside, mode):
    delay = {"restart_delay": {"min": "1h", "max": "1h"}}
    start(relayd, network, apps.activated(apps.passed(health={"interval": "0s"}, backend=delay)))
    links = leave_in_the_queue(relayd, inside, 5)
    relayd.wait_event("instance_restarting", generation=1)
    assert relayd.rollover(mode)["result"] == "done"
    assert_answered(links, generation=2)
    assert relayd.service()["accepted"] == 5
    relayd.wait_for(lambda s: s["steering"] == "steered", "the new generation is steered to")


def test_a_listener_that_its_app_closes_is_noticed(relayd, network, inside):
    """The app goes on living, deaf: clients in its queue are held until an instance serves again."""
    start(relayd, network, apps.service([places.PYTHON, "-B", "-c", CLOSES_ITS_LISTENER, "{port}"], health={"interval": "100ms"}))
    os.kill(relayd.instance_pids()[0], signal.SIGUSR1)
    relayd.wait_event("not_steered")
    with inside.connect() as link:
        http.ask(link)
        relayd.wait_for(lambda s: s["held"] >= 1, "it is held")  # and checks that came into the queue
        assert relayd.rollover("phased")["result"] == "done"
        assert http.answer(link)[0] == 200
    assert relayd.service()["steering"] == "steered"


CLOSES_ITS_LISTENER = """
import http.server, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
signal.signal(signal.SIGUSR1, lambda *_: (server.shutdown(), server.socket.close()))
while True:
    signal.pause()
"""


def test_steering_is_turned_on_and_off_by_rollovers(relayd, network):
    relayd.start({"web": steered(apps.naming_its_client(), steering="off")}, prefix=network.host)
    assert headers_from(network)["x-client"].startswith("127.0.0.1:")
    for steering, client in (("auto", namespaces.CLIENT), ("off", "127.0.0.1"), ("on", namespaces.CLIENT)):
        relayd.change(backend={"steering": steering})
        assert relayd.rollover()["result"] == "done"
        assert headers_from(network)["x-client"].startswith(f"{client}:")


def test_a_reload_changes_the_addresses(relayd, network):
    other = f"{namespaces.HOST}:{PORT + 1}"
    start(relayd, network, apps.naming_its_client())
    relayd.config["services"]["web"]["listen"] = [other]
    relayd.change()
    relayd.ctl("reload")
    assert headers_from(network, other)["x-client"].startswith(f"{namespaces.CLIENT}:")
    with pytest.raises(subprocess.CalledProcessError):
        headers_from(network)


def test_a_stop_refuses_new_clients_and_finishes_old_ones(relayd, network, inside):
    start(relayd, network, apps.demo())
    with inside.connect() as link:
        http.ask(link, close=False)
        assert http.answer(link)[0] == 200
        relayd.send(signal.SIGTERM)
        relayd.wait_event("draining", generation=1)
        with pytest.raises(ConnectionRefusedError):
            for _ in range(50):  # those that come while the listeners close are served
                with inside.connect() as late:
                    http.ask(late)
                    http.answer(late)
        http.ask(link)
        assert http.answer(link)[0] == 200
    assert relayd.wait_end() == 0


def test_a_stop_awaits_what_was_steered(relayd, network, inside):
    start(relayd, network, apps.demo(), stop_signal="KILL")  # an app that does not drain itself
    with inside.connect() as link:
        http.ask(link, "/slow?ms=1500")
        relayd.wait_for(lambda s: s["steered"] == 1, "it is counted")
        relayd.send(signal.SIGTERM)
        relayd.wait_event("draining", generation=1)
        assert http.answer(link)[0] == 200
    assert relayd.wait_end() == 0


def test_what_came_through_a_former_address_holds_up_the_drain(relayd, network, inside):
    start(relayd, network, apps.demo())
    with inside.connect() as link:
        http.ask(link, close=False)
        assert http.answer(link)[0] == 200
        relayd.config["services"]["web"]["listen"] = [f"{namespaces.HOST}:{PORT + 1}"]
        relayd.change()
        relayd.ctl("reload")
        relayd.rollover("phased")
        assert relayd.generation(1)["connections"] == 1
        http.ask(link)
        assert http.answer(link)[1]["x-generation"] == "1"
    relayd.wait_event("generation_stopped", generation=1)


def test_a_killed_relayd_leaves_nothing_behind(relayd, network, inside):
    start(relayd, network, apps.demo())
    relayd.process.kill()
    relayd.process.wait(10)
    processes.wait_until(lambda: not processes.marked(relayd.mark), "its app has ended too", 10)
    with pytest.raises(ConnectionRefusedError):
        inside.connect()


def test_without_the_rights_on_is_an_error(relayd, is_root):
    relayd.write_config({"web": steered(apps.demo(), listen=("127.0.0.1:0",))})
    command = [*(WITHOUT_RIGHTS if is_root else []), places.program("relayd"), "--config", str(relayd.config_file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert ended.returncode == 3, ended.stderr
    assert "service web has 'steering: on': steering is not possible here: relayd lacks CAP_BPF" in ended.stderr
    assert "CAP_NET_ADMIN" in ended.stderr
    assert "'steering: auto' forwards instead" in ended.stderr


def test_without_the_rights_auto_forwards_and_says_so(relayd, is_root):
    service = steered(apps.demo(), listen=(f"127.0.0.1:{places.free_port()}",), steering="auto")
    relayd.start({"web": service}, prefix=WITHOUT_RIGHTS if is_root else [])
    with Load(relayd.address, clients=8) as load:
        for _ in range(3):
            assert relayd.rollover(until="drained")["result"] == "done"
        assert_nothing_lost(load.finish(), at_least=100)
    assert relayd.service()["steering"].startswith("forwarded: steering is not possible here: relayd lacks CAP_BPF")
    assert relayd.service()["accepted"] > 100
    assert "forwarded: steering is not possible here" in relayd.ctl("status", "web").stdout
    relayd.wait_event("not_steered")
