"""Services in front of which relayd is put: the configuration's part for each."""

import shutil

from . import places
from .relayd import merge


def service(command, path="/up", **more):
    """A service with short times; `more` is merged into it."""
    base = {
        "backend": {"command": list(command), "kill_timeout": "5s"},
        "health": {"interval": "100ms", "ready_timeout": "20s"},
        "rollover": {"graceful_timeout": "20s"},
    }
    if path:
        base["health"]["path"] = path
    return merge(base, more)


def demo(*arguments, **more):
    return service([places.program("demo_app"), *arguments], **more)


def gunicorn(workers=2, arguments=(), **more):
    command = ["/usr/bin/gunicorn", "--workers", str(workers), "--chdir", str(places.APPS), "--bind", "{address}", *arguments]
    return service([*command, "--log-level", "warning", "wsgi_app:application"], **more)


def node(**more):
    return service([shutil.which("node", path="/usr/bin") or shutil.which("node"), str(places.APPS / "node_app.js")], **more)


def nginx(folder, *words, **more):
    script = str(places.APPS / "nginx.sh")
    command = ["/bin/sh", script, str(folder), "{address}", "{generation}", *words]
    path = None if "http2" in words else "/up"  # a check speaks HTTP/1
    return service(command, path, **merge({"backend": {"stop_signal": "QUIT"}}, more))


def websocket(**more):
    return service([places.PYTHON, "-B", str(places.APPS / "websocket_app.py")], **more)


def naming_its_client(header="none", **more):
    """An app that tells in X-Client whom it was told to serve, by PROXY headers of this version alone ("v1", "v2")."""
    return service([places.PYTHON, "-B", str(places.APPS / "client_app.py"), header], **more)


def redis(**more):
    command = ["/usr/bin/redis-server", "--port", "{port}", "--bind", "{host}", "--save", "", "--appendonly", "no"]
    return service(command, path=None, **more)
