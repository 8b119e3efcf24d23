import os
import pathlib
import resource
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import containers, namespaces  # noqa: E402  (found by the line above)
from harness.relayd import Relayd  # noqa: E402

LINES_OF_LOG = 150


def pytest_configure(config):
    config.addinivalue_line("markers", "threads: also run under ThreadSanitizer")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.passed = report.passed


@pytest.fixture
def relayd(request):
    """A relayd that the test starts. Afterwards it must end on TERM with 0, and leave nothing behind."""
    daemon = Relayd()
    clean = False
    try:
        yield daemon
        if getattr(request.node, "passed", False) and daemon.process is not None:
            if daemon.process.poll() is None:
                daemon.stop()
            else:
                daemon.assert_nothing_left()
        clean = getattr(request.node, "passed", True)
    finally:
        if not clean and daemon.stderr_file.exists():
            print(f"---- relayd's log (last {LINES_OF_LOG} lines)")
            print("\n".join(daemon.log().splitlines()[-LINES_OF_LOG:]))
        left = daemon.abandon()
        if not clean and left:
            print(f"---- ended by the test: {left}")


@pytest.fixture(scope="session", autouse=True)
def as_many_descriptors_as_allowed():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="session")
def is_root():
    return os.geteuid() == 0


@pytest.fixture
def run_app():
    """Starts what a container would run; whatever is left is ended with the test."""
    started = []

    def start(name, **options):
        started.append(containers.App(name, **options))
        return started[-1]

    yield start
    for app in started:
        app.remove()


@pytest.fixture
def container_network():
    """A host and two containers, each a network namespace."""
    with namespaces.made(containers.Network()) as made:
        yield made
