"""A new configuration takes effect as a whole or not at all, and never closes a socket that is still wanted."""

import fcntl
import json
import os
import signal
import socket
import subprocess

from harness import apps, http, places, processes
from harness.load import Load, assert_nothing_lost

NOBODY = {"command": ["/nonexistent/app"]}


def served_by(address):
    return http.get_json(address)["service"]


def test_a_service_gets_another_name_under_load(relayd):
    service = apps.demo()
    relayd.start({"web": service})
    with Load(relayd.address, clients=16) as load:
        relayd.wait_for(lambda s: s["accepted"] > 200, "clients are being served")
        for name in ("shop", "web", "shop"):
            relayd.write_config({name: service})
            result = relayd.ctl_json("reload")
            assert result["added"] == [name], result
            processes.wait_until(lambda: [s["name"] for s in relayd.status()["services"]] == [name], "only it is left")
            relayd.wait_for(lambda s: s["accepted"] > 200, "the renamed service is being served", name=name)
        report = load.finish()
    assert_nothing_lost(report, at_least=500)


def test_two_services_change_their_addresses(relayd):
    services = {"web": apps.demo(), "api": apps.demo()}
    relayd.start(services)
    relayd.wait_for(lambda s: s["phase"] == "serving", "the second serves", name="api")
    web, api = services["web"]["listen"][0], services["api"]["listen"][0]
    services["web"]["listen"], services["api"]["listen"] = [api], [web]
    relayd.write_config(services)
    assert sorted(relayd.ctl_json("reload")["adjusted"]) == ["api", "web"]
    processes.wait_until(lambda: all(served_by(web) == "api" and served_by(api) == "web" for _ in range(5)), "they have")


def test_a_listener_is_written_differently_under_load(relayd):
    relayd.start({"web": apps.demo()})
    port = relayd.address.rpartition(":")[2]
    with Load(relayd.address, clients=16) as load:
        relayd.wait_for(lambda s: s["accepted"] > 200, "clients are being served")
        for listen in ([relayd.address, f"[::1]:{port}"], [relayd.address]):
            relayd.change("web", listen=listen)
            assert relayd.ctl_json("reload")["adjusted"] == ["web"]
        before = relayd.service()["accepted"]
        relayd.wait_for(lambda s: s["accepted"] > before + 200, "clients are still being served")
        report = load.finish()
    assert_nothing_lost(report, at_least=400)


def test_a_refused_reload_leaves_nothing_behind(relayd):
    relayd.start({"web": apps.demo()})
    left = relayd.folder / "left.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        relayd.change("web", listen=[relayd.address, f"unix:{left}", address])
        assert address in relayd.ctl("reload", expect=1).stderr
    assert not left.exists()
    assert served_by(relayd.address) == "web"


def test_a_service_that_is_added_and_cannot_start_is_a_failure(relayd):
    web = apps.demo()
    relayd.start({"web": web})
    bad = {"listen": [f"127.0.0.1:{places.free_port()}"], "backend": NOBODY}
    relayd.write_config({"web": web, "bad": bad})
    assert "bad" in relayd.ctl("reload", expect=1).stderr
    assert "/nonexistent/app" in relayd.ctl("status", "bad").stdout  # and status says why
    assert served_by(relayd.address) == "web"


def test_hup_touches_nothing_when_one_env_file_is_gone(relayd):
    env_file = relayd.folder / "app.env"
    env_file.write_text("A=1\n")
    relayd.start({"web": apps.demo(), "api": apps.demo(backend={"env_file": str(env_file)})})
    relayd.wait_for(lambda s: s["phase"] == "serving", "the second serves", name="api")
    env_file.unlink()
    relayd.send(signal.SIGHUP)
    assert "app.env" in json.dumps(relayd.wait_event("reload_failed"))
    assert [relayd.service(name)["generation"] for name in ("web", "api")] == [1, 1]
    env_file.write_text("A=2\n")
    relayd.send(signal.SIGHUP)
    relayd.wait_event("rollover_done", service="web")
    relayd.wait_event("rollover_done", service="api")


def test_one_of_two_services_that_cannot_start_does_not_stop_the_other(relayd):
    services = {"bad": {"backend": NOBODY}, "web": apps.demo()}
    relayd.start(services, wait=False)
    relayd.wait_for(lambda s: s["phase"] == "serving", "the good one serves", name="web")
    assert served_by(services["web"]["listen"][0]) == "web"
    status = relayd.service("bad")
    assert (status["phase"], status["holding"], status["generation"]) == ("starting", True, 0)
    relayd.ctl("rollover", "web")


def test_braces_in_env_are_taken_as_they_are(relayd):
    relayd.start({"web": apps.demo()})
    relayd.ctl("rollover", "--env", 'SETTINGS={"a": {"b": 1}}')
    assert relayd.service()["generation"] == 2
    assert "RELAY_" in relayd.ctl("rollover", "--env", "RELAY_SERVICE=other", expect=None).stderr
    assert relayd.service()["generation"] == 2


def test_standard_error_that_nobody_reads_stops_nothing(relayd):
    relayd.stderr_file.touch()
    relayd.write_config({"web": apps.demo(listen=[f"127.0.0.1:{places.free_port()}"])}, log={"level": "debug"})
    relayd.address = relayd.config["services"]["web"]["listen"][0]
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    command = [places.program("relayd"), "--config", str(relayd.config_file)]
    relayd.process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=write_end,
        env={**os.environ, processes.MARK: relayd.mark},
    )
    os.close(write_end)
    try:
        relayd.wait_for(lambda s: s["phase"] == "serving", "it serves")
        relayd.pid = relayd.status()["pid"]
        for _ in range(20):  # far more lines than the pipe takes
            relayd.rollover()
        assert http.get_json(relayd.address)["generation"] == 21
        relayd.stop()
    finally:
        os.close(read_end)
