"""Processes of the benchmark: started on one CPU, ended by their number, read from /proc."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
NICENESS = -15  # other work on the machine would come between, and change how much is found at one wake-up


def become_ours():
    """In the child: it dies with us, and goes before others where that is allowed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    LIBC.setpriority(0, 0, NICENESS)


def session_niceness(niceness):
    """Sets that of the session as a whole (sched(7), autogroup), within which the one of a process counts. The one
    before; None where there is none, or it is not ours to set."""
    try:
        with open("/proc/self/autogroup", "r+", encoding="ascii") as file:
            before = int(file.read().split()[-1])
            if niceness is not None:
                file.seek(0)
                file.write(str(niceness))
                file.flush()
            return before
    except (OSError, ValueError, IndexError):
        return None


class Failure(Exception):
    """What went wrong, for people."""


class OutOfTime(Exception):
    """The whole took too long."""


class Progress:
    """A line for each part, with the time since the start, and a dot for each round of it."""

    def __init__(self):
        self.began = time.monotonic()

    def begin(self, what):
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        print(f"{minutes:3d}:{seconds:02d}  {what} ", end="", flush=True)

    def step(self):
        print(".", end="", flush=True)

    def end(self):
        print(flush=True)


class Stage:
    """The CPUs, the scratch folder, and every process that was started; leaving it ends them all."""

    def __init__(self, bin_dir):
        cpus = sorted(os.sched_getaffinity(0))
        self.bin_dir = bin_dir
        self.proxy_cpu = cpus[0]
        self.load_cpu = cpus[-1]
        self.folder = None
        self.group_before = None
        self.running = []
        self.numbers = 0

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="relayd-bench-")
        os.chmod(self.folder, 0o755)
        os.sched_setaffinity(0, {self.load_cpu})  # the benchmark itself is no part of the proxy either
        LIBC.setpriority(0, 0, NICENESS)
        self.group_before = session_niceness(NICENESS)
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            self.end(process)
        shutil.rmtree(self.folder, ignore_errors=True)
        session_niceness(self.group_before)

    def program(self, name):
        return os.path.join(self.bin_dir, name)

    def path(self, name):
        self.numbers += 1
        return os.path.join(self.folder, f"{self.numbers}-{name}")

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self, command, cpu, lean=False, **options):
        """Its output goes to a file of the scratch folder, unless the options say otherwise; it dies with us.

        A lean start is a vfork(2) instead of a fork of this Python; such a process outlives us if we are killed.
        """
        log = None
        if "stderr" not in options:
            log = self.path(os.path.basename(command[0]) + ".log")
            options["stderr"] = open(log, "wb")
            options.setdefault("stdout", options["stderr"])
        process = subprocess.Popen(
            ["taskset", "-c", str(cpu), *command],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            preexec_fn=None if lean else become_ours,
            **options,
        )
        process.log = log
        self.running.append(process)
        return process

    def end(self, process, how=signal.SIGINT):
        """INT is the fast stop of every candidate; who does not heed it in time is killed."""
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.running:
            self.running.remove(process)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address, http=False):
    """Whether 64 B to ADDRESS (HOST:PORT or unix:PATH) come back, as bench_backend gives them; or a request's 200."""
    family = socket.AF_UNIX if address.startswith("unix:") else socket.AF_INET
    target = address[5:] if family == socket.AF_UNIX else ("127.0.0.1", int(address.rsplit(":", 1)[1]))
    try:
        with socket.socket(family) as probe:
            probe.settimeout(2)
            probe.connect(target)
            if http:
                probe.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
                return probe.recv(12) == b"HTTP/1.1 200"
            probe.sendall(b"o" * 64)
            return probe.recv(64) == b"o" * 64
    except OSError:
        return False


def log_tail(process):
    if not process.log:
        return ""
    with open(process.log, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-10:])


def wait_until_it_answers(process, address, seconds=20, http=False):
    deadline = time.monotonic() + seconds
    while not answers(address, http):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failure(f"{process.args[3]} does not serve on {address}:\n{log_tail(process)}")
        time.sleep(0.02)


def executable(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def children(pid):
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(number) for number in file.read().split()]
    except OSError:
        pass
    return found


def tree(pid, without):
    """The process and all that descend from it, but for those that run the program `without`."""
    if executable(pid) == without:
        return []
    return [pid] + [below for child in children(pid) for below in tree(child, without)]


def cpu_seconds(pids):
    """User and system time of all their threads, past ones too, to the nanosecond."""
    total = 0.0
    for pid in pids:
        total += time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) gives
    return total


def anonymous_bytes(pids):
    """Memory of their own: neither files nor what the kernel keeps for them."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Anonymous:"):
                    total += int(line.split()[1]) * 1024
    return total
