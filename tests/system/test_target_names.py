"""Targets that are found by name: followed as the name's addresses change, without a rollover."""

import signal
import subprocess

from harness import containers, places
from harness.load import Load, assert_nothing_lost
from harness.targets import instances, service, swap


def test_a_name_in_the_hosts_file_is_followed_without_a_rollover(relayd, container_network, run_app):
    boxes = [
        run_app(name, address=address, prefix=prefix)
        for name, address, prefix in zip("ab", container_network.addresses, container_network.prefixes, strict=True)
    ]
    hosts = [f"{address.partition(':')[0]} app.test\n" for address in container_network.addresses]
    container_network.etc_file("hosts", hosts[0])
    name = f"app.test:{containers.PORT}"
    relayd.start({"web": service(name, listen=[f"{container_network.HOST}:8080"])}, prefix=container_network.host)
    (instance,) = instances(relayd)
    assert (instance["target"], instance["addresses"]) == (name, [container_network.addresses[0]])
    assert f"{name} = {container_network.addresses[0]}" in relayd.ctl("status", "web").stdout

    with Load(relayd.address, clients=16, options=["--keep-alive"], prefix=container_network.host) as load:
        relayd.wait_for(lambda s: s["requests"] > 100, "clients are being served")
        seen = relayd.last_sequence()
        container_network.etc_file("hosts", hosts[1])
        event = relayd.wait_event("target_addresses", after=seen)
        assert event["message"] == f"{name} is {container_network.addresses[1]}"
        before = relayd.service()["requests"]
        relayd.wait_for(lambda s: s["requests"] > before + 200, "the new address serves")
        report = load.finish()
    assert_nothing_lost(report)
    assert set(report["generations"]) == {"a", "b"}
    assert relayd.service()["generation"] == 1, "without a rollover"
    assert instances(relayd)[0]["addresses"] == [container_network.addresses[1]]

    seen = relayd.last_sequence()
    container_network.etc_file("hosts", "".join(hosts))
    relayd.wait_event("target_addresses", after=seen)
    assert instances(relayd)[0]["addresses"] == container_network.addresses, "a name with two addresses"
    for box in boxes:
        box.remove()
    relayd.wait_event("instance_unhealthy", after=seen)
    relayd.wait_for(lambda s: s["holding"], "clients are held")


def test_a_name_is_asked_for_again_as_its_records_expire(relayd, container_network, run_app):
    for name, address, prefix in zip("ab", container_network.addresses, container_network.prefixes, strict=True):
        run_app(name, address=address, prefix=prefix)
    hosts = [address.partition(":")[0] for address in container_network.addresses]
    zone = relayd.folder / "zone"

    def answer_with(ttl, *addresses):
        new = zone.with_suffix(".new")
        new.write_text(" ".join(["app.test", str(ttl), *addresses]))
        new.rename(zone)

    answer_with(1, hosts[0])
    container_network.etc_file("resolv.conf", "nameserver 127.0.0.1\n")
    container_network.etc_file("hosts", "127.0.0.1 localhost\n")
    server = subprocess.Popen(
        [*container_network.host, places.PYTHON, "-B", str(places.APPS / "name_server.py"), str(zone)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout.readline() == "listening\n"
        name = f"app.test:{containers.PORT}"
        relayd.start({"web": service(name, listen=[f"{container_network.HOST}:8080"])}, prefix=container_network.host)
        seen = relayd.last_sequence()
        answer_with(1, hosts[1])
        event = relayd.wait_event("target_addresses", after=seen)
        assert container_network.addresses[1] in event["message"] and container_network.addresses[0] not in event["message"]

        answer_with(1)  # the name is gone: what is known of it stays
        event = relayd.wait_event("target_unresolved", after=seen)
        assert "cannot resolve app.test: " in event["message"]
        assert "last known addresses are kept" in event["message"]
        (instance,) = instances(relayd)
        assert (instance["state"], instance["addresses"]) == ("ready", [container_network.addresses[1]])
        assert "cannot resolve app.test" in instance["note"]

        answer_with(1, hosts[0])
        relayd.wait_event("target_resolved", after=seen)
        relayd.wait_for(lambda _: instances(relayd)[0]["addresses"] == [container_network.addresses[0]], "and back")

        # A name that stands for nothing fails its rollover, with the name server's answer.
        relayd.change(health={"ready_timeout": "500ms"})
        failed = swap(relayd, "gone.test:80", expect=1)
        assert "target gone.test:80: cannot resolve gone.test: " in failed["reason"], failed
        # relayd's end does not wait for a name server that says nothing.
        answer_with(-1)
        assert server.stdout.readline() == "unanswered\n"
        relayd.stop(number=signal.SIGINT, seconds=5)
    finally:
        server.kill()
        server.wait(10)
        server.stdout.close()
