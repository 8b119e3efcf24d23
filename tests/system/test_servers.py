"""Real servers that know nothing of relayd."""

import subprocess

import pytest

from harness import apps, http
from harness.load import Load, assert_nothing_lost


def host_and_port(address):
    host, _, port = address.rpartition(":")
    return host, port


def roll_over_under_load(relayd, load, modes):
    relayd.wait_for(lambda service: service["accepted"] > 200, "clients are being served")
    for mode in modes:
        assert relayd.rollover(mode, until="drained")["result"] == "done"
        before = relayd.service()["accepted"]
        relayd.wait_for(lambda service: service["accepted"] > before + 100, "the new generation serves")
    return load.finish()


MODES = ["phased", "hot", "phased", "hot"]


def test_nginx(relayd):
    relayd.start({"web": apps.nginx(relayd.folder)})
    with Load(relayd.address, options=["--check", "length"]) as load:
        report = roll_over_under_load(relayd, load, MODES)
    assert_nothing_lost(report, at_least=1000)
    assert set(report["generations"]) == {"1", "2", "3", "4", "5"}


def test_node(relayd):
    relayd.start({"web": apps.node()})
    with Load(relayd.address) as load:
        report = roll_over_under_load(relayd, load, MODES)
    assert_nothing_lost(report, at_least=1000)
    assert set(report["generations"]) == {"1", "2", "3", "4", "5"}


def test_redis_with_new_connections(relayd):
    relayd.start({"redis": apps.redis()})
    with Load(relayd.address, options=["--protocol", "redis"]) as load:
        report = roll_over_under_load(relayd, load, MODES)
    assert_nothing_lost(report, at_least=1000)


def redis(link, *words):
    link.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
    return link.recv(4096)


def test_a_redis_connection_lives_on_while_the_old_generation_drains(relayd):
    relayd.start({"redis": apps.redis()})
    with http.connect(relayd.address) as old:
        assert redis(old, b"SET", b"who", b"first") == b"+OK\r\n"
        relayd.rollover("phased")
        with http.connect(relayd.address) as new:
            assert redis(new, b"GET", b"who") == b"$-1\r\n"
        assert redis(old, b"GET", b"who") == b"$5\r\nfirst\r\n"
    relayd.wait_event("generation_stopped", generation=1)


def test_a_held_redis_connection_is_answered_by_the_new_generation(relayd):
    relayd.start({"redis": apps.redis(rollover={"mode": "hot"})})
    with http.connect(relayd.address) as old:
        assert redis(old, b"SET", b"who", b"first") == b"+OK\r\n"
        rollover = relayd.begin_rollover()
        relayd.wait_for(lambda service: service["holding"], "new clients are held")
        with http.connect(relayd.address) as held:
            held.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nwho\r\n")
            relayd.wait_for(lambda service: service["held"] == 1, "it is held")
            assert redis(old, b"GET", b"who") == b"$5\r\nfirst\r\n"
            old.close()
            assert held.recv(100) == b"$-1\r\n"
    assert rollover.wait(30) == 0
    rollover.communicate()


@pytest.mark.parametrize("mode", ["phased", "hot"])
def test_redis_benchmark_runs_through_a_rollover(relayd, mode):
    relayd.start({"redis": apps.redis(rollover={"graceful_timeout": "60s"})})
    host, port = host_and_port(relayd.address)
    benchmark = subprocess.Popen(
        ["/usr/bin/redis-benchmark", "-h", host, "-p", port, "-c", "20", "-n", "10000", "-t", "ping,set,get", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    relayd.wait_for(lambda service: service["accepted"] >= 20, "the benchmark has begun")
    relayd.rollover(mode)
    output, _ = benchmark.communicate(timeout=120)
    assert benchmark.returncode == 0, output
    assert "rror" not in output, output
    assert output.count("requests per second") >= 3, output
