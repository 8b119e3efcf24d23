"""The public sockets themselves are the app's: relayd is out of the way, and no rollover loses a client."""

import os
import signal

import pytest

from harness import apps, http, places, processes
from harness.load import KINDS, Load, assert_nothing_lost, describe

TIMES = 10 if places.SOAK else 3
APPS = {"gunicorn": apps.gunicorn_with_passed_sockets, "node": apps.node, "systemd-style": apps.passed}


def handed_over(name="systemd-style", **more):
    return {"web": apps.handed_over(APPS[name](), **more)}


def generation_that_answers(relayd):
    return int(http.get_json(relayd.address)["generation"])


@pytest.mark.parametrize("mode", ["phased", "hot", "restart"])
@pytest.mark.parametrize("app", APPS)
def test_nothing_is_lost(relayd, app, mode):
    """A restart too: the app gets its stop_signal, and finishes what it has accepted."""
    relayd.start(handed_over(app))
    with Load(relayd.address, clients=32, options=["--post", 30]) as load:
        for number in range(1, TIMES + 1):
            if app == "gunicorn":
                apps.wait_for_gunicorn_workers(relayd)
            result = relayd.rollover(mode, until="drained")
            assert (result["result"], result["from"], result["to"]) == ("done", number, number + 1), result
            processes.wait_until(lambda: generation_that_answers(relayd) == number + 1, "the new one answers")  # noqa: B023
        report = load.finish()
    assert_nothing_lost(report, at_least=100)
    assert set(report["generations"]) <= {str(number) for number in range(1, TIMES + 2)}, report


def test_every_socket_is_passed_and_nothing_else(relayd):
    services = handed_over()
    unix = f"unix:{relayd.folder}/web.sock"
    services["web"]["listen"] = [f"127.0.0.1:{places.free_port()}", f"[::1]:{places.free_port('::1')}", unix]
    relayd.start(services)
    for address in services["web"]["listen"]:
        said = http.get_json(address, "/sockets")
        assert said["names"] == ["web", "web", "web"]
        assert said["blocking"] == [True, True, True], "as systemd passes them"
        assert said["open"] == [0, 1, 2, 3, 4, 5], "the standard streams, and the sockets"


def test_relayd_says_that_it_does_not_see_the_connections(relayd):
    relayd.start(handed_over())
    service = relayd.service()
    assert (service["data_path"], service["accepted"], service["phase"]) == ("app", 0, "serving")
    assert "its connections are its own" in relayd.ctl("status", "web").stdout
    assert "relayd does not see them" in relayd.ctl("connections", expect=1).stderr


def test_clients_wait_in_the_kernel_while_a_hot_rollover_stands_still(relayd):
    ready = relayd.folder / "ready"
    relayd.start(handed_over(rollover={"mode": "hot"}))
    rollover = relayd.begin_rollover("--env", f"READY_WHEN={ready}")
    relayd.wait_event("generation_stopped", generation=1)
    clients = [http.connect(relayd.address) for _ in range(8)]
    for client in clients:
        http.ask(client)
    assert relayd.service()["holding"]
    ready.touch()
    assert rollover.wait(30) == 0
    rollover.communicate()
    for client in clients:
        assert b'"generation": 2' in http.answer(client)[2]
        client.close()


def test_a_failed_generation_leaves_the_old_one_alone(relayd):
    relayd.start(handed_over())
    pids = relayd.instance_pids()
    relayd.change(backend={"command": ["/bin/sh", "-c", "echo no database >&2; exit 3"]})
    with Load(relayd.address, clients=16) as load:
        assert "no database" in relayd.rollover("phased", expect=1)["reason"]
        report = load.finish()
    assert_nothing_lost(report)
    assert relayd.instance_pids() == pids


def test_graceful_timeout_ends_with_kill(relayd):
    never = relayd.folder / "never"
    relayd.start(handed_over(backend={"env": {"EXIT_WHEN": str(never)}}, rollover={"graceful_timeout": "300ms"}))
    relayd.rollover("phased", until="drained")
    assert relayd.wait_event("cut", generation=1)
    assert "SIGKILL" in relayd.wait_event("instance_stopped", generation=1)["message"]
    never.touch()


def test_a_crash_under_load_refuses_nobody(relayd):
    relayd.start(handed_over(backend={"restart_delay": {"min": "50ms", "max": "100ms"}}))
    with Load(relayd.address, clients=32) as load:
        for _ in relayd.kill_again_and_again(TIMES):
            assert generation_that_answers(relayd) == 1
        report = load.finish()
    assert {kind for kind in KINDS if report["losses"][kind]} <= {"reset", "closed_early", "truncated"}, describe(report)
    assert report["lost"] <= 32 * TIMES, "only those whom the process that was killed had accepted"


def test_clients_in_the_queue_outlive_a_crash(relayd):
    relayd.start(handed_over())
    (pid,) = relayd.instance_pids()
    os.kill(pid, signal.SIGSTOP)
    clients = [http.connect(relayd.address) for _ in range(8)]
    for client in clients:
        http.ask(client)
    os.kill(pid, signal.SIGKILL)
    for client in clients:
        assert http.answer(client)[0] == 200
        client.close()


def test_instances_share_the_socket(relayd):
    relayd.start(handed_over(backend={"instances": 3}))
    with Load(relayd.address, clients=32) as load:
        seen = set()
        processes.wait_until(lambda: seen.add(http.get_json(relayd.address)["pid"]) or len(seen) == 3, "all three answer")
        relayd.ctl("scale", "1")
        relayd.wait_for(lambda service: len(service["generations"][0]["instances"]) == 1, "two have ended")
        relayd.ctl("pause")
        waiting = http.connect(relayd.address)
        http.ask(waiting)
        relayd.ctl("resume")
        assert http.answer(waiting)[0] == 200
        waiting.close()
        report = load.finish()
    assert_nothing_lost(report)


def test_a_reload_that_changes_the_addresses_rolls_over(relayd):
    relayd.start(handed_over())
    first = relayd.address
    second = f"127.0.0.1:{places.free_port()}"
    relayd.change(listen=[first, second])
    with Load(first, clients=16) as load:
        assert relayd.ctl_json("reload")["rolled_over"] == ["web"]
        assert http.get_json(second)["generation"] == 2
        relayd.wait_event("generation_stopped", generation=1)
        report = load.finish()
    assert_nothing_lost(report)
    relayd.change(listen=[second], backend={"command": ["/bin/false"]})
    relayd.ctl("reload", expect=1)
    assert http.get_json(first)["generation"] == 2, "the failed one has taken nothing away"
    assert relayd.service()["listen"] == [first, second]
    relayd.config["services"]["web"]["backend"]["command"] = apps.passed()["backend"]["command"]
    relayd.change()
    relayd.ctl("reload")
    relayd.wait_event("generation_stopped", generation=2)
    with pytest.raises(ConnectionRefusedError):
        http.connect(first)
    assert relayd.service()["listen"] == [second]


def test_a_service_cannot_change_hands_but_its_sockets_can_under_another_name(relayd):
    relayd.start({"web": apps.demo()})
    relayd.config["services"]["web"] = {**handed_over()["web"], "listen": [relayd.address]}
    relayd.change()
    assert "give the service another name" in relayd.ctl("reload", expect=1).stderr
    assert "give the service another name" in relayd.ctl("rollover", expect=1).stderr
    relayd.config["services"]["web2"] = relayd.config["services"].pop("web")
    relayd.change()
    with Load(relayd.address, clients=16) as load:
        relayd.ctl("reload")
        relayd.wait_event("service_stopped", service="web")
        assert http.get_json(relayd.address)["generation"] == 1
        report = load.finish()
    assert_nothing_lost(report)
    assert relayd.service()["name"] == "web2"
