"""The PROXY protocol on both sides of relayd: real senders, real receivers, and those who send something else."""

import contextlib
import socket
import struct

import pytest

from harness import apps, haproxy, http, places, processes
from harness.load import Load, assert_nothing_lost
from harness.relayd import all_ready

ROLLOVERS = 200 if places.SOAK else 10
VERSIONS = ["v1", "v2"]
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CURE = "whoever connects here must send one (proxy_protocol.accept"
needs_haproxy = pytest.mark.skipif(haproxy.program() is None, reason="needs haproxy")


def header(version, client="192.0.2.7", port=4711, to="203.0.113.1"):
    """As a load balancer sends it; IPv6 where `client` is."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    if version == "v1":
        return f"PROXY TCP{'6' if ':' in client else '4'} {client} {to} {port} 80\r\n".encode()
    addresses = socket.inet_pton(family, client) + socket.inet_pton(family, to) + struct.pack("!HH", port, 80)
    return v2(0x21, 0x21 if ":" in client else 0x11, addresses)


def v2(command, family, rest):
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def service(send="off", accept=True, **more):
    """The app that says whom it takes for its client."""
    received = "none" if send == "off" else send
    return apps.naming_its_client(received, proxy_protocol={"accept": accept, "send": send}, **more)


def nginx(relayd, send, **more):
    return apps.nginx(relayd.folder, "proxy_protocol", proxy_protocol={"accept": True, "send": send}, **more)


def ask(address, first, path="/"):
    """The headers of the answer to a client that sends `first` and then its request."""
    with http.connect(address) as link:
        link.sendall(first)
        http.ask(link, path)
        status, headers, _ = http.answer(link)
        assert status == 200
        return headers


def is_refused(address, first, half_close=False):
    """Whether a client that sends this gets nothing and is closed, by FIN or RST."""
    with http.connect(address) as link:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            link.sendall(first)
            if half_close:
                link.shutdown(socket.SHUT_WR)
            return link.recv(1) == b""
        return True


def refused(relayd):
    return relayd.service()["proxy_refused"]


# ---- who the client is


@pytest.mark.parametrize("send", VERSIONS)
@pytest.mark.parametrize("came", VERSIONS)
def test_the_app_is_told_the_client_that_the_header_named(relayd, came, send):
    relayd.start({"web": service(send)})
    answer = ask(relayd.address, header(came))
    assert (answer["x-client"], answer["x-destination"]) == ("192.0.2.7:4711", "203.0.113.1:80")
    answer = ask(relayd.address, header(came, "2001:db8::7", 65535, "2001:db8::1"))
    assert (answer["x-client"], answer["x-destination"]) == ("2001:db8::7:65535", "2001:db8::1:80")
    # A health check of the balancer's own names nobody: then the connection's own addresses hold.
    nobody = b"PROXY UNKNOWN\r\n" if came == "v1" else v2(0x20, 0, b"")
    assert ask(relayd.address, nobody)["x-client"].startswith("127.0.0.1:")
    assert refused(relayd) == 0


@pytest.mark.parametrize("send", VERSIONS)
def test_without_a_balancer_the_app_is_told_who_connected(relayd, send):
    relayd.start({"web": service(send, accept=False)})
    with http.connect(relayd.address) as link:
        http.ask(link)
        headers = http.answer(link)[1]
        assert headers["x-client"] == "%s:%d" % link.getsockname()
        assert headers["x-destination"] == relayd.address


def test_over_a_unix_socket_too(relayd):
    relayd.start({"web": service("v2", backend={"address": "socket"})})
    assert ask(relayd.address, header("v1"))["x-client"] == "192.0.2.7:4711"


@pytest.mark.parametrize("send", VERSIONS)
def test_nginx_is_told_too_and_passes_its_health_check(relayd, send):
    relayd.start({"web": nginx(relayd, send)})
    assert ask(relayd.address, header("v2"))["x-client"] == "192.0.2.7:4711"
    assert ask(relayd.address, header("v1", "2001:db8::7", to="2001:db8::1"))["x-client"] == "2001:db8::7:4711"
    assert relayd.rollover(until="drained")["result"] == "done"


def test_nginx_that_wants_headers_fails_the_health_check_without(relayd):
    relayd.start({"web": nginx(relayd, "off", health={"ready_timeout": "1s"})}, wait=False)
    assert relayd.wait_end() == 3
    relayd.process = None


def test_relayctl_lists_the_client_that_the_header_named(relayd):
    relayd.start({"web": service()})
    with http.connect(relayd.address) as link:
        link.sendall(header("v2"))
        http.ask(link, close=False)
        http.answer(link)
        (entry,) = relayd.ctl_json("connections")["connections"]
        assert entry["client"] == "192.0.2.7:4711"
        with http.connect(relayd.address) as silent:
            relayd.wait_for(lambda s: s["active"] == 2, "the silent one is connected too")
            entries = relayd.ctl_json("connections")["connections"]
            (greeting,) = [each for each in entries if each["state"] == "greeting"]
            assert greeting["client"] == "%s:%d" % silent.getsockname()


# ---- rollovers under load


def roll_over(relayd, load):
    """Phased and hot in turn; every answer names its own client."""
    relayd.wait_for(lambda s: s["accepted"] > 200, "clients are being served")
    for number in range(ROLLOVERS):
        assert relayd.rollover("hot" if number % 2 else "phased", until="drained")["result"] == "done"
        before = relayd.service()["accepted"]
        relayd.wait_for(lambda s: s["accepted"] > before + 100, "the new generation serves")
    report = load.finish()
    assert_nothing_lost(report, at_least=1000)
    assert len(report["generations"]) == ROLLOVERS + 1
    assert refused(relayd) == 0


@pytest.mark.parametrize(("came", "send"), [("v1", "v2"), ("v2", "v1")])
def test_rollovers_under_load(relayd, came, send):
    relayd.start({"web": service(send)}, threads=2)
    with Load(relayd.address, clients=16, options=["--proxy-protocol", came, "--check-client", "port"]) as load:
        roll_over(relayd, load)


def test_rollovers_of_nginx_under_load(relayd):
    relayd.start({"web": nginx(relayd, "v2")}, threads=2)
    options = ["--proxy-protocol", "v2", "--check-client", "port", "--check", "length"]
    with Load(relayd.address, clients=16, options=options) as load:
        roll_over(relayd, load)


@needs_haproxy
@pytest.mark.parametrize(("sending", "send"), [("send-proxy", "v1"), ("send-proxy-v2", "v2")])
def test_rollovers_behind_haproxy(relayd, sending, send):
    relayd.start({"web": service(send)}, threads=2)
    with haproxy.in_front_of(relayd.address, sending) as address:
        with Load(address, clients=16, options=["--check-client", "port"]) as load:
            roll_over(relayd, load)


# ---- those who send something else


@contextlib.contextmanager
def others_served(relayd):
    """Clients who do as they should, meanwhile: none of them may notice anything."""
    with Load(relayd.address, clients=8, options=["--proxy-protocol", "v2", "--check-client", "port", "--think", "2"]) as load:
        relayd.wait_for(lambda s: s["accepted"] > 50, "clients are being served")
        yield
        assert_nothing_lost(load.finish(), at_least=50)


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(189)
TOO_LONG = v2(0x21, 0x11, bytes(5000))
MALFORMED = {
    "a request without a header": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "first bytes are 'GET / HTTP/1.1"),
    "a TLS hello": (TLS_HELLO, "first bytes are '\\x16\\x03\\x01"),
    "v1: no such port": (b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 99999\r\n", "port '99999'"),
    "v1: not the family": (b"PROXY TCP4 2001:db8::7 203.0.113.1 4711 80\r\n", "in its addresses"),
    "v1: LF alone": (b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 80\n", "it must end in CR LF"),
    "v1: no end": (b"PROXY UNKNOWN " + b"x" * 200, "no line end within 107 bytes"),
    "v2: UDP": (v2(0x21, 0x12, bytes(12)), "only streams are taken"),
    "v2: shorter than its addresses": (v2(0x21, 0x11, bytes(8)), "its addresses take 12 bytes"),
    "v2: too long": (TOO_LONG, "at most 4096 are taken"),
    "v2: version 3": (v2(0x31, 0x11, bytes(12)), "its version is 3"),
    "v2: a wrong checksum": (v2(0x21, 0x11, bytes(12) + b"\x03\x00\x04oops"), "its checksum is wrong"),
}


def test_malformed_headers_are_refused_counted_and_told(relayd):
    relayd.start({"web": service("v2")}, threads=1)
    sent = 0

    def refused_and_told(first, words):
        nonlocal sent
        sent += 1
        assert is_refused(relayd.address, first)
        return words in relayd.log()

    with others_served(relayd):
        for name, (first, words) in MALFORMED.items():
            # The log takes one such line a second: sent again until it is this one's turn.
            processes.wait_until(lambda: refused_and_told(first, words), f"{name}: the log says {words!r}")
    assert CURE in relayd.log()
    relayd.wait_for(lambda s: s["proxy_refused"] == sent, f"{sent} are counted")
    assert f"{sent} clients refused for want of a valid PROXY header" in relayd.ctl("status", "web").stdout
    assert "client_app refuses" not in relayd.log(), "the app saw only good headers"


def test_half_a_header(relayd):
    """Whoever ends within the header is refused; whoever only says nothing more, after 10 s. Nobody else waits for it."""
    relayd.start({"web": service("v1")}, threads=1)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(http.connect(relayd.address, seconds=40)) for _ in range(3)]
        for link, first in zip(silent, (b"", b"PROXY TCP4 192.0", SIGNATURE + b"\x21")):
            link.sendall(first)
        with others_served(relayd):
            for first in (b"PROXY TCP4 192.0", header("v1")[:-1], header("v2")[:-1]):
                assert is_refused(relayd.address, first, half_close=True)
            relayd.wait_for(lambda s: s["proxy_refused"] == 3, "those that ended are counted")
            for link in silent:
                with contextlib.suppress(ConnectionResetError):
                    assert link.recv(1) == b""
        relayd.wait_for(lambda s: s["proxy_refused"] == 6, "those that were silent are counted")
    assert "no PROXY header came within 10 s; " + CURE in relayd.log()


def test_a_header_in_pieces_or_with_the_request_behind_it(relayd):
    relayd.start({"web": service("v2")}, threads=1)
    with others_served(relayd):
        for version in VERSIONS:
            with http.connect(relayd.address) as link:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in header(version):
                    link.sendall(bytes([byte]))
                http.ask(link)
                assert http.answer(link)[1]["x-client"] == "192.0.2.7:4711"
            with http.connect(relayd.address) as link:
                link.sendall(header(version) + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert http.answer(link)[1]["x-client"] == "192.0.2.7:4711"
    assert refused(relayd) == 0


def test_the_longest_header_that_is_taken(relayd):
    relayd.start({"web": service("v2")})
    addresses = header("v2")[16:]
    filling = 4096 - 16 - len(addresses) - 3
    longest = v2(0x21, 0x11, addresses + struct.pack("!BH", 0x04, filling) + bytes(filling))
    assert ask(relayd.address, longest)["x-client"] == "192.0.2.7:4711"


def test_whoever_goes_without_a_word_is_not_counted(relayd):
    """So do the TCP checks of load balancers."""
    relayd.start({"web": service("v2")}, threads=1)
    with others_served(relayd):
        before = relayd.service()["accepted"]
        for number in range(50):
            with http.connect(relayd.address) as link:
                if number % 2:  # by RST
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        relayd.wait_for(lambda s: s["accepted"] >= before + 50, "they were accepted")
    relayd.wait_for(lambda s: s["active"] == 0, "they are gone")
    assert refused(relayd) == 0


def test_a_client_held_after_its_header_keeps_its_name(relayd):
    relayd.start({"web": service("v2")}, threads=1)
    relayd.ctl("pause")
    with http.connect(relayd.address) as late, http.connect(relayd.address) as held:
        held.sendall(header("v1"))
        http.ask(held)
        relayd.wait_for(lambda s: s["held"] == 1, "it is held; the one without a header is not")
        late.sendall(header("v2", "192.0.2.8"))
        http.ask(late)
        relayd.wait_for(lambda s: s["held"] == 2, "now both are")
        relayd.ctl("resume")
        assert [http.answer(link)[1]["x-client"] for link in (held, late)] == ["192.0.2.7:4711", "192.0.2.8:4711"]


def test_a_silent_client_does_not_keep_relayd_from_stopping(relayd):
    relayd.start({"web": service("v2")})
    with http.connect(relayd.address) as silent:
        silent.sendall(b"PROXY TCP4 ")
        relayd.wait_for(lambda s: s["active"] == 1, "it is connected")
        relayd.stop()


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_a_reload_that_changes_what_is_sent_loses_nothing(relayd, mode):
    """Each generation gets the headers that it was started for, from its first connection to its last."""
    relayd.start({"web": service("off", rollover={"mode": mode})}, threads=2)
    with Load(relayd.address, clients=16, options=["--proxy-protocol", "v2"]) as load:
        for send in ("v2", "v1", "off", "v1"):
            before = relayd.service()["accepted"]
            relayd.wait_for(lambda s: s["accepted"] > before + 100, "clients are being served")
            command = service(send)["backend"]["command"]
            relayd.change(proxy_protocol={"send": send}, backend={"command": command})
            assert relayd.ctl_json("reload")["rolled_over"] == ["web"]
        report = load.finish()
    assert_nothing_lost(report, at_least=400)
    assert "client_app refuses" not in relayd.log()


def test_a_failed_rollover_leaves_the_old_generation_its_headers(relayd):
    relayd.start({"web": service("v1", accept=False)})
    relayd.change(proxy_protocol={"send": "v2"}, backend={"command": ["/bin/false"]})
    relayd.ctl("reload", expect=None)
    answer = ask(relayd.address, b"")
    assert (answer["x-generation"], answer["x-client"].partition(":")[0]) == ("1", "127.0.0.1")
    # An instance of it that is started again gets them too.
    (pid,) = relayd.instance_pids()
    processes.kill(pid)
    relayd.wait_for(lambda s: relayd.instance_pids() not in ([], [pid]) and all_ready(s), "it is back")
    assert ask(relayd.address, b"")["x-client"].startswith("127.0.0.1:")


def test_what_is_accepted_changes_without_a_rollover(relayd):
    relayd.start({"web": service("v1", accept=False)})
    relayd.change(proxy_protocol={"accept": True})
    result = relayd.ctl_json("reload")
    assert (result["rolled_over"], result["adjusted"]) == ([], ["web"])
    processes.wait_until(lambda: is_refused(relayd.address, b"GET / HTTP/1.1\r\n\r\n"), "headers are required")
    assert ask(relayd.address, header("v2"))["x-client"] == "192.0.2.7:4711"
