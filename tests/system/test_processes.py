"""What relayd's processes are to the system: PID 1, groups, descriptors, the end by kill -9."""

import os
import pathlib
import signal

import pytest

from harness import apps, containers, http, places, processes


def test_pid_1_reaps_orphans_and_drains_on_term(relayd):
    app = places.program("demo_app")
    service = apps.service(["/bin/sh", "-c", f"(/bin/sleep 1.5 & /bin/sleep 1.6 &) ; exec {app}"])
    containers.start_as_pid_1(relayd, {"web": service})
    count = processes.wait_until(
        lambda: sum(pathlib.Path(f"/proc/{p}/comm").read_text() == "sleep\n" for p in living_children(relayd)),
        "the orphans belong to PID 1",
    )
    assert count >= 1
    processes.wait_until(
        lambda: not any(processes.state(p) == "Z" or comm(p) == "sleep" for p in processes.children(relayd.pid)),
        "the orphans have been reaped",
    )
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=700")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        relayd.send(signal.SIGTERM)
        assert http.answer(link)[0] == 200
    assert relayd.wait_end() == 0


def comm(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def living_children(relayd):
    return [pid for pid in processes.children(relayd.pid) if processes.alive(pid)]


def test_pid_1_rolls_over(relayd):
    containers.start_as_pid_1(relayd, {"web": apps.gunicorn()})
    assert relayd.rollover(until="drained")["result"] == "done"
    assert http.get_json(relayd.address)["generation"] == 2


def test_backends_die_with_relayd_even_on_kill_9(relayd):
    """Gunicorn's workers are grandchildren: PR_SET_PDEATHSIG alone would leave them."""
    relayd.start({"web": apps.gunicorn(workers=3)})
    (master,) = relayd.instance_pids()
    workers = processes.wait_until(lambda: len(processes.children(master)) == 3 and processes.children(master), "workers")
    relayd.process.kill()
    assert relayd.wait_end() == -signal.SIGKILL
    processes.wait_until(lambda: not any(map(processes.alive, [master, *workers])), "the whole group is gone")
    relayd.assert_nothing_left()


def test_what_a_crashed_master_leaves_is_ended(relayd):
    relayd.start({"web": apps.gunicorn(workers=2)})
    (master,) = relayd.instance_pids()
    workers = processes.wait_until(lambda: len(processes.children(master)) == 2 and processes.children(master), "workers")
    processes.kill(master)
    processes.wait_until(lambda: not any(map(processes.alive, workers)), "its workers are gone")
    relayd.wait_for(lambda s: s["phase"] == "serving", "it is started again")
    assert http.get_json(relayd.address)["generation"] == 1


def test_an_instance_gets_a_clean_process(relayd):
    """A group of its own, three descriptors, no signal blocked or ignored."""
    relayd.start({"web": apps.service(["/bin/sleep", "1000"], path=None, health={"check": "none"})})
    (pid,) = relayd.instance_pids()
    assert os.getpgid(pid) == pid
    assert sorted(map(int, os.listdir(f"/proc/{pid}/fd"))) == [0, 1, 2]
    said = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    for mask in ("SigBlk", "SigIgn"):
        assert int(said[mask], 16) == 0, (mask, said[mask])


def test_environment_and_templates(relayd):
    told = relayd.folder / "told"
    script = f'env >"{told}.$RELAY_INSTANCE"; echo "$0 $1 $2 $3" >>"{told}.$RELAY_INSTANCE"; exec {places.program("demo_app")}'
    command = ["/bin/sh", "-c", script, "{address}", "{{literal}}", "{generation}", "{instance}"]
    relayd.start({"web": apps.service(command, backend={"instances": 2, "env": {"COLOUR": "blue-{instance}"}})})
    for index in ("0", "1"):
        lines = (told.parent / f"told.{index}").read_text().splitlines()
        environment = dict(line.split("=", 1) for line in lines[:-1] if "=" in line)
        assert environment["RELAY_SERVICE"] == "web"
        assert (environment["RELAY_GENERATION"], environment["RELAY_INSTANCE"]) == ("1", index)
        assert environment["COLOUR"] == f"blue-{index}"
        assert environment["NOTIFY_SOCKET"]
        address = f"{environment['HOST']}:{environment['PORT']}"
        assert lines[-1] == f"{address} {{literal}} 1 {index}"


def test_another_user_and_directory(relayd, is_root):
    if not is_root:
        pytest.skip("only root can give a backend another user")
    told = relayd.folder / "told"
    told.mkdir(mode=0o777)
    told.chmod(0o777)
    script = f'id -un >"{told}/who"; id -gn >>"{told}/who"; id -G >>"{told}/who"; pwd >>"{told}/who"; exec sleep 1000'
    service = apps.service(["/bin/sh", "-c", script], path=None, health={"check": "none"})
    service["backend"].update({"user": "nobody", "group": "nogroup", "directory": "/usr", "limits": {"nofile": 123}})
    relayd.start({"web": service})
    processes.wait_until(lambda: (told / "who").exists() and "/usr\n" in (told / "who").read_text(), "it has spoken")
    assert (told / "who").read_text().split("\n")[:4] == ["nobody", "nogroup", "65534", "/usr"]
    (pid,) = relayd.instance_pids()
    assert "Max open files            123" in pathlib.Path(f"/proc/{pid}/limits").read_text()
