"""Which executable an upgrade takes, and what the service manager and people are told of it."""

import shutil
import socket

from harness import apps, places, upgrades


def start(relayd, program, **environment):
    relayd.write_config({"web": {**apps.demo(), "listen": [f"127.0.0.1:{places.free_port()}"]}})
    relayd.launch([str(program), "--config", str(relayd.config_file)], **environment)


def new(relayd, folder, program="relayd"):
    path = relayd.folder / folder / "relayd"
    path.parent.mkdir(exist_ok=True)
    shutil.copy(places.program(program), path)
    return path


def test_its_path_stays_its_path_after_a_failure(relayd):
    """The usual way: the old executable is kept aside, the new one fails, and a third one is put in place."""
    path = new(relayd, "bin")
    start(relayd, path, RELAYD_FAULT="crash")
    path.rename(path.with_name("relayd.old"))
    new(relayd, "bin", "relayd_faulty")
    relayd.upgrade(expect=1)
    path.unlink()
    new(relayd, "bin")
    upgrades.upgrade(relayd, binary=path)
    assert upgrades.running_binary(relayd) == str(path)


def test_a_symbolic_link_is_followed_anew(relayd):
    for release in ("v1", "v2"):
        new(relayd, release)
    link = relayd.folder / "current"
    link.symlink_to("v1")
    start(relayd, link / "relayd")
    link.unlink()
    link.symlink_to("v2")
    relayd.upgrade()
    assert upgrades.running_binary(relayd) == str(relayd.folder / "v2" / "relayd")


def test_a_wrapper_is_asked_each_time(relayd):
    wrapper = relayd.folder / "wrapper"
    wrapper.write_text(f"#!/bin/sh\nexec {places.program('relayd')} \"$@\"\n")
    wrapper.chmod(0o755)
    start(relayd, places.program("relayd"))
    relayd.upgrade(wrapper)
    wrapper.write_text("#!/bin/sh\nexit 9\n")
    assert "exit status 9" in relayd.upgrade(expect=1)
    wrapper.write_text(f"#!/bin/sh\n{places.program('relayd')} \"$@\"\n")  # a child of the shell's, not the process itself
    assert "has to exec it" in relayd.upgrade(expect=1)


def test_a_failed_one_changes_nothing_of_the_configuration(relayd):
    service = {"web": apps.demo()}
    relayd.start(service, threads=1)
    relayd.write_config(service, threads=2)
    relayd.upgrade("/bin/false", expect=1)
    assert relayd.status()["threads"] == 1
    assert relayd.ctl_json("reload")["needs_restart"] == ["threads"]
    relayd.upgrade()
    assert relayd.status()["threads"] == 2


def test_variables_of_somebody_else_do_no_harm(relayd):
    start(relayd, places.program("relayd"), RELAYD_TAKE_OVER="0:0", RELAYD_REHEARSE="1")
    relayd.upgrade()


class ServiceManager:
    """Plays systemd: takes what is told by sd_notify(3)."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(20)

    def next(self):
        """The first variable of the next message."""
        return self._socket.recv(4096).decode().partition("\n")[0]


def test_the_service_manager_is_told(relayd):
    manager = ServiceManager(relayd.folder)
    start(relayd, places.program("relayd"), NOTIFY_SOCKET=manager.path)
    assert manager.next() == "READY=1"
    relayd.upgrade()
    assert [manager.next(), manager.next()] == ["RELOADING=1", "READY=1"]
    relayd.upgrade("/bin/false", expect=1)  # refused before anything is touched
    relayd.ctl_json("reload")
    assert [manager.next(), manager.next()] == ["RELOADING=1", "READY=1"]
    relayd.stop()
    assert manager.next() == "STOPPING=1"


def test_a_reload_with_an_upgrade_within_is_over_when_it_is_over(relayd):
    manager = ServiceManager(relayd.folder)
    start(relayd, places.program("relayd"), NOTIFY_SOCKET=manager.path)
    assert manager.next() == "READY=1"
    relayd.change(backend={"env": {"A": "b"}})
    known = relayd.last_sequence()
    reload = relayd.begin("reload")
    relayd.wait_event("rollover_started", after=known)
    relayd.upgrade()
    output, errors = reload.communicate(timeout=60)
    assert reload.returncode == 0, (output, errors)
    told = [manager.next() for _ in range(3)]
    while told[-1] != "READY=1" or not relayd.generation(2):
        told.append(manager.next())
    assert told[0] == "RELOADING=1" and told[-1] == "READY=1"
