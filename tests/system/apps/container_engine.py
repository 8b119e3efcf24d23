"""As much of `docker` as configs/swap-containers.sh uses, with a network namespace and a demo_app for each container.

ENGINE_FOLDER holds a file for each container, and "boxes": lines of "namespace address". ENGINE_FAIL makes the next
container one that never gets ready.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

folder = pathlib.Path(os.environ["ENGINE_FOLDER"])


def containers():
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def run(words):
    assert words[0] == "--detach" and "--label" in words and "--name" in words, words
    name = words[words.index("--name") + 1]
    label = words[words.index("--label") + 1]
    used = {each["box"] for each in containers().values()}
    box, address = next(line.split() for line in (folder / "boxes").read_text().splitlines() if line.split()[0] not in used)
    number = int((folder / "number").read_text()) + 1
    (folder / "number").write_text(str(number))
    environment = {**os.environ, "RELAY_GENERATION": str(number), "RELAY_SERVICE": "web"}
    environment.pop("RELAY_SOCKET", None)
    command = ["ip", "netns", "exec", box, os.environ["ENGINE_APP"], "--listen", address]
    if os.environ.get("ENGINE_FAIL"):
        command += ["--fail", "check"]
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **nowhere)
    state = {"box": box, "address": address, "pid": process.pid, "label": label}
    (folder / f"{name}.json").write_text(json.dumps(state))
    print(name)


def remove(words):
    assert words[0] == "--force", words
    for name in words[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(containers()[name]["pid"], signal.SIGKILL)
        (folder / f"{name}.json").unlink()


verb, *rest = sys.argv[1:]
if verb == "run":
    run(rest)
elif verb == "rm":
    remove(rest)
elif verb == "ps":
    wanted = rest[rest.index("--filter") + 1].removeprefix("label=")
    print("\n".join(name for name, state in containers().items() if state["label"] == wanted))
elif verb == "inspect":
    assert rest[0] == "--format" and "IPAddress" in rest[1], rest
    print(containers()[rest[2]]["address"].partition(":")[0])
else:
    sys.exit(f"container_engine: {verb}?")
