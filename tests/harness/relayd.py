"""A relayd process of a test: started from a generated file or by flags, watched by its control socket."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

from . import control, places, processes

REPORTS = re.compile(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error:")


def merge(base, more):
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value
    return base


def all_ready(service):
    serving = [g for g in service["generations"] if g["state"] == "serving"]
    return service["phase"] == "serving" and all(i["state"] == "ready" for g in serving for i in g["instances"])


class Relayd:
    def __init__(self):
        # Short: the path of a Unix socket has at most 107 bytes.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="relayd-", dir="/tmp"))
        os.chmod(self.folder, 0o755)
        self.socket = str(self.folder / "control.sock")
        self.config_file = self.folder / "relayd.yaml"
        self.stderr_file = self.folder / "relayd.err"
        self.mark = processes.new_mark()
        self.process = None
        self.pid = None
        self.events = None
        self.config = None
        self.address = None  # of the first service
        self.output = None  # descriptor for its output, where it is not to go to stderr_file
        self.pass_fds = ()  # descriptors that the next process inherits, under the same numbers

    # ---- starting

    def write_config(self, services, **top):
        """YAML is a superset of JSON, so that the standard library suffices."""
        self.config = merge({"control": {"socket": self.socket}, "log": {"level": "debug"}, "services": services}, top)
        temporary = self.config_file.with_suffix(".new")
        temporary.write_text(json.dumps(self.config, indent=2))
        temporary.rename(self.config_file)

    def change(self, service=None, **parts):
        """Writes the configuration anew with some parts of a service changed; relayd is not told."""
        services = self.config["services"]
        merge(services[service or next(iter(services))], parts)
        self.write_config(services, **{k: v for k, v in self.config.items() if k not in ("services", "control", "log")})

    def start(self, services, prefix=(), wait=True, **top):
        """`services` by name; one that has no `listen` gets a free loopback port."""
        for service in services.values():
            service.setdefault("listen", [f"127.0.0.1:{places.free_port()}"])
        self.write_config(services, **top)
        self.address = next(iter(services.values()))["listen"][0]
        return self.launch([places.program("relayd"), "--config", str(self.config_file)], prefix, wait)

    def start_by_flags(self, *arguments, listen=None, wait=True, prefix=(), **environment):
        self.address = listen or f"127.0.0.1:{places.free_port()}"
        command = [places.program("relayd"), "--listen", self.address, "--control", self.socket, *arguments]
        return self.launch(command, prefix, wait, **environment)

    def launch(self, command, prefix=(), wait=True, **environment):
        with open(self.stderr_file, "ab") as errors:
            self.process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=self.output or errors,
                stderr=self.output or errors,
                cwd=self.folder,
                pass_fds=self.pass_fds,
                env={**os.environ, processes.MARK: self.mark, **environment},
            )
        if wait:
            self.wait_for(all_ready, "every instance of the first generation is ready")
            self.pid = self.status()["pid"]
        return self

    # ---- looking

    def status(self):
        return control.call(self.socket, "status")

    def service(self, name=None):
        services = self.status()["services"]
        return services[0] if name is None else next(s for s in services if s["name"] == name)

    def generation(self, number, name=None):
        return next((g for g in self.service(name)["generations"] if g["number"] == number), None)

    def instance_pids(self, number=None, name=None):
        service = self.service(name)
        number = number or service["generation"]
        return [
            i["pid"] for g in service["generations"] if g["number"] == number for i in g["instances"] if i["pid"] != 0
        ]

    def follow(self):
        if self.events is None:
            self.events = control.Events(self.socket)
        elif self.events.ended:
            # By an upgrade, it may be: all events are told anew. Where nobody answers, those that are known stay.
            with contextlib.suppress(OSError):
                again = control.Events(self.socket)
                self.events.close()
                self.events = again
        return self.events

    def wait_for(self, condition, what, name=None, seconds=30):
        """Until the service's status satisfies the condition; returns that status. Looks again after every event."""
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"relayd ended with {self.process.returncode} while waiting: {what}")
            known = 0
            with contextlib.suppress(FileNotFoundError, ConnectionError):
                known = len(self.follow().all())
                service = self.service(name)
                if condition(service):
                    return service
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s in vain: {what}")
            if self.events is not None:
                self.events.wait_for_more(known, 0.05)
            else:
                processes.pause(0.02)

    def wait_event(self, type, seconds=30, after=0, **members):
        """The first event of this type after sequence number `after` whose members are as given."""
        events = self.follow()
        deadline = time.monotonic() + seconds
        while True:
            known = events.all()
            for event in known:
                if event["type"] == type and event["sequence"] > after and all(event.get(k) == v for k, v in members.items()):
                    return event
            left = deadline - time.monotonic()
            if left <= 0:
                seen = ", ".join(f"{e['type']}({e.get('generation')})" for e in known)
                raise AssertionError(f"waited {seconds} s in vain for the event {type} {members}; seen: {seen}")
            events.wait_for_more(len(known), min(left, 1))

    def last_sequence(self):
        known = self.follow().all()
        return known[-1]["sequence"] if known else 0

    def log(self):
        return self.stderr_file.read_text(errors="replace")

    # ---- asking

    def ctl_command(self, *arguments):
        return [places.program("relayctl"), "--socket", self.socket, *arguments]

    def ctl(self, *arguments, expect=0, seconds=120, **options):
        ended = subprocess.run(
            self.ctl_command(*arguments), capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, **options
        )
        if REPORTS.search(ended.stderr):
            raise AssertionError(f"relayctl {arguments}: {ended.stderr}")
        if expect is not None and ended.returncode != expect:
            raise AssertionError(
                f"relayctl {' '.join(arguments)} exited with {ended.returncode}, expected {expect}\n"
                f"{ended.stdout}\n{ended.stderr}"
            )
        return ended

    def ctl_json(self, *arguments, **options):
        return json.loads(self.ctl(*arguments, "--json", **options).stdout)

    def rollover(self, mode=None, env=None, until=None, expect=0, service=None, **options):
        """One rollover, waited for; the result as relayctl prints it."""
        arguments = ["rollover", *([service] if service else [])]
        arguments += ["--mode", mode] if mode else []
        arguments += ["--until", until] if until else []
        for key, value in (env or {}).items():
            arguments += ["--env", f"{key}={value}"]
        return self.ctl_json(*arguments, expect=expect, **options)

    def upgrade(self, binary=None, expect=0, **options):
        """relayd's own executable replaced; what relayctl tells, as an object, or where it is to fail as text."""
        arguments = ["upgrade", "--json", *(["--binary", str(binary)] if binary else [])]
        ended = self.ctl(*arguments, expect=expect, **options)
        return json.loads(ended.stdout) if expect == 0 else ended.stdout + ended.stderr

    def begin_rollover(self, *arguments):
        return self.begin("rollover", *arguments)

    def begin(self, *arguments):
        """relayctl in the background; its end is the caller's to await."""
        return subprocess.Popen(
            self.ctl_command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_again_and_again(self, times):
        """Instance 0; a yield each time that it is ready again."""
        for restarts in range(1, times + 1):
            os.kill(self.instance_pids()[0], signal.SIGKILL)

            def is_there_again(service, restarts=restarts):
                instance = service["generations"][0]["instances"][0]
                return instance["restarts"] == restarts and instance["state"] == "ready"

            self.wait_for(is_there_again, "it was started again")
            yield

    def send(self, number):
        os.kill(self.pid or self.process.pid, number)

    # ---- ending

    def wait_end(self, seconds=30):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"relayd has not ended within {seconds} s") from None

    def stop(self, expect=0, number=signal.SIGTERM, seconds=60):
        """Ends it by a signal, and sees to it that nothing is left: no process, no sanitizer's report."""
        if self.process is not None and self.process.poll() is None:
            self.send(number)
        if self.process is not None:
            status = self.wait_end(seconds)
            assert status == expect, f"relayd ended with {status}, expected {expect}"
        self.assert_nothing_left()

    def assert_nothing_left(self):
        processes.wait_until(lambda: not processes.marked(self.mark), "every process of relayd's has ended", 10)
        found = REPORTS.search(self.log())
        assert not found, f"a sanitizer reports: {self.log()[found.start():][:4000]}"

    def abandon(self):
        """After a failed test: ends everything that it started, and removes the files."""
        if self.events is not None:
            self.events.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        left = processes.marked(self.mark)
        processes.kill_marked(self.mark)
        shutil.rmtree(self.folder, ignore_errors=True)
        return left
