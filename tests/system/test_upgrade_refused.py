"""An upgrade that cannot be: relayctl exits with 1 and says why, naming the executable; relayd and every connection go on as if
nothing had been asked, and the next upgrade, to a good one, succeeds."""

import contextlib
import os
import resource
import signal
import threading
import time

import pytest

from harness import places, processes, upgrades

LIMIT_SECONDS = 10  # that a new executable has for its rehearsal
HALF_A_PAGE = 2048


def script(relayd, text, mode=0o755):
    path = relayd.folder / "new-relayd"
    path.write_text(text)
    path.chmod(mode)
    return path


def lowers_the_limit(relayd):
    return script(relayd, f'#!/bin/sh\nulimit -n 64\nexec {places.program("relayd")} "$@"\n')


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
    "has fewer descriptors": (lowers_the_limit, ("fewer open files (64)", "ulimit -n")),
    "missing": (lambda relayd: relayd.folder / "missing", ("No such file",)),
    "a directory": (directory, ()),
}


@pytest.mark.parametrize("image", IMAGES)
def test_a_bad_executable(relayd, image):
    make, words = IMAGES[image]
    with upgrades.crowd_that_loses_nothing(relayd) as crowd:
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
    with upgrades.crowd_that_loses_nothing(relayd) as crowd:
        other = upgrades.another_binary(relayd)
        upgrades.upgrade(relayd, crowd, other)
        os.unlink(other)
        script(relayd, "#!/bin/sh\nexit 3\n").rename(other)
        known = relayd.last_sequence()
        relayd.send(signal.SIGUSR2)
        assert str(other) in relayd.wait_event("upgrade_failed", after=known)["message"]


@pytest.mark.parametrize("wrong", ["{ not yaml", '{"services": {"web": {"lissten": [":1"]}}}'])
def test_a_configuration_that_is_broken_at_that_moment(relayd, wrong):
    with upgrades.crowd_that_loses_nothing(relayd):
        good = relayd.config_file.read_text()
        relayd.config_file.write_text(wrong)
        said = relayd.upgrade(expect=1)
        assert f"{relayd.config_file}:1:" in said, said
        relayd.config_file.write_text(good)


def test_the_rehearsing_process_is_killed(relayd):
    with upgrades.crowd_that_loses_nothing(relayd):
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
    with upgrades.crowd_that_loses_nothing(relayd, persistent=True) as crowd:
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
        with upgrades.crowd_that_loses_nothing(relayd) as crowd:
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
