"""Signals, as people know them from Gunicorn; the log that they reopen."""

import contextlib
import json
import os
import signal
import socket

import pytest

from harness import apps, http, processes


def test_hup_reads_the_configuration_again_and_rolls_over(relayd):
    relayd.start({"web": apps.demo()})
    relayd.change(backend={"instances": 2})
    relayd.send(signal.SIGHUP)
    relayd.wait_event("rollover_done", generation=2)
    assert len(relayd.generation(2)["instances"]) == 2


@pytest.mark.parametrize("wrong", ["{ not yaml", '{"services": {"web": {"lissten": [":1"]}}}'])
def test_hup_with_a_wrong_file_changes_nothing(relayd, wrong):
    relayd.start({"web": apps.demo()})
    before = relayd.instance_pids()
    relayd.config_file.write_text(wrong)
    relayd.send(signal.SIGHUP)
    failed = relayd.wait_event("reload_failed")
    assert f"{relayd.config_file.name}:1:" in failed["message"] + json.dumps(failed["details"])
    assert relayd.instance_pids() == before
    assert http.get_json(relayd.address)["generation"] == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_a_control_socket_that_somebody_has_removed_comes_back(relayd, number):
    relayd.start({"web": apps.demo()})
    following = relayd.begin("events", "--follow")
    os.unlink(relayd.socket)
    relayd.send(number)
    processes.wait_until(lambda: os.path.exists(relayd.socket), "the socket is there again", 20)
    relayd.wait_event("warning")
    if number == signal.SIGUSR2:
        relayd.wait_event("upgraded")
    assert relayd.ctl("status").stdout
    relayd.stop()
    assert "it is there again" in following.communicate(timeout=20)[0]


def test_winch_pauses_and_hup_brings_back(relayd):
    relayd.start({"web": apps.demo()})
    relayd.send(signal.SIGWINCH)
    relayd.wait_for(lambda s: s["phase"] == "paused" and s["holding"], "paused")
    with http.connect(relayd.address) as held:
        http.ask(held)
        relayd.wait_for(lambda s: s["held"] == 1, "a client is held")
        relayd.send(signal.SIGHUP)
        assert http.answer(held)[0] == 200


def test_ttin_and_ttou_change_the_number_of_instances(relayd):
    relayd.start({"web": apps.demo()})
    relayd.send(signal.SIGTTIN)
    relayd.wait_for(lambda s: len(ready(s)) == 2, "there are two")
    answered = {http.get_json(relayd.address)["instance"] for _ in range(20)}
    assert answered == {0, 1}
    relayd.send(signal.SIGTTOU)
    relayd.wait_for(lambda s: len(ready(s)) == 1 and s["instances"] == 1, "one is left")
    relayd.send(signal.SIGTTOU)  # the last one stays
    relayd.wait_event("warning")
    assert http.get_json(relayd.address)["instance"] == 0


def ready(service):
    return [i for g in service["generations"] for i in g["instances"] if i["state"] == "ready"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_stop_fast(relayd, number):
    relayd.start({"web": apps.demo(protocol="tcp", rollover={"graceful_timeout": "300s"})})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=250000")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        relayd.send(number)
        with pytest.raises(ConnectionError):
            http.answer(link)
    assert relayd.wait_end(30) == 0


def test_a_graceful_stop_waits_for_the_last_bytes(relayd):
    """The app is done, and the client reads while it sends on: a close would reset it."""
    relayd.start({"web": apps.node()})
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(20)
        link.connect(("127.0.0.1", int(relayd.address.rpartition(":")[2])))
        http.ask(link, "/bytes?100000")
        relayd.wait_for(lambda s: "lingering" in relayd.ctl("connections", "web").stdout, "the app is done")
        relayd.send(signal.SIGTERM)
        relayd.wait_event("service_stopped")
        got = b""
        while part := link.recv(2048):
            got += part
            with contextlib.suppress(BrokenPipeError):  # it has sent all, and closes
                link.send(b"more")
        assert len(got.partition(b"\r\n\r\n")[2]) == 100000
    assert relayd.wait_end(30) == 0


def test_a_fast_stop_tells_http_clients_so(relayd):
    relayd.start({"web": apps.demo(rollover={"graceful_timeout": "300s"})})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=250000")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        relayd.send(signal.SIGINT)
        assert http.answer(link)[0] == 503
    assert relayd.wait_end(30) == 0


def test_a_second_term_is_harmless_and_int_hurries_a_graceful_stop(relayd):
    relayd.start({"web": apps.demo(protocol="tcp", rollover={"graceful_timeout": "300s"})})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=250000")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        relayd.send(signal.SIGTERM)
        relayd.send(signal.SIGTERM)
        relayd.wait_event("stopping")
        relayd.send(signal.SIGINT)
        with pytest.raises(ConnectionError):
            http.answer(link)
    assert relayd.wait_end(30) == 0


def test_usr2_upgrades_and_nothing_changes(relayd):
    """More of it in test_upgrade.py."""
    relayd.start({"web": apps.demo()})
    relayd.send(signal.SIGUSR2)
    assert relayd.wait_event("upgraded")["details"]["connections"] == "0"
    assert http.get_json(relayd.address)["generation"] == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_usr1_reopens_the_log(relayd, form):
    log = relayd.folder / "relayd.log"
    relayd.start({"web": apps.demo()}, log={"level": "info", "format": form, "file": str(log)})
    old = relayd.folder / "relayd.log.1"
    log.rename(old)
    relayd.send(signal.SIGUSR1)
    processes.wait_until(lambda: log.exists() and log.read_text(), "the new file has lines")
    relayd.rollover()
    processes.wait_until(lambda: "rollover_done" in log.read_text(), "the rollover is in the new file")
    assert "rollover_done" not in old.read_text()
    if form == "json":
        for line in old.read_text().splitlines() + log.read_text().splitlines():
            assert {"level", "message"} <= set(json.loads(line)), line


def test_pid_file(relayd):
    pid_file = relayd.folder / "relayd.pid"
    relayd.start({"web": apps.demo()}, pid_file=str(pid_file))
    assert int(pid_file.read_text()) == relayd.process.pid
    relayd.stop()
    assert not pid_file.exists()
