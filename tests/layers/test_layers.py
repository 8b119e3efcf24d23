"""Includes point downward only (proxy/DESIGN.md, "Layers"). Each folder lists the folders it may include."""

import pathlib
import re

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)

BASE = {"proxy/base"}
CONFIG = BASE | {"proxy/config"}
ROLLOVER = CONFIG | {"proxy/backend", "proxy/net", "proxy/rollover"}
# Of the control socket it knows only what is written down of it.
UPGRADE = ROLLOVER | {"proxy/steering", "control/protocol", "control/server", "proxy/upgrade"}
MAY_INCLUDE = {
    "proxy/base": BASE,
    "proxy/config": CONFIG,
    "proxy/backend": CONFIG | {"proxy/backend"},  # a sibling of net: neither sees the other
    "proxy/http": BASE | {"proxy/http"},  # pure: bytes in, boundaries out
    "proxy/net": CONFIG | {"proxy/http", "proxy/net"},
    "proxy/steering": BASE | {"proxy/steering"},  # the kernel's interfaces alone
    "proxy/rollover": ROLLOVER,
    "control/protocol": BASE | {"control/protocol"},
    "control/server": BASE | {"control/protocol", "control/server"},
    "control/relayctl": BASE | {"control/protocol", "control/relayctl"},
    "proxy/upgrade": UPGRADE,
    "proxy/daemon": UPGRADE | {"control/server", "proxy/daemon"},
    "proxy": UPGRADE | {"control/server", "proxy/daemon", "proxy"},  # main.cc
}


def faults(top):
    """Every include that the table does not allow, as "file includes header"."""
    found = []
    for part in ("proxy", "control"):
        for source in sorted((top / part).rglob("*")):
            if source.suffix not in (".h", ".cc"):
                continue
            folder = source.parent.relative_to(top).as_posix()
            allowed = MAY_INCLUDE.get(folder)
            if allowed is None:
                found.append(f"{folder} is not in the table of tests/layers")
                continue
            for header in INCLUDE.findall(source.read_text()):
                home = header.rpartition("/")[0]
                if home not in allowed:
                    found.append(f"{source.relative_to(top)} includes {header}")
    return found


def test_includes_point_downward():
    assert faults(TOP) == []


@pytest.mark.parametrize(
    "source, header",
    [
        ("proxy/base/loop.cc", "proxy/config/config.h"),
        ("proxy/net/worker.cc", "proxy/backend/instance.h"),
        ("proxy/backend/instance.cc", "proxy/net/route.h"),
        ("proxy/http/body.cc", "proxy/net/connection.h"),
        ("proxy/http/body.cc", "proxy/config/config.h"),
        ("proxy/steering/switch.cc", "proxy/net/route.h"),
        ("proxy/rollover/driver.cc", "proxy/steering/switch.h"),  # it knows an interface
        ("proxy/rollover/driver.cc", "proxy/daemon/daemon.h"),
        ("proxy/rollover/driver.cc", "control/protocol/messages.h"),
        ("control/relayctl/main.cc", "control/server/server.h"),
        ("control/server/server.cc", "proxy/config/config.h"),
        ("proxy/daemon/daemon.cc", "control/relayctl/main.h"),
        ("proxy/base/loop.cc", "loop.h"),  # headers are named from the top
    ],
)
def test_an_upward_or_sideways_include_is_found(tmp_path, source, header):
    file = tmp_path / source
    file.parent.mkdir(parents=True)
    (tmp_path / "control").mkdir(exist_ok=True)
    file.write_text(f'#include <vector>\n#include "{header}"\n')
    assert faults(tmp_path) == [f"{source} includes {header}"]


def test_a_downward_include_is_allowed(tmp_path):
    file = tmp_path / "proxy/rollover/driver.cc"
    file.parent.mkdir(parents=True)
    file.write_text('#include "proxy/net/route.h"\n#include "proxy/base/loop.h"\n')
    assert faults(tmp_path) == []
