"""relayctl: verbs, exit codes, --json; who may use the control socket, and what a hostile client can do to it."""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios

import pytest

from harness import apps, control, http, places, processes


def test_status(relayd):
    relayd.start({"web": apps.demo()})
    text = relayd.ctl("status").stdout
    assert "web" in text and "serving" in text
    document = relayd.ctl_json("status", "web")
    assert document["services"][0]["generations"][0]["instances"][0]["state"] == "ready"
    assert document["pid"] == relayd.process.pid
    relayd.ctl("status", "nosuch", expect=2)


def test_status_watch_goes_on_until_interrupted(relayd):
    relayd.start({"web": apps.demo()})
    watch = relayd.begin("status", "--watch", "--json")
    for _ in range(2):
        assert json.loads(watch.stdout.readline())["services"][0]["name"] == "web"
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=20)
    assert watch.returncode in (0, 130)


def test_usage_and_nobody_there(relayd):
    assert relayd.ctl("nonsense", expect=2).stderr
    relayd.ctl("rollover", "--mode", "warm", expect=2)
    assert relayd.socket in relayd.ctl("status", expect=3).stderr


def test_the_socket_by_environment(relayd):
    relayd.start({"web": apps.demo()})
    environment = {**os.environ, "RELAYD_SOCKET": relayd.socket}
    ended = subprocess.run([places.program("relayctl"), "status"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0 and "web" in ended.stdout


def test_dry_run_does_nothing(relayd):
    relayd.start({"web": apps.demo()})
    planned = relayd.ctl_json("rollover", "--dry-run", "--mode", "hot")
    assert planned["result"] == "planned" and planned["plan"]
    assert relayd.service()["generation"] == 1


def test_pause_and_resume(relayd):
    relayd.start({"web": apps.demo()})
    relayd.ctl("pause")
    assert relayd.service()["phase"] == "paused"
    with http.connect(relayd.address) as held:
        http.ask(held)
        relayd.wait_for(lambda s: s["held"] == 1, "a client is held")
        relayd.ctl("resume")
        assert http.answer(held)[0] == 200


def test_scale(relayd):
    relayd.start({"web": apps.demo()})
    relayd.ctl("scale", "3")
    assert {http.get_json(relayd.address)["instance"] for _ in range(40)} == {0, 1, 2}
    relayd.ctl("scale", "web", "1")
    relayd.wait_for(lambda s: len(s["generations"][0]["instances"]) == 1 or count_ready(s) == 1, "one is left")
    relayd.ctl("scale", "0", expect=2)
    relayd.rollover()
    assert count_ready(relayd.service()) >= 1


def count_ready(service):
    return sum(i["state"] == "ready" for g in service["generations"] for i in g["instances"])


def test_reload_rolls_over_only_what_changed(relayd):
    relayd.start({"web": apps.demo(), "api": apps.demo()})
    relayd.wait_for(lambda service: service["phase"] == "serving", "the second serves", name="api")
    assert sorted(relayd.ctl_json("reload")["unchanged"]) == ["api", "web"]
    relayd.change("api", backend={"env": {"NEW": "1"}})
    result = relayd.ctl_json("reload")
    assert (result["rolled_over"], result["unchanged"]) == (["api"], ["web"])
    assert (relayd.service("api")["generation"], relayd.service("web")["generation"]) == (2, 1)
    relayd.change("web", rollover={"graceful_timeout": "7s"})
    assert relayd.ctl_json("reload")["adjusted"] == ["web"]
    relayd.config_file.write_text("nonsense: 1\n")
    assert "1:1" in relayd.ctl("reload", expect=1).stderr


def test_reload_adds_and_removes_services(relayd):
    services = {"web": apps.demo()}
    relayd.start(services)
    new = apps.demo(listen=[f"127.0.0.1:{places.free_port()}"])
    relayd.write_config({**services, "api": new})
    assert relayd.ctl_json("reload")["added"] == ["api"]
    relayd.wait_for(lambda service: service["phase"] == "serving", "the new one serves", name="api")
    assert http.get_json(new["listen"][0])["service"] == "api"
    relayd.write_config({"web": services["web"]})
    assert relayd.ctl_json("reload")["removed"] == ["api"]
    processes.wait_until(lambda: len(relayd.status()["services"]) == 1, "it is gone")
    processes.wait_until(lambda: refuses(new["listen"][0]), "nobody listens there any more")


def refuses(address):
    try:
        http.connect(address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_connections(relayd):
    relayd.start({"web": apps.demo()})
    with http.connect(relayd.address) as link:
        http.ask(link, close=False)
        http.answer(link)
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "it is connected")
        (entry,) = relayd.ctl_json("connections", "--generation", "1")["connections"]
        assert entry["client"] == "%s:%d" % link.getsockname()
        assert entry["bytes_in"] > 0 and entry["bytes_out"] > 0
        assert relayd.ctl_json("connections", "--generation", "7")["connections"] == []
        assert entry["client"] in relayd.ctl("connections").stdout


def test_events(relayd):
    relayd.start({"web": apps.demo()})
    follow = relayd.begin("events", "--follow", "--json")
    relayd.rollover(until="drained")
    types = []
    while "rollover_done" not in types or "generation_stopped" not in types:
        event = json.loads(follow.stdout.readline())
        assert event["sequence"] > 0 and event["unix_ms"] > 0
        types.append(event["type"])
    follow.terminate()
    follow.communicate(timeout=20)
    order = ["rollover_started", "generation_starting", "generation_ready", "switched", "draining", "drained"]
    places_of = [max(i for i, t in enumerate(types) if t == wanted) for wanted in order]
    assert places_of == sorted(places_of), types
    assert "rollover_done" in relayd.ctl("events").stdout


def on_a_terminal(command, seconds=60):
    """What a person sees: the output of a command whose standard output is a terminal of 80 columns, and its exit code."""
    try:
        master, slave = pty.openpty()
    except OSError:
        pytest.skip("no /dev/pts here: the live view of relayctl was not tested")
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    shown = b""
    while select.select([master], [], [], seconds)[0]:
        try:
            shown += os.read(master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            break
    os.close(master)
    return shown.decode(), process.wait(seconds)


def test_live_progress_on_a_terminal_and_a_line_per_change_without(relayd):
    relayd.start({"web": apps.demo(rollover={"graceful_timeout": "2s"})})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=250000")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        shown, status = on_a_terminal(relayd.ctl_command("rollover", "--until", "drained"))
    assert status == 0
    assert "\x1b[" in shown, "it is drawn anew in place"
    for word in ("generation 2", "drain", "1 connection"):
        assert word in shown, shown
    plain = relayd.ctl("rollover", "--until", "drained").stdout
    assert "\x1b" not in plain and len(plain.splitlines()) >= 3, plain


def test_stop(relayd):
    relayd.start({"web": apps.demo()})
    relayd.ctl("stop")
    assert relayd.wait_end() == 0


def test_stop_now(relayd):
    relayd.start({"web": apps.demo(rollover={"graceful_timeout": "300s"})})
    with http.connect(relayd.address) as link:
        http.ask(link, "/slow?ms=250000")
        relayd.wait_for(lambda s: relayd.generation(1)["connections"] == 1, "a request is under way")
        relayd.ctl("stop", "--now")
        assert relayd.wait_end(30) == 0


@pytest.mark.parametrize("verb", ["promote", "rollback", "doctor"])
def test_what_is_not_built_yet_is_refused_with_a_word(relayd, verb):
    relayd.start({"web": apps.demo()})
    assert "not in this version" in relayd.ctl(verb, expect=2).stderr


@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_another_user_is_not_permitted(relayd, is_root, mode):
    """By the file's mode, and by SO_PEERCRED where the mode lets everybody connect."""
    if not is_root:
        pytest.skip("only root can become another user")
    relayd.start({"web": apps.demo()}, control={"socket": relayd.socket, "mode": mode})
    relayctl = relayd.folder / "relayctl"  # the build may be where nobody may look
    shutil.copy(places.program("relayctl"), relayctl)
    relayctl.chmod(0o755)
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    ended = subprocess.run(
        [*as_nobody, relayctl, "--socket", relayd.socket, "status"], capture_output=True, text=True, cwd="/"
    )
    assert ended.returncode == 6, ended


def test_a_group_may_be_let_in(relayd, is_root):
    if not is_root:
        pytest.skip("only root can become another user")
    relayd.start({"web": apps.demo()}, control={"socket": relayd.socket, "mode": "0660", "group": "nogroup"})
    relayctl = relayd.folder / "relayctl"
    shutil.copy(places.program("relayctl"), relayctl)
    relayctl.chmod(0o755)
    as_member = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    ended = subprocess.run([*as_member, relayctl, "--socket", relayd.socket, "status"], capture_output=True, text=True, cwd="/")
    assert ended.returncode == 0, ended


HOSTILE = [
    b"\n",
    b"\0" * 4096 + b"\n",
    b"{" * 100_000 + b"\n",
    b"[" * 5000 + b"]" * 5000 + b"\n",
    b'{"jsonrpc":"2.0","id":1,"method":"no.such"}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"nonsense":1}}\n',
    b'{"jsonrpc":"2.0","id":{"a":1},"method":"status"}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"scale","params":{"instances":-1}}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"rollover","params":{"env":{"A=B\\u0000":"x"}}}\n',
    b'{"jsonrpc":"2.0","id":1,"method":"sta',  # half a message, then gone
    b"\xff\xfe\xfd\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"x" * (8 << 20),  # a line without an end
]


def test_hostile_messages_harm_nobody(relayd):
    relayd.start({"web": apps.demo()})
    for message in HOSTILE:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(relayd.socket)
            try:
                link.sendall(message)
                link.shutdown(socket.SHUT_WR)
                while link.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert relayd.status()["services"][0]["phase"] == "serving", message[:60]
    assert relayd.service()["generation"] == 1
    assert relayd.service()["instances"] == 1


def test_errors_are_told_as_json_rpc_does(relayd):
    relayd.start({"web": apps.demo()})
    for method, params, code in [
        ("no.such", {}, -32601),
        ("status", {"nonsense": 1}, -32602),
        ("status", {"service": "nosuch"}, -32003),
        ("promote", {}, -32004),
    ]:
        with pytest.raises(control.ControlError) as error:
            control.call(relayd.socket, method, **params)
        assert error.value.code == code, method


def test_a_client_that_never_reads_is_dropped_and_nobody_waits(relayd):
    relayd.start({"web": apps.demo()})
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.settimeout(5)
        deaf.connect(relayd.socket)
        try:
            for _ in range(20000):
                deaf.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status","params":{}}\n')
        except OSError:
            pass
        assert relayd.status()["services"][0]["phase"] == "serving"
        assert relayd.rollover()["result"] == "done"


def test_many_control_clients(relayd):
    """More than relayd serves at once: some are turned away, relayctl works again once they are gone."""
    relayd.start({"web": apps.demo()})
    links = []
    for _ in range(300):
        link = socket.socket(socket.AF_UNIX)
        link.setblocking(False)
        links.append(link)
        try:
            link.connect(relayd.socket)
        except BlockingIOError:
            pass
    assert http.get_json(relayd.address)["generation"] == 1
    for link in links:
        link.close()
    processes.wait_until(lambda: relayd.ctl("status", expect=None).returncode == 0, "relayctl is served again")


def test_a_second_relayd_does_not_take_the_socket(relayd):
    relayd.start({"web": apps.demo()})
    other = subprocess.run(
        [places.program("relayd"), "--listen", f"127.0.0.1:{places.free_port()}", "--control", relayd.socket, "--", "sleep", "9"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert other.returncode == 3 and relayd.socket in other.stderr, other
    assert relayd.status()["pid"] == relayd.process.pid
