"""Sockets handed over: relayd's own to an instance (address: activation), and systemd's to relayd (listen: fd:NAME)."""

import os
import pathlib
import signal
import socket

import pytest

from harness import apps, http, places, processes
from harness.load import KINDS, Load, assert_nothing_lost, describe
from harness.relayd import all_ready

TIMES = 10 if places.SOAK else 3
APPS = {"gunicorn": apps.gunicorn_with_passed_sockets, "node": apps.node, "systemd-style": apps.passed}
BY_DEFINITION = {"reset", "truncated", "closed_early"}
# While no relayd runs nobody accepts, and clients wait for as long as a busy machine takes to start one.
PATIENT = ["--timeout", 50]


def activated(name="systemd-style", **more):
    return {"web": apps.activated(APPS[name](), **more)}


# ---- activation


@pytest.mark.parametrize("mode", ["phased", "hot", "restart"])
@pytest.mark.parametrize("app", APPS)
def test_nothing_is_lost(relayd, app, mode):
    relayd.start(activated(app))
    with Load(relayd.address, clients=32, options=["--post", 30]) as load:
        relayd.wait_for(lambda service: service["accepted"] > 100, "clients are being served")
        for number in range(1, TIMES + 1):
            result = relayd.rollover(mode, until="drained")
            assert (result["result"], result["from"], result["to"]) == ("done", number, number + 1), result
            before = relayd.service()["accepted"]
            relayd.wait_for(lambda service: service["accepted"] > before + 50, "the new one serves")  # noqa: B023
        report = load.finish()
    if mode == "restart":
        # What the old one was cut from, and a 502 where a request was on its way and may not be sent twice.
        assert {kind for kind in KINDS if report["losses"][kind]} <= BY_DEFINITION | {"bad_status"}, describe(report)
        assert report["lost"] <= 32 * TIMES and report["losses"]["refused"] == 0, describe(report)
    else:
        assert_nothing_lost(report, at_least=100)
    assert set(report["generations"]) == {str(number) for number in range(1, TIMES + 2)}, report


def test_what_the_app_is_told(relayd):
    relayd.start(activated())
    said = http.get_json(relayd.address, "/sockets")
    assert said["names"] == ["web"] and said["blocking"] == [True]


def test_ready_only_when_the_app_accepts(relayd):
    """A connect always succeeds here. This app never says READY=1, and accepts only once a file exists."""
    accept = relayd.folder / "accept"
    script = (
        "import os, socket, time\n"
        "listener = socket.socket(fileno=3)\n"
        f"while not os.path.exists({str(accept)!r}): time.sleep(0.01)\n"
        "while True:\n"
        "    link, _ = listener.accept()\n"
        "    if link.recv(100): link.sendall(b'HTTP/1.1 204 No Content\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "    link.close()\n"
    )
    app = apps.service([places.PYTHON, "-c", script], path=None, backend={"address": "activation"})
    relayd.start({"web": app}, wait=False)
    relayd.wait_for(lambda service: service["generations"], "the app is being started")
    with http.connect(relayd.address) as held:
        http.ask(held)
        relayd.wait_for(lambda service: service["held"] == 1, "the client is held: the app is not ready")
        accept.touch()
        assert http.answer(held)[0] == 204
    relayd.wait_for(all_ready, "it is ready")
    relayd.pid = relayd.process.pid


def test_clients_in_the_queue_of_an_instance_outlive_its_crash(relayd):
    """Their requests have been sent, and nobody may send them again: only the queue can save them."""
    services = activated(protocol="tcp", backend={"restart_delay": {"min": "10ms", "max": "100ms"}})
    relayd.start(services)
    (pid,) = relayd.instance_pids()
    os.kill(pid, signal.SIGSTOP)
    clients = [http.connect(relayd.address) for _ in range(8)]
    for client in clients:
        http.ask(client)
    relayd.wait_for(lambda service: service["generations"][0]["connections"] == 8, "all are in its queue")
    processes.wait_until(lambda: relayd.service()["bytes_in"] > 8 * 20, "their requests are there")
    os.kill(pid, signal.SIGKILL)
    for client in clients:
        assert http.answer(client)[0] == 200
        client.close()


def test_a_crash_under_load_refuses_nobody(relayd):
    relayd.start(activated(backend={"restart_delay": {"min": "50ms", "max": "100ms"}}))
    with Load(relayd.address, clients=32) as load:
        for _ in relayd.kill_again_and_again(TIMES):
            assert http.get_json(relayd.address)["generation"] == 1
        report = load.finish()
    # Whose answer had begun; and a 502 for a request that the next process was killed with as well.
    assert {kind for kind in KINDS if report["losses"][kind]} <= BY_DEFINITION | {"bad_status"}, describe(report)
    assert report["lost"] <= 32 * TIMES, describe(report)


# ---- listen: fd:NAME


def listen(address=("127.0.0.1", 0), family=socket.AF_INET):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(1024)
    return listener


def text_of(listener):
    name = listener.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"


def start_with(relayd, services, sockets, wait=True):
    """relayd with these sockets, as pairs of a name and a socket, passed as systemd does."""
    relayd.write_config(services)
    relayd.address = text_of(sockets[0][1])
    relayd.pass_fds = [s.fileno() for _, s in sockets]
    player = [places.PYTHON, "-B", str(places.APPS / "pass_sockets.py")]
    prefix = [*player, *(f"{name}:{s.fileno()}" for name, s in sockets), "--"]
    return relayd.launch([places.program("relayd"), "--config", str(relayd.config_file)], prefix, wait)


def demo(*names, **more):
    return {"web": apps.demo(listen=[f"fd:{name}" for name in names], **more)}


def test_started_by_systemd_socket_activate(relayd):
    """It starts relayd with its first client, who waits for as long as that takes."""
    port = places.free_port()
    relayd.write_config(demo("web"))
    relayd.address = f"127.0.0.1:{port}"
    passed_on = [f"--setenv={key}" for key in os.environ if key.endswith("SAN_OPTIONS")]
    prefix = ["/usr/bin/systemd-socket-activate", "-l", relayd.address, "--fdname=web", *passed_on]
    prefix.append(f"--setenv={processes.MARK}={relayd.mark}")
    relayd.launch([places.program("relayd"), "--config", str(relayd.config_file)], prefix, wait=False)
    processes.wait_until(lambda: places.listens(port), "systemd-socket-activate listens")
    first = http.connect(relayd.address)
    http.ask(first)
    assert http.answer(first)[0] == 200
    first.close()
    relayd.pid = relayd.process.pid
    with Load(relayd.address, clients=32) as load:
        for number in range(1, TIMES + 1):
            relayd.rollover("phased", until="drained")
            assert http.get_json(relayd.address)["generation"] == number + 1
        report = load.finish()
    assert_nothing_lost(report)


def test_several_sockets_of_one_name_and_of_both_kinds(relayd):
    sockets = [
        ("web", listen()),
        ("web", listen(str(relayd.folder / "web.sock"), socket.AF_UNIX)),
        ("other", listen()),
        ("spare", listen()),
    ]
    start_with(relayd, demo("web", "other"), sockets)
    for _, s in sockets[:3]:
        assert http.get_json(text_of(s))["generation"] == 1
    assert relayd.service()["listen"] == [text_of(s) for _, s in sockets[:3]]
    assert "under the name 'spare', and no service listens on it" in relayd.log()
    (pid,) = relayd.instance_pids()
    assert b"LISTEN_" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()


def start_anew_under_load(relayd, end):
    """relayd with the one passed socket, ended and started again and again. The load client's report."""
    listener = listen()
    start_with(relayd, demo("web"), [("web", listener)])
    with Load(relayd.address, clients=32, options=PATIENT) as load:
        for _ in range(TIMES):
            relayd.wait_for(lambda service: service["accepted"] > 100, "clients are being served")
            relayd.events.close()
            relayd.events = None
            end()
            start_with(relayd, demo("web"), [("web", listener)])
        return load.finish()


def test_started_again_and_again_without_anybody_refused(relayd):
    report = start_anew_under_load(relayd, relayd.stop)
    assert_nothing_lost(report, at_least=100)


def test_killed_and_started_again_without_anybody_refused(relayd):
    def end():
        relayd.process.kill()
        relayd.process.wait(10)

    report = start_anew_under_load(relayd, end)
    lost = {kind for kind in KINDS if report["losses"][kind]}
    assert lost <= BY_DEFINITION, describe(report)
    assert report["lost"] <= 32 * TIMES, "only those whom the one that was killed had accepted"


@pytest.mark.parametrize("kind", ["handoff", "activation"])
def test_systemds_socket_goes_on_to_the_app(relayd, kind):
    app = apps.handed_over(apps.passed()) if kind == "handoff" else apps.activated(apps.passed())
    listener = listen()
    start_with(relayd, {"web": {**app, "listen": ["fd:front"]}}, [("front", listener)])
    assert http.get_json(relayd.address, "/sockets")["names"] == ["front" if kind == "handoff" else "web"]
    with Load(relayd.address, clients=32) as load:
        relayd.rollover("phased", until="drained")
        report = load.finish()
    assert_nothing_lost(report)


def test_a_reload_keeps_the_socket_and_can_give_it_up_and_take_it_up(relayd):
    listener = listen()
    other = f"127.0.0.1:{places.free_port()}"
    start_with(relayd, demo("web"), [("web", listener)])
    relayd.change(listen=["fd:web", other])
    with Load(relayd.address, clients=16) as load:
        relayd.ctl("reload")
        assert http.get_json(other)["generation"] == 1
        report = load.finish()
    assert_nothing_lost(report)
    relayd.change(listen=[other])
    relayd.ctl("reload")
    relayd.wait_for(lambda service: service["listen"] == [other], "it is given up")
    with http.connect(relayd.address) as waiting:  # nobody accepts, and nobody refuses: the address is systemd's
        http.ask(waiting)
        relayd.change(listen=[other, "fd:web"])
        relayd.ctl("reload")
        assert http.answer(waiting)[0] == 200


def test_a_name_that_was_not_passed(relayd):
    start_with(relayd, demo("wbe"), [("web", listen())], wait=False)
    assert relayd.wait_end() == 3
    assert "no socket was passed to relayd under the name 'wbe' (these were: web)" in relayd.log()


def test_nothing_passed(relayd):
    relayd.start(demo("web"), wait=False)
    assert relayd.wait_end() == 3
    assert "none were passed: LISTEN_FDS is not set" in relayd.log()


def test_passed_to_somebody_else(relayd):
    relayd.write_config(demo("web"))
    variables = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
    relayd.launch([places.program("relayd"), "--config", str(relayd.config_file)], wait=False, **variables)
    assert relayd.wait_end() == 3
    assert "LISTEN_PID is '1', and relayd is process" in relayd.log()


def test_not_a_listening_socket(relayd):
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    start_with(relayd, demo("web"), [("web", datagrams)], wait=False)
    assert relayd.wait_end() == 3
    assert "is not a listening stream socket: in the .socket unit, use ListenStream=" in relayd.log()
