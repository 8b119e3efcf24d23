"""Backends that somebody else runs: swapped without a loss, and checked. Those found by name: test_target_names.py."""

import os
import signal
import subprocess

import pytest

from harness import containers, http, places, processes
from harness.load import Load, assert_nothing_lost
from harness.targets import instances, service, swap

ROLLOVERS = 10 if places.SOAK else 3


def nginx(relayd, name):
    address = f"127.0.0.1:{places.free_port()}"
    return {"address": address, "command": ["/bin/sh", str(places.APPS / "nginx.sh"), str(relayd.folder), address, name]}


# ---- Swapping


@pytest.mark.threads
@pytest.mark.parametrize("mode", ["phased", "hot"])
@pytest.mark.parametrize("kind", ["demo", "demo, kept connections", "nginx"])
def test_swapped_under_load_and_removed_when_drained(relayd, run_app, mode, kind):
    def start(number):
        options = nginx(relayd, str(number)) if kind == "nginx" else {}
        return run_app(str(number), **options).wait_until_it_answers()

    old = start(1)
    relayd.start({"web": service(old.address, rollover={"mode": mode})}, threads=2)
    options = ["--check", "length"] if kind == "nginx" else ["--post", "30"]
    options += ["--keep-alive"] if "kept" in kind else []
    with Load(relayd.address, clients=32, options=options) as load:
        relayd.wait_for(lambda s: s["accepted"] > 0 and s["requests"] > 200, "clients are being served")
        for number in range(1, ROLLOVERS + 1):
            new = start(number + 1)
            result = swap(relayd, new.address, "--until", "drained")
            assert (result["result"], result["from"], result["to"]) == ("done", number, number + 1), result
            assert result["mode"] == mode and result["drained"]
            old.remove()  # at once: nobody may be there any more
            old = new
            before = relayd.service()["requests"]
            relayd.wait_for(lambda s: s["requests"] > before + 100, "the new target serves")
        report = load.finish()
    assert_nothing_lost(report, at_least=500)
    assert set(report["generations"]) == {str(number) for number in range(1, ROLLOVERS + 2)}, report


def test_restart_mode_and_several_targets(relayd, run_app):
    apps = [run_app(str(number)).wait_until_it_answers() for number in range(4)]
    relayd.start({"web": service(apps[0].address, apps[1].address, backend={"balance": "round_robin"})})
    assert {http.get(relayd.address)[1]["x-generation"] for _ in range(10)} == {"0", "1"}
    result = relayd.ctl_json(
        "rollover", "--mode", "restart", "--target", apps[2].address, "--target", apps[3].address
    )
    assert (result["result"], result["mode"]) == ("done", "restart")
    assert {http.get(relayd.address)[1]["x-generation"] for _ in range(10)} == {"2", "3"}
    status = relayd.service()
    assert status["instances"] == 2
    shown = relayd.ctl("status", "web").stdout
    for index, app in enumerate(apps[2:]):
        instance = instances(relayd)[index]
        assert (instance["pid"], instance["state"], instance["restarts"]) == (0, "ready", 0)
        assert instance["target"] == instance["address"] == app.address
        assert instance["addresses"] == [app.address]
        assert app.address in shown
    assert "pid 0" not in shown


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_containers_are_swapped_by_the_script(relayd, container_network, mode):
    """configs/swap-containers.sh with an engine whose containers are two network namespaces, under load."""
    engine = relayd.folder / "engine"
    engine.mkdir()
    (engine / "number").write_text("0")
    boxes = zip(container_network.names, container_network.addresses, strict=True)
    (engine / "boxes").write_text("\n".join(map(" ".join, boxes)))
    environment = {
        **os.environ,
        processes.MARK: relayd.mark,
        "PATH": f"{places.bin_dir()}:{os.environ['PATH']}",
        "RELAYD_SOCKET": relayd.socket,
        "ENGINE": f"{places.PYTHON} -B {places.APPS / 'container_engine.py'}",
        "ENGINE_FOLDER": str(engine),
        "ENGINE_APP": places.program("demo_app"),
        "PORT": str(containers.PORT),
        "CONFIG": str(relayd.config_file),
    }
    script = places.TESTS.parent / "configs" / "swap-containers.sh"

    def run_script(expect=0, **more):
        ended = subprocess.run(
            [str(script), "web", "image:latest"], env={**environment, **more}, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == expect, (ended.returncode, ended.stdout, ended.stderr)
        return ended.stdout

    try:
        first = run_script()
        assert f'targets: ["{container_network.addresses[0]}"]' in first
        web = service(container_network.addresses[0], listen=[f"{container_network.HOST}:8080"], rollover={"mode": mode})
        relayd.start({"web": web}, prefix=container_network.host)
        with Load(relayd.address, clients=32, prefix=container_network.host) as load:
            relayd.wait_for(lambda s: s["requests"] > 200, "clients are being served")
            for number in range(1, ROLLOVERS + 1):
                run_script()
                before = relayd.service()["requests"]
                relayd.wait_for(lambda s: s["requests"] > before + 100, "the new container serves")
                assert len(list(engine.glob("*.json"))) == 1
                assert container_network.addresses[number % 2] in relayd.config_file.read_text()
            report = load.finish()
        assert_nothing_lost(report, at_least=500)
        assert set(report["generations"]) == {str(number) for number in range(1, ROLLOVERS + 2)}, report

        # One that does not get ready goes again, and what served goes on serving.
        kept = list(engine.glob("*.json"))
        relayd.change(health={"ready_timeout": "500ms"}, backend={"targets": [container_network.addresses[ROLLOVERS % 2]]})
        assert "503" in run_script(expect=1, ENGINE_FAIL="1")
        assert list(engine.glob("*.json")) == kept
        serves = instances(relayd)
        assert [i["address"] for i in serves] == [container_network.addresses[ROLLOVERS % 2]]
    finally:
        for name in [path.stem for path in engine.glob("*.json")]:
            subprocess.run([*environment["ENGINE"].split(), "rm", "--force", name], env=environment, check=False)


# ---- Health


def test_an_unhealthy_target_is_taken_out_and_brought_back(relayd, run_app):
    apps = [run_app(name).wait_until_it_answers() for name in "ab"]
    flag = relayd.folder / "unwell"
    script = f'test "$1" = "{apps[0].address}" && test -e {flag} && {{{{ echo asked to fail; exit 1; }}}}; exit 0'
    health = {"check": "command", "command": ["/bin/sh", "-c", script, "check", "{address}"]}
    relayd.start({"web": service(apps[0].address, apps[1].address, health=health)})

    def answering(names):
        return {http.get(relayd.address)[1]["x-generation"] for _ in range(20)} == set(names)

    with Load(relayd.address, clients=8, options=["--think", "2"]) as load:
        processes.wait_until(lambda: answering("ab"), "both")
        flag.touch()
        event = relayd.wait_event("instance_unhealthy", instance=0)
        assert f"target {apps[0].address}: check command /bin/sh: exit status 1: asked to fail" in event["message"]
        # The event is told as the workers are; they follow within a moment.
        processes.wait_until(lambda: answering("b"), "only the other")
        assert "asked to fail" in instances(relayd)[0]["note"]
        flag.unlink()
        relayd.wait_event("instance_healthy", instance=0)
        processes.wait_until(lambda: answering("ab"), "both again")
        report = load.finish()
    assert_nothing_lost(report)


def test_clients_are_held_while_no_target_is_left(relayd, run_app):
    app = run_app("a").wait_until_it_answers()
    relayd.start({"web": service(app.address)})
    app.remove()
    relayd.wait_for(lambda s: s["holding"] and s["phase"] == "down", "the only target is taken out")
    with http.connect(relayd.address) as link:
        http.ask(link)
        relayd.wait_for(lambda s: s["held"] == 1, "its client is held")
        app.start()
        assert http.answer(link)[0] == 200
    assert relayd.service()["phase"] == "serving"


def test_a_target_that_never_answers_fails_the_start(relayd):
    address = f"127.0.0.1:{places.free_port()}"
    relayd.start({"web": service(address, health={"ready_timeout": "300ms"})}, wait=False)
    assert relayd.wait_end() == 3
    assert f"target {address}: connect {address}: Connection refused" in relayd.log()
    relayd.process = None


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_a_failed_rollover_leaves_the_old_target_serving(relayd, run_app, mode):
    app = run_app("a").wait_until_it_answers()
    relayd.start({"web": service(app.address, health={"ready_timeout": "500ms"}, rollover={"mode": mode})})
    nobody = f"127.0.0.1:{places.free_port()}"
    with Load(relayd.address, clients=16) as load:
        relayd.wait_for(lambda s: s["requests"] > 100, "clients are being served")
        failed = swap(relayd, nobody, expect=1)
        assert failed["result"] == "failed"
        assert f"target {nobody}: connect {nobody}: Connection refused (ECONNREFUSED)" in failed["reason"], failed
        before = relayd.service()["requests"]
        relayd.wait_for(lambda s: s["requests"] > before + 100, "the old target serves")
        report = load.finish()
    assert_nothing_lost(report)
    assert set(report["generations"]) == {"a"}
    (serving,) = instances(relayd)
    assert serving["target"] == app.address


# ---- What does not fit


def test_what_does_not_fit_is_refused_with_the_cure(relayd, run_app):
    app = run_app("a").wait_until_it_answers()
    own = {"backend": {"command": [places.program("demo_app")]}, "health": {"path": "/up"}}
    relayd.start({"web": service(app.address), "own": own})

    def refused(*words, expect=2):
        return relayd.ctl(*words, expect=expect).stderr

    assert "'10.0.0.5' has no port: give host:port" in refused("rollover", "web", "--target", "10.0.0.5")
    assert "named twice" in refused("rollover", "web", "--target", "a:1", "--target", "a:1")
    assert "write 'targets' instead of 'command'" in refused("rollover", "own", "--target", "10.0.0.5:80")
    assert "leave --env out" in refused("rollover", "web", "--env", "A=1")
    assert "leave --env out" in refused("rollover", "web", "--env", "A=1", "--dry-run")
    assert "rollover web --target ADDRESS" in refused("scale", "web", "2", expect=1)
    assert relayd.service("web")["generation"] == 1
    relayd.send(signal.SIGTTIN)
    event = relayd.wait_event("warning")
    assert "TTIN: service web has targets" in event["message"]
    relayd.wait_for(lambda s: s["instances"] == 2, "the other service has one more", name="own")
    assert relayd.service("web")["instances"] == 1

    plan = relayd.ctl_json("rollover", "web", "--target", "10.0.0.5:80", "--dry-run")["plan"]
    assert any("which somebody else runs: 10.0.0.5:80" in step for step in plan), plan


def test_pause_and_resume(relayd, run_app):
    app = run_app("a").wait_until_it_answers()
    relayd.start({"web": service(app.address)})
    relayd.ctl("pause")
    assert relayd.service()["phase"] == "paused"
    with http.connect(relayd.address) as link:
        http.ask(link)
        relayd.wait_for(lambda s: s["held"] == 1, "its client is held")
        relayd.ctl("resume")
        assert http.answer(link)[0] == 200
    assert processes.alive(app.process.pid), "nothing was done to what somebody else runs"


# ---- The configuration afterwards


def test_a_reload_keeps_the_target_of_a_rollover_and_hup_goes_back_to_the_file(relayd, run_app):
    apps = {name: run_app(name).wait_until_it_answers() for name in "abc"}

    def serves():
        return http.get(relayd.address)[1]["x-generation"]

    relayd.start({"web": service(apps["a"].address)})
    swap(relayd, apps["b"].address)
    assert serves() == "b"
    relayd.change(limits={"max_connections": 500})
    assert relayd.ctl_json("reload")["adjusted"] == ["web"]
    assert serves() == "b"
    relayd.change(health={"timeout": "4s"})  # needs a rollover, and says nothing of targets
    assert relayd.ctl_json("reload")["rolled_over"] == ["web"]
    assert serves() == "b"
    relayd.change(backend={"targets": [apps["c"].address]})
    assert relayd.ctl_json("reload")["rolled_over"] == ["web"]
    assert serves() == "c"
    swap(relayd, apps["b"].address)
    assert serves() == "b"
    assert relayd.ctl_json("rollover")["result"] == "done"
    assert serves() == "c"
    swap(relayd, apps["b"].address)
    before = relayd.service()["generation"]
    relayd.send(signal.SIGHUP)
    relayd.wait_for(lambda s: s["generation"] == before + 1, "HUP rolls over")
    assert serves() == "c"


def test_from_a_command_to_targets_and_back(relayd, run_app):
    app = run_app("a").wait_until_it_answers()
    own = {"command": [places.program("demo_app")], "instances": 2}
    relayd.start({"web": {**service(), "backend": own}})
    listen = relayd.config["services"]["web"]["listen"]
    relayd.write_config({"web": {**service(app.address), "listen": listen}})
    assert relayd.ctl_json("reload")["rolled_over"] == ["web"]
    assert http.get(relayd.address)[1]["x-generation"] == "a"
    assert relayd.service()["instances"] == 1
    relayd.write_config({"web": {**service(), "backend": own, "listen": listen}})
    assert relayd.ctl_json("reload")["rolled_over"] == ["web"]
    assert http.get(relayd.address)[1]["x-generation"] == "3"
    relayd.wait_for(lambda s: s["instances"] == 2, "both instances")
