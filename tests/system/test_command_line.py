"""relayd's command line: both forms, --check, exit codes."""

import json
import socket
import subprocess

import pytest

from harness import apps, http, places


def relayd_says(*arguments, expect):
    ended = subprocess.run([places.program("relayd"), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == expect, (ended.returncode, ended.stdout, ended.stderr)
    return ended.stdout + ended.stderr


def test_help_and_version():
    assert "--config" in relayd_says("--help", expect=0)
    assert relayd_says("--version", expect=0).startswith("relayd ")


@pytest.mark.parametrize(
    "arguments",
    [[], ["--nonsense"], ["--listen", ":0"], ["--config", "a", "--listen", ":1", "--", "app"], ["--", "app"]],
)
def test_bad_usage_exits_with_2(arguments):
    assert "relayd" in relayd_says(*arguments, expect=2)


GOOD = """\
services:
  web:
    listen: "127.0.0.1:8080"
    backend:
      command: [app, "{address}"]
    rollover:
      mode: hot
      graceful_timeout: 5s
"""

WRONG = [
    # (text to replace, replacement, line:column, words)
    ("graceful_timeout", "graceful_timout", "8:7", ["graceful_timout", "graceful_timeout"]),
    ("mode: hot", "mode: hott", "7:13", ["hot"]),
    ("graceful_timeout: 5s", "graceful_timeout: 5 apples", "8:25", ["5 apples"]),
    ("      mode: hot\n", "      mode: hot\n      mode: hot\n", "8:7", ["mode"]),
    ("{address}", "{adress}", "5:", ["adress", "address"]),
    ("mode: hot", "monitor: 10s", "7:", ["monitor"]),  # of the contract, not built yet
    ("backend:", "backend: [", None, []),
]


def test_check_of_a_good_file(tmp_path):
    file = tmp_path / "relayd.yaml"
    file.write_text(GOOD.replace('"127.0.0.1:8080"', '["127.0.0.1:8080"]'))
    relayd_says("--check", "--config", file, expect=0)


@pytest.mark.parametrize("old, new, place, words", WRONG)
def test_check_names_file_line_column_and_the_key_meant(tmp_path, old, new, place, words):
    file = tmp_path / "relayd.yaml"
    text = GOOD.replace('"127.0.0.1:8080"', '["127.0.0.1:8080"]').replace(old, new)
    file.write_text(text)
    said = relayd_says("--check", "--config", file, expect=1)
    if place:
        assert f"{file}:{place}" in said, said
    for word in words:
        assert word in said
    assert relayd_says("--config", file, expect=2) == said, "the same, without --check"


def test_a_missing_file():
    assert "/nonexistent/relayd.yaml" in relayd_says("--check", "--config", "/nonexistent/relayd.yaml", expect=1)


def test_an_address_that_is_taken_exits_with_3(relayd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        relayd.start({"web": apps.demo(listen=[address])}, wait=False)
        assert relayd.wait_end() == 3
    assert address in relayd.log()


def test_one_line_in_front_of_any_command(relayd):
    relayd.start_by_flags("--health-path", "/up", "--instances", "2", "--mode", "hot", "--", places.program("demo_app"))
    assert {http.get_json(relayd.address)["instance"] for _ in range(20)} == {0, 1}
    service = relayd.service()
    assert (service["name"], service["mode"]) == ("default", "hot")
    assert relayd.rollover()["mode"] == "hot"
    assert http.get_json(relayd.address)["generation"] == 2


def test_one_line_with_a_template(relayd):
    relayd.start_by_flags(
        "--health-path", "/", "--", "/usr/bin/gunicorn", "--chdir", str(places.APPS), "wsgi_app:application", "--bind", "{address}"
    )
    assert http.get_json(relayd.address)["generation"] == 1
    relayd.rollover()
    assert http.get_json(relayd.address)["generation"] == 2


def test_ipv6_and_every_address(relayd):
    port = places.free_port()
    relayd.start({"web": apps.demo(listen=[f":{port}"])})
    for address in (f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert http.get_json(address)["generation"] == 1


def test_unix_socket_listener_and_socket_address(relayd):
    path = relayd.folder / "web.sock"
    relayd.start({"web": apps.demo(listen=[f"unix:{path}"], backend={"address": "socket"})})
    address = f"unix:{path}"
    assert http.get_json(address)["generation"] == 1
    before = relayd.service()["generations"][0]["instances"][0]["address"]
    assert before.startswith("unix:")
    relayd.rollover(until="drained")
    assert http.get_json(address)["generation"] == 2
    assert relayd.service()["generations"][0]["instances"][0]["address"] != before
    relayd.stop()
    assert not path.exists()


def test_several_services_in_one_file(relayd):
    services = {"web": apps.demo(), "api": apps.demo(backend={"address": "socket"})}
    relayd.start(services)
    relayd.wait_for(lambda service: service["phase"] == "serving", "the second serves", name="api")
    relayd.ctl("rollover", "api")
    assert relayd.service("api")["generation"] == 2
    assert relayd.service("web")["generation"] == 1
    assert http.get_json(services["api"]["listen"][0])["service"] == "api"
    relayd.ctl("rollover", expect=2)  # which one?
    assert "api" in relayd.ctl("rollover", "apii", expect=2).stderr


def test_json_configuration_is_yaml_too(tmp_path):
    file = tmp_path / "relayd.yaml"
    file.write_text(json.dumps({"services": {"web": {"listen": [":8080"], "backend": {"command": ["app"]}}}}))
    relayd_says("--check", "--config", file, expect=0)
