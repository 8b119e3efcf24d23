"""An upgrade that cannot be: relayctl exits with 1 and says why, naming the executable; relayd and every connection go on as if
nothing had been asked, and the next upgrade, to a good one, succeeds."""

import contextlib
import os
import resource
import signal
import threading
import time

import pytest

from harness import living, places, processes, upgrades

LIMIT_SECONDS = 10  # that a new executable has for its rehearsal
HALF_A_PAGE = 2048


@contextlib.contextmanager
def living_crowd(relayd, prefix=(), persistent=False):
    """relayd with a crowd; at the end a good upgrade, and nothing lost. `persistent`: nobody makes a new connection, and relayd
    none of its own."""
    health = {"health": {"interval": "0s"}} if persistent else {}
    services = {name: service for name, service in living.services(**health).items() if name in ("web", "raw")}
    relayd.start(services, threads=2, prefix=prefix)
    before = upgrades.instances(relayd), set(processes.children(relayd.pid)), relayd.status()["pid"]
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        if persistent:
            for kind in ("ping_pong", "idle"):
                crowd.open(kind, 10, services["raw"]["listen"][0])
            crowd.open("websocket", 10, relayd.address)
        else:
            crowd.mixed(30, **living.addresses(services, "web", "raw"))
        yield crowd
        crowd.round()
        assert relayd.process.poll() is None
        assert (upgrades.instances(relayd), relayd.status()["pid"]) == (before[0], before[2])
        processes.wait_until(lambda: set(processes.children(relayd.pid)) == before[1], "nothing is left of what was tried", 5)
        upgrades.upgrade(relayd, crowd, places.program("relayd"))
        report = crowd.finish()
    living.assert_nothing_lost(report)


def script(relayd, text, mode=0o755):
    path = relayd.folder / "new-relayd"
    path.write_text(text)
    path.chmod(mode)
    return path


def directory(relayd):
    path = relayd.folder / "new-relayd"
    path.mkdir()
    return path


# What the new executable is, and words of the reason beside its name.
IMAGES = {
    "another program": (lambda relayd: "/bin/true", ()),
    "exits": (lambda relayd: script(relayd, "#!/bin/sh\necho no library >&2\nexit 3\n"), ("exit status 3", "no library")),
    "crashes": (lambda relayd: script(relayd, "#!/bin/sh\nkill -SEGV $$\n"), ("SEGV",)),
    "hangs": (lambda relayd: script(relayd, "#!/bin/sh\nexec sleep 1000\n"), (str(LIMIT_SECONDS),)),
    "hangs, with children": (lambda relayd: script(relayd, "#!/bin/sh\nsleep 1000\nexit 1\n"), (str(LIMIT_SECONDS),)),
    "answers nonsense": (lambda relayd: script(relayd, "#!/bin/sh\nhead -c 99999 /dev/zero | tee /dev/stderr\n"), ()),
    "not executable": (lambda relayd: script(relayd, "#!/bin/sh\n", mode=0o644), ("ermission",)),
    "no program": (lambda relayd: script(relayd, "\x7fELF and no more\n"), ()),
    "missing": (lambda relayd: relayd.folder / "missing", ("No such file",)),
    "a directory": (directory, ()),
}


@pytest.mark.parametrize("image", IMAGES)
def test_a_bad_executable(relayd, image):
    make, words = IMAGES[image]
    with living_crowd(relayd) as crowd:
        path = make(relayd)
        known, began = relayd.last_sequence(), time.monotonic()
        with crowd.watching() as silence:
            said = relayd.upgrade(path, expect=1, seconds=LIMIT_SECONDS * 3)
            crowd.round()
        took = time.monotonic() - began
        assert str(path) in said, said
        for word in words:
            assert word in said, said
        if "hangs" in image:
            assert took >= LIMIT_SECONDS - 1, (took, said)
        assert silence["ms"] < LIMIT_SECONDS * 500, "clients do not wait for a rehearsal"
        assert str(path) in relayd.wait_event("upgrade_failed", after=known)["message"]


def test_a_bad_executable_at_usr2(relayd):
    """The one that runs has gone from its path, and something else is there."""
    with living_crowd(relayd) as crowd:
        other = upgrades.another_binary(relayd)
        upgrades.upgrade(relayd, crowd, other)
        os.unlink(other)
        script(relayd, "#!/bin/sh\nexit 3\n").rename(other)
        known = relayd.last_sequence()
        relayd.send(signal.SIGUSR2)
        assert str(other) in relayd.wait_event("upgrade_failed", after=known)["message"]


@pytest.mark.parametrize("wrong", ["{ not yaml", '{"services": {"web": {"lissten": [":1"]}}}'])
def test_a_configuration_that_is_broken_at_that_moment(relayd, wrong):
    with living_crowd(relayd):
        good = relayd.config_file.read_text()
        relayd.config_file.write_text(wrong)
        said = relayd.upgrade(expect=1)
        assert f"{relayd.config_file}:1:" in said, said
        relayd.config_file.write_text(good)


def test_the_rehearsing_process_is_killed(relayd):
    with living_crowd(relayd):
        path = script(relayd, "#!/bin/sh\nwhile :; do sleep 0.1; done\n")
        upgrade = relayd.begin("upgrade", "--binary", str(path))
        victim = processes.wait_until(lambda: rehearsing(relayd), "it rehearses")
        began = time.monotonic()
        processes.kill(victim)
        output, errors = upgrade.communicate(timeout=60)
        assert upgrade.returncode == 1, (output, errors)
        assert time.monotonic() - began < LIMIT_SECONDS - 2, "its end is noticed, not waited for"
        assert str(path) in output + errors and "KILL" in output + errors


def rehearsing(relayd):
    """The child of relayd's that rehearses, by its environment."""
    for pid in processes.children(relayd.pid):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as file:
                if b"\0RELAYD_REHEARSE=" in b"\0" + file.read():
                    return pid
    return None


def test_no_descriptors_left(relayd):
    with living_crowd(relayd, persistent=True) as crowd:
        relayd.upgrade(relayd.folder / "missing", expect=1)  # UBSan looks at memory through a pipe, once for each type
        first_free, next_free = upgrades.free_numbers(relayd, 2)  # one is for relayctl's own connection
        with upgrades.Limited(relayd, resource.RLIMIT_NOFILE, next_free):
            said = relayd.upgrade(expect=1)
            assert "descriptor" in said or "Too many open files" in said, (first_free, said)
            crowd.round()


def test_no_room_for_the_state(relayd):
    """RLIMIT_FSIZE counts for a memfd too, and going beyond it is a signal that kills whoever is not prepared."""
    reading, writing = os.pipe()  # the log must not be a file then
    relayd.output = writing
    copier = threading.Thread(target=copy, args=(reading, relayd.stderr_file), daemon=True)
    copier.start()
    try:
        with living_crowd(relayd) as crowd:
            with upgrades.Limited(relayd, resource.RLIMIT_FSIZE, HALF_A_PAGE):
                said = relayd.upgrade(expect=1)
                assert "File too large" in said or "EFBIG" in said, said
                crowd.round()
        relayd.stop()
    finally:
        os.close(writing)
        copier.join(10)
        os.close(reading)


def copy(reading, path):
    with open(path, "ab", buffering=0) as file:
        while piece := os.read(reading, 65536):
            file.write(piece)


@pytest.mark.parametrize("fault", ["crash", "overflow", "throw", "hang", "exit", "abort"])
def test_way_back(relayd, fault):
    """The new executable has rehearsed well, and fails when it takes over: the old one is back, with everything."""
    if not (places.bin_dir() / "relayd_faulty").exists():
        pytest.skip("relayd_faulty was not built: the way back was not tested")
    faulty = places.program("relayd_faulty")
    with living_crowd(relayd, prefix=["env", f"RELAYD_FAULT={fault}"]) as crowd:
        for _ in range(2):
            known = relayd.last_sequence()
            with crowd.watching() as silence:
                said = relayd.upgrade(faulty, expect=1, seconds=60)
                crowd.round()
            assert faulty in said, said
            assert faulty in relayd.wait_event("upgrade_failed", after=known)["message"]
            assert upgrades.running_binary(relayd) == places.program("relayd")
            print(f"  {fault}: {silence['ms']} ms of silence ({silence['kind']}); {said.strip()}")


def test_to_the_release_before_and_back(relayd):
    """One that reads only the state of the version before is given that one."""
    faulty = places.program("relayd_faulty")
    with living_crowd(relayd, prefix=["env", "RELAYD_FAULT=older"]) as crowd:
        for binary in (faulty, places.program("relayd")):
            upgrades.upgrade(relayd, crowd, binary)


def test_a_release_that_reads_no_state_of_today(relayd):
    faulty = places.program("relayd_faulty")
    with living_crowd(relayd, prefix=["env", "RELAYD_FAULT=ancient"]):
        said = relayd.upgrade(faulty, expect=1)
        assert faulty in said and "it has version" in said, said
