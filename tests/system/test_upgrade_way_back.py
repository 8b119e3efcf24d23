"""A new executable that has rehearsed well and fails when it takes over, and those of other releases."""

import pytest

from harness import places, upgrades


@pytest.mark.parametrize("fault", ["crash", "overflow", "throw", "hang", "exit", "abort"])
def test_way_back(relayd, fault):
    """The new executable has rehearsed well, and fails when it takes over: the old one is back, with everything."""
    if not (places.bin_dir() / "relayd_faulty").exists():
        pytest.skip("relayd_faulty was not built: the way back was not tested")
    faulty = places.program("relayd_faulty")
    with upgrades.crowd_that_loses_nothing(relayd, prefix=["env", f"RELAYD_FAULT={fault}"]) as crowd:
        for _ in range(1 if fault == "hang" else 2):
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
    with upgrades.crowd_that_loses_nothing(relayd, prefix=["env", "RELAYD_FAULT=older"]) as crowd:
        for binary in (faulty, places.program("relayd")):
            upgrades.upgrade(relayd, crowd, binary)


def test_a_release_that_reads_no_state_of_today(relayd):
    faulty = places.program("relayd_faulty")
    with upgrades.crowd_that_loses_nothing(relayd, prefix=["env", "RELAYD_FAULT=ancient"]):
        said = relayd.upgrade(faulty, expect=1)
        assert faulty in said and "it has version" in said, said
