"""`transparent: true`: the app sees the client's own address, in network namespaces of the test's own."""

import subprocess

import pytest

from harness import apps, namespaces, places
from harness.load import Load, assert_nothing_lost

ROLLOVERS = 200 if places.SOAK else 10
PORT = 8080
# As in configs/transparent.yaml: what an app on loopback answers to a foreign address comes back to relayd.
RECIPE = [
    ["rule", "add", "from", "127.0.0.0/8", "iif", "lo", "table", "123"],
    ["route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "123"],
]
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"]


@pytest.fixture
def network():
    with namespaces.made(namespaces.Pair()) as made:
        yield made


def start(relayd, network, service, listen=(f"{namespaces.HOST}:{PORT}",), **top):
    relayd.start({"web": {**service, "listen": list(listen), "transparent": True}}, prefix=network.host, **top)


ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as link:
    link.sendall(sys.argv[3].encode() + b"GET / HTTP/1.1\\r\\nHost: test\\r\\nConnection: close\\r\\n\\r\\n")
    while more := link.recv(65536):
        print(more.decode(), end="")
"""


def seen_from(network, address, header=""):
    """X-Client of the answer to a client in the other namespace, which sends `header` first."""
    host, _, port = address.rpartition(":")
    command = [*network.clients, places.PYTHON, "-c", ASK, host.strip("[]"), port, header]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    return next(line.partition(": ")[2] for line in answer.splitlines() if line.startswith("X-Client: "))


@pytest.mark.parametrize("app", ["python", "nginx"])
def test_rollovers_under_load_while_the_app_sees_its_clients(relayd, network, app):
    for words in RECIPE:
        network.on_host(*words)
    python = app == "python"
    start(relayd, network, apps.naming_its_client() if python else apps.nginx(relayd.folder), threads=2)
    check = ["--check-client", "address", *([] if python else ["--check", "length"])]
    with Load(relayd.address, clients=16, options=check, prefix=network.clients) as load:
        relayd.wait_for(lambda s: s["accepted"] > 200, "clients are being served")
        for number in range(ROLLOVERS):
            assert relayd.rollover("hot" if number % 2 else "phased", until="drained")["result"] == "done"
            before = relayd.service()["accepted"]
            relayd.wait_for(lambda s: s["accepted"] > before + 100, "the new generation serves")
        report = load.finish()
    assert_nothing_lost(report, at_least=1000)
    assert len(report["generations"]) == ROLLOVERS + 1
    assert "transparent:" not in relayd.log()


def test_with_a_balancer_in_front_it_is_the_client_that_the_header_names(relayd, network):
    for words in RECIPE:
        network.on_host(*words)
    start(relayd, network, apps.naming_its_client(proxy_protocol={"accept": True}))
    seen = seen_from(network, relayd.address, "PROXY TCP4 198.51.100.9 203.0.113.1 4711 80\r\n")
    assert seen.startswith("198.51.100.9:")
    with Load(relayd.address, clients=4, options=["--proxy-protocol", "v2", "--count", "200"], prefix=network.clients) as load:
        assert_nothing_lost(load.wait(), at_least=200)


def test_an_ipv6_client_of_an_ipv4_app_comes_from_relayd_itself(relayd, network):
    for words in RECIPE:
        network.on_host(*words)
    addresses = [f"{namespaces.HOST}:{PORT}", f"[{namespaces.HOST_V6}]:{PORT}"]
    start(relayd, network, apps.naming_its_client(), addresses)
    assert seen_from(network, addresses[1]).startswith("127.0.0.1:")
    assert "not of one address family" in relayd.log()
    assert seen_from(network, addresses[0]).startswith(f"{namespaces.CLIENT}:")


def test_without_the_recipe_clients_wait_and_the_log_says_so(relayd, network):
    """The app's answers then leave for the clients' own network, where nobody knows the connection."""
    start(relayd, network, apps.naming_its_client(limits={"connect_timeout": "200ms"}))
    with Load(relayd.address, clients=1, options=["--count", "1"], prefix=network.clients) as load:
        relayd.wait_for(lambda s: s["connect_failures"] > 0, "no connect succeeds")
        for words in RECIPE:
            network.on_host(*words)
        assert_nothing_lost(load.wait(), at_least=1)


def test_without_the_right_it_is_an_error_of_the_configuration(relayd, is_root):
    services = {"web": {**apps.naming_its_client(), "listen": ["127.0.0.1:0"], "transparent": True}}
    relayd.write_config(services)
    command = [*(WITHOUT_RIGHTS if is_root else []), places.program("relayd"), "--config", str(relayd.config_file)]
    for words, status in (([*command, "--check"], 1), (command, 2)):
        ended = subprocess.run(words, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        assert ended.returncode == status, ended.stderr
        assert "relayd may not connect from foreign addresses" in ended.stderr
        assert "CAP_NET_ADMIN" in ended.stderr
