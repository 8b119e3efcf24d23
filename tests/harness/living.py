"""Living connections of every kind against one relayd, which run on while the test does things to it.

    with Crowd(relayd.folder, relayd.mark) as crowd:
        crowd.mixed(200, web=..., tunnels=..., raw=...)
        with crowd.watching() as silence:
            relayd.upgrade()
            crowd.round()               # each active connection has shown signs of life since
        report = crowd.finish()
    assert_nothing_lost(report); print(table(report))
"""

import contextlib
import copy
import json
import os
import subprocess

from . import apps, places, processes
from .relayd import merge

APP = places.APPS / "living_app.py"
# Of a hundred connections. Those to `web` stand in no rollover's way for longer than an answer takes, in any mode; the others
# stay with their generation for as long as they are open, so that only a phased one can be awaited.
SHARES = {
    "web": {
        **{"kept": 15, "pipelined": 6, "idle_http": 6, "halves": 6},
        **{"download_fast": 2, "download_slow": 3, "upload_fast": 2, "upload_slow": 2},
    },
    "tunnels": {"websocket": 16},
    "raw": {"ping_pong": 18, "idle": 14, "half_closed": 6, "half_closed_by_app": 4},
}
OPERATIONS_A_SECOND = 600  # of all who ask and answer
SLOW_BYTES_A_SECOND = 8 << 20  # of all slow downloads, and again of all slow uploads
PIECE = 256 << 10  # that the app takes at once, where there is so much
SLOW_SECONDS = 3 if places.SOAK else 1  # that one takes


class Crowd:
    """A process (harness/crowd). `prefix`: of its command; `mark`: that it is ended with the test's other processes."""

    def __init__(self, folder, mark="", prefix=()):
        self.folder = str(folder)
        self._count = 0
        self.process = subprocess.Popen(
            [*prefix, places.PYTHON, "-B", "-m", "harness.crowd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, processes.MARK: mark, "PYTHONPATH": str(places.TESTS)},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process.stdout.close()

    def _do(self, what, **options):
        self.process.stdin.write(json.dumps({"do": what, **options}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the crowd has ended with {self.process.wait(10)} at: {what}")
        return json.loads(line)

    # ---- who is there

    def open(self, kind, count, address, **options):
        """So many more, who have had their first answer when this returns (those who are to be silent: are connected)."""
        if kind == "half_closed_by_app":
            options["folder"] = self.folder
        self._do("open", kind=kind, count=count, address=address, **options)

    def mixed(self, count, **addresses):
        """About `count` of them: of the kinds of SHARES, to `web`, `tunnels` and `raw`, or those of them that are given."""
        pace = max(0.05, 0.6 * count / OPERATIONS_A_SECOND)
        for service, address in addresses.items():
            for kind, share in SHARES[service].items():
                number = max(2, round(count * share / 100))
                self.open(kind, number, address, **self._options(kind, number, pace))

    @staticmethod
    def _options(kind, number, pace):
        rate = min(1 << 20, SLOW_BYTES_A_SECOND // number)
        return {
            "download_fast": {"pace": pace * 4},
            "download_slow": {"size": SLOW_SECONDS * rate, "rate": rate, "pace": 0.2},
            "upload_fast": {"pace": pace * 4},
            "upload_slow": {"size": SLOW_SECONDS * rate, "pause": PIECE * 1000 // rate, "pace": 0.2},
        }.get(kind, {"pace": pace})

    def hold(self, count, address):
        """So many who come one after the other to a service that is paused."""
        self.open("held", count, address, in_order=True)

    # ---- what they do

    def round(self, seconds=60):
        """Until each active connection has shown signs of life anew."""
        late = self._do("round", seconds=seconds)["late"]
        assert not late, f"no sign of life within {seconds} s: {'; '.join(late[:20])} ({len(late)} in all)"

    def first_halves(self):
        self._tell("first")

    def second_halves(self):
        """Returns when the answers are there."""
        self._tell("second")

    def _tell(self, word):
        answer = self._do("tell", kind="halves", word=word)
        assert answer["late"] == 0, f"{answer['late']} requests that were sent in halves got no answer"

    def answers_of_held(self, seconds=60):
        """When each has been answered: which connection of the app's each one was, in the order in which they had come."""
        answer = self._do("over", kind="held", seconds=seconds)
        assert answer["late"] == 0, f"{answer['late']} clients that were held got no answer within {seconds} s"
        return answer["answers"]

    @contextlib.contextmanager
    def watching(self):
        """The longest silence within the block, as a dict that is filled at its end: ms, kind, at_unix_ms."""
        self._count += 1
        name, silence = str(self._count), {}
        self._do("watch", name=name)
        try:
            yield silence
        finally:
            silence.update(self._do("unwatch", name=name))

    # ---- what came of it

    def report(self):
        """So far."""
        return self._do("report")

    def finish(self, seconds=60):
        """Each finishes what is under way, the silent ones speak on the connection that they have; the report."""
        return self._do("finish", seconds=seconds)


def app(*arguments):
    """The command of the app that answers all kinds."""
    return [places.PYTHON, "-B", str(APP), "{address}", *arguments]


def services(**more):
    """What a mixed crowd needs, and `door`, to be paused; `more` is merged into each."""
    stays = {"graceful_timeout": "600s", "max_old_generations": 100}  # those who stay with an old generation may
    patient = {"timeout": "120s"}
    return {
        "web": service(more, rollover={"graceful_timeout": "60s"}, hold=patient),
        "tunnels": service(more, rollover=stays),
        "raw": service(more, protocol="tcp", rollover=stays),
        "door": service(more, protocol="tcp", hold={**patient, "max_connections": 30}),
    }


def service(more=None, **parts):
    """The app as a service of these parts, with `more` merged into them."""
    return merge(apps.service(app(), **copy.deepcopy(parts)), copy.deepcopy(more or {}))


def addresses(services, *names):
    """As keywords for mixed(), where no name is given."""
    return {name: services[name]["listen"][0] for name in names or SHARES}


def losses(report):
    """{(kind, loss): how many}, of those that are not 0."""
    return {(kind, loss): n for kind, told in report["kinds"].items() for loss, n in told["losses"].items() if n}


def assert_nothing_lost(report):
    complaints = [each for told in report["kinds"].values() for each in told["complaints"]]
    assert not losses(report) and report["lost"] == 0, f"{losses(report)}\n" + "\n".join(complaints[:40])
    assert report["operations"] > 0


def table(report):
    rows = [f"  {'kind':<20}{'connections':>12}{'operations':>12}{'lost':>6}{'longest silence, ms':>21}"]
    for kind, told in report["kinds"].items():
        rows.append(f"  {kind:<20}{told['connections']:>12}{told['operations']:>12}{told['lost']:>6}{told['silence_ms']:>21}")
    return "\n".join([*rows, f"  (the crowd itself was late by at most {report['own_lag_ms']} ms)"])
