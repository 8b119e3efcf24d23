"""Upgrades of whatever relayd can be: PID 1, another number of threads, every kind of backend; and what comes right after one."""

import os
import signal

import pytest

from harness import apps, containers, http, living, places, processes, upgrades


def test_as_pid_1(relayd):
    services = living.services()
    containers.start_as_pid_1(relayd, services, threads=2)
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.mixed(40, **living.addresses(services))
        for binary in (upgrades.another_binary(relayd), places.program("relayd")):
            assert upgrades.upgrade(relayd, crowd, binary)["pid"] == 1
        assert relayd.rollover("phased", service="web", until="drained")["result"] == "done"
        crowd.round()
        living.assert_nothing_lost(crowd.finish())


def test_pid_1_goes_on_reaping_orphans(relayd):
    orphans = "(/bin/sleep 3 & /bin/sleep 3.1 &)"
    app = apps.service(["/bin/sh", "-c", f"{orphans}; exec {places.program('demo_app')}"])
    containers.start_as_pid_1(relayd, {"web": app})
    (app_pid,) = processes.wait_until(lambda: [p for p in processes.children(relayd.pid) if comm(p) == "demo_app"], "the app")
    relayd.upgrade()
    processes.wait_until(
        lambda: not any(processes.state(p) == "Z" or comm(p) == "sleep" for p in processes.children(relayd.pid)),
        "the orphans have been reaped",
    )
    assert processes.alive(app_pid)


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


@pytest.mark.parametrize("threads", [(1, 2, 1), (2, 1, 4)])
def test_another_number_of_threads(relayd, threads):
    services = living.services()
    relayd.start(services, threads=threads[0])
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.mixed(60, **living.addresses(services))
        for number in threads[1:]:
            relayd.write_config(services, threads=number)
            upgrades.upgrade(relayd, crowd)
            assert relayd.status()["threads"] == number
            for kind, name in [("ping_pong", "raw"), ("kept", "web"), ("websocket", "tunnels")]:
                crowd.open(kind, 8, living.addresses(services, name)[name])  # who comes now is served too
            crowd.round()
        living.assert_nothing_lost(crowd.finish())


@pytest.fixture
def target():
    """Starts what somebody else runs; its address."""
    started = []

    def start(name):
        address = f"127.0.0.1:{places.free_port()}"
        started.append(containers.App(name, address, [address if w == "{address}" else w for w in living.app()]))
        return started[-1].wait_until_it_answers().address

    yield start
    for each in started:
        each.remove()


def test_every_kind_of_backend_at_once(relayd, target):
    stays = {"rollover": {"graceful_timeout": "600s"}}
    services = {kind: living.service(stays) for kind in ("port", "socket", "activation", "steered", "handoff", "targets")}
    services["socket"]["backend"]["address"] = "socket"
    services["steered"]["backend"]["steering"] = "auto"
    for name, passed in (("activation", apps.activated), ("handoff", apps.handed_over)):
        passed(services[name])
        services[name]["backend"]["command"].remove("{address}")  # its sockets are descriptors
    services["targets"]["backend"] = {"targets": [target("first")]}
    unix = f"unix:{relayd.folder}/front.sock"
    services["port"]["listen"] = [f"127.0.0.1:{places.free_port()}", unix]
    relayd.start(services, threads=2)
    for name in services:
        relayd.wait_for(lambda s: s["phase"] == "serving", "it serves", name=name)
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        for name, service in services.items():
            for kind in ("ping_pong", "half_closed", "idle", *([] if name == "handoff" else ["kept"])):
                crowd.open(kind, 3, service["listen"][0])
        crowd.open("kept", 3, unix)
        ways = {name: relayd.service(name)["steering"] for name in services}
        upgrades.upgrade(relayd, crowd, upgrades.another_binary(relayd))
        assert {name: relayd.service(name)["steering"] for name in services} == ways
        for name in services:
            more = ["--target", target("second")] if name == "targets" else []
            assert relayd.ctl_json("rollover", name, *more)["result"] == "done", name
        crowd.round()
        upgrades.upgrade(relayd, crowd, places.program("relayd"))
        for service in services.values():
            crowd.open("half_closed", 2, service["listen"][0])  # new ones, for whom the new generations are
        living.assert_nothing_lost(crowd.finish())
    assert {name: relayd.service(name)["generation"] for name in services} == dict.fromkeys(services, 2)


def test_term_right_after_an_upgrade_drains(relayd):
    relayd.start({"web": apps.demo()})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=3000")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        relayd.upgrade()
        relayd.send(signal.SIGTERM)
        assert http.answer(link)[0] == 200
    assert relayd.wait_end() == 0


def test_instances_are_watched_as_before(relayd):
    """They are the children of the one that was: their end is noticed, and they are started again."""
    relayd.start({"web": apps.demo(backend={"restart_delay": {"min": "50ms", "max": "100ms"}})})
    relayd.upgrade()
    for _ in relayd.kill_again_and_again(3):
        assert http.get_json(relayd.address)["generation"] == 1
    relayd.upgrade()
    assert relayd.generation(1)["instances"][0]["restarts"] == 3
    assert relayd.rollover(until="drained")["to"] == 2


def test_backends_die_with_an_upgraded_relayd(relayd):
    relayd.start({"web": apps.gunicorn(workers=2)})
    (master,) = relayd.instance_pids()
    workers = processes.wait_until(lambda: len(processes.children(master)) == 2 and processes.children(master), "workers")
    relayd.upgrade()
    assert relayd.rollover(until="drained")["to"] == 2  # one that the new image has started, beside the keeper of the old one
    (master,) = relayd.instance_pids()
    workers += processes.wait_until(lambda: len(processes.children(master)) == 2 and processes.children(master), "workers")
    os.kill(relayd.pid, signal.SIGKILL)
    assert relayd.wait_end() == -signal.SIGKILL
    processes.wait_until(lambda: not any(map(processes.alive, [master, *workers])), "the whole groups are gone")
    relayd.assert_nothing_left()
