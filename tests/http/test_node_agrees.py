"""Node's own parser and the tracker of proxy/http must agree where messages end, or the tracker must have refused.

RELAYD_SEED replays the mutations of a failure; RELAYD_SOAK makes many more of them."""

import json
import os
import pathlib
import random
import re
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TRACK = os.path.join(os.environ.get("RELAYD_BIN_DIR", "build/bin"), "http_track")
MUTANTS = 100_000 if os.environ.get("RELAYD_SOAK") else 2_000
SPICE = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x7f", b"\xff", b"0", b"1", b"a", b":", b";", b",", b"=",
    b'"', b"\\", b"/", b"*", b"0\r\n\r\n", b"5\r\nhello\r\n", b";a=b", b"HTTP/1.1", b"HTTP/1.0", b" HTTP/1.1\r\n",
    b"Host: b\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n", b"chunked", b", chunked", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n", b"Expect: 100-continue\r\n", b"Trailer: x\r\n",
]  # fmt: skip


def run(command, lines):
    result = subprocess.run(
        command, input="".join(line + "\n" for line in lines), capture_output=True, text=True, timeout=3000
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def ask_node(messages):
    node = shutil.which("node")
    assert node, "node is missing"
    answers = run([node, str(HERE / "node_boundaries.js")], [json.dumps(m) for m in messages])
    assert len(answers) == len(messages)
    return answers


def ask_tracker(messages):
    answers = run([TRACK], [f"{m['side']} {m['hex']}" for m in messages])
    assert len(answers) == len(messages)
    return answers


def node_is_old():
    """Node before 20 ends a head at a CR without its LF, and reads a body after a 204 that names a length."""
    version = subprocess.run([shutil.which("node"), "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.lstrip("v").split(".")[0]) < 20


OLD_FAULT = re.compile(rb"\r(?!\n)|\AHTTP/1\.[01] 204")


def known_fault(message):
    return OLD_FAULT.search(bytes.fromhex(message["hex"])) is not None


def disagreement(tracker, node):
    """What is wrong, or None. Where node refuses, it names no end that could differ; a tracker that waits for more is
    as safe as one that refused, unless node has seen an end already."""
    if "refused" in tracker or "refused" in node:
        return None
    if any(tracker.get(key) != node.get(key) for key in ("end", "tunnel")):
        return f"the tracker says {tracker}, node says {node}"
    return None


def test_the_corpus():
    cases = run([TRACK, "--corpus"], [])
    assert len(cases) >= 150
    faults = []
    old = node_is_old()
    for case, node in zip(cases, ask_node(cases), strict=True):
        differs = disagreement(case, node)
        if differs is None and "refused" in node and ("end" in case or "tunnel" in case):
            differs = f"the tracker accepts, node refuses: {node}"
        if differs and not case["node"] and not (old and known_fault(case)):
            faults.append(f"[{case['name']}] {differs}")
    assert faults == []


def mutate(seed, cases):
    chance = random.Random(seed)
    whole = [case for case in cases if "end" in case]
    case = chance.choice(whole if chance.random() < 0.7 else cases)
    data = bytearray.fromhex(case["hex"])
    for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
        at = chance.randrange(len(data) + 1)
        what = chance.randrange(5)
        if what == 0:
            del data[at : at + chance.choice([1, 1, 2, 5, 20])]
        elif what == 1 and at < len(data):
            data[at] = chance.randrange(256)
        elif what == 2:
            data[at:at] = data[chance.randrange(len(data) + 1) :][: chance.randrange(30)]
        elif what == 3:  # a whole line, at the beginning of one
            at = data.rfind(b"\n", 0, at) + 1
            data[at:at] = chance.choice([s for s in SPICE if s.endswith(b"\r\n")])
        else:
            data[at:at] = chance.choice(SPICE)
    return {"side": case["side"], "hex": data.hex(), "seed": seed, "name": case["name"]}


def test_mutations_of_it():
    cases = [
        case
        for case in run([TRACK, "--corpus"], [])
        if len(case["hex"]) < 1000 and case["side"] in ("request", "response", "response-to-HEAD")
    ]
    only = os.environ.get("RELAYD_SEED")
    seeds = [int(only)] if only else range(MUTANTS)
    mutants = [mutate(seed, cases) for seed in seeds]
    ended = 0
    old = node_is_old()
    for mutant, tracker, node in zip(mutants, ask_tracker(mutants), ask_node(mutants), strict=True):
        ended += "end" in tracker and "end" in node
        if old and known_fault(mutant):
            continue
        differs = disagreement(tracker, node)
        assert differs is None, (
            f"RELAYD_SEED={mutant['seed']}, from [{mutant['name']}]: {differs}\n{bytes.fromhex(mutant['hex'])}"
        )
    if not only:
        assert ended > len(mutants) / 10, "too few get through for this to mean anything"


@pytest.mark.parametrize(
    "tracker, node, wrong",
    [
        ({"end": 5}, {"end": 5}, False),
        ({"end": 5}, {"end": 6}, True),
        ({"end": 5}, {}, True),
        ({}, {"end": 5}, True),
        ({}, {}, False),
        ({"refused": True}, {"end": 5}, False),
        ({"end": 5}, {"refused": "HPE_X"}, False),
        ({"tunnel": 5}, {"end": 5}, True),
    ],
)
def test_a_disagreement_is_seen(tracker, node, wrong):
    assert (disagreement(tracker, node) is not None) == wrong
