"""What many idle pairs cost: memory for each, and CPU of the others beside them."""

import json
import signal
import subprocess
import time

from candidates import Candidate
from measure import interleaved, run_load, works
from processes import Failure, anonymous_bytes, answers

SETTLE = 0.3  # seconds in which a proxy may give memory back
STAGES = ["connected", "answered", "used", "bulk"]
MEMORY = ["relayd", "haproxy", "nginx", "socket-proxyd", "floor splice"]
GROWTH = ["relayd", "haproxy", "nginx"]


class IdlePairs:
    """Connections that the load keeps open through a proxy."""

    def __init__(self, stage, address):
        self.stage = stage
        self.process = stage.start([stage.program("bench_load"), "idle", address], stage.load_cpu,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        report = json.loads(answer) if answer else {"errors": {"load ended": 1}}
        errors = {kind: count for kind, count in report["errors"].items() if count}
        if errors:
            raise Failure(f"idle pairs: '{what}' met errors: {errors}")

    def end(self):
        self.stage.end(self.process, signal.SIGKILL)


def memory_per_pair(stage, name, backends, quick):
    """Bytes of user memory an idle pair, at each of STAGES: when both its connections stand, after a first answer of
    64 B, after 256 KiB went through it, and after other clients downloaded on 4 streams at once besides.

    The slope between few and many pairs: what a proxy sets up once, its pools included, cancels out. The few have
    been through all stages before the others come.
    """
    few, more = (300, 1200) if quick else (500, 4000)
    if name == "socket-proxyd":
        more = min(more, 2400)  # it needs six descriptors a pair
    download = next(work for work in works(quick) if work.key == "bulk")
    candidate = Candidate(stage, name, backends)
    pairs = IdlePairs(stage, candidate.address)
    found = {"pairs": more}
    try:
        for request in (f"open {few}", f"answer {few}", "bulk 262144"):
            pairs.ask(request)
        run_load(stage, candidate.address, download)
        time.sleep(SETTLE)
        base = anonymous_bytes(candidate.pids())
        for stage_name, request in zip(STAGES, (f"open {more}", f"answer {more}", "bulk 262144", None)):
            if request:
                pairs.ask(request)
            elif run_load(stage, candidate.address, download)["errors"]:
                raise Failure("the download met errors")
            if not answers(candidate.address):  # comes in the order of accepting: the pairs before it stand
                raise Failure("no answer beside the idle pairs")
            time.sleep(SETTLE)
            found[stage_name] = (anonymous_bytes(candidate.pids()) - base) / more
    except (Failure, OSError) as failure:
        return {"void": str(failure)}
    finally:
        pairs.end()
        candidate.end()
    return found


def growth(stage, name, backends, rounds, quick, progress):
    """CPU a round trip with many idle pairs beside it and with none, in the same rounds."""
    pairs_wanted = 2000 if quick else 9000
    work = next(w for w in works(quick) if w.key == "roundtrip")
    plain = Candidate(stage, name, backends)
    crowded = Candidate(stage, name, backends)
    plain.name, crowded.name = "none", "crowded"
    pairs = IdlePairs(stage, crowded.address)
    try:
        pairs.ask(f"open {pairs_wanted}")
        pairs.ask(f"answer {pairs_wanted}")
        interleaved(stage, [plain, crowded], work, 1)
        return {"pairs": pairs_wanted, "runs": interleaved(stage, [plain, crowded], work, rounds, progress)}
    except Failure as failure:
        return {"pairs": pairs_wanted, "runs": {}, "void": str(failure)}
    finally:
        pairs.end()
        crowded.end()
        plain.end()
