"""An app for Gunicorn that says which generation answered, and what it was sent."""

import json
import os
import zlib


def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    crc = "%08x" % zlib.crc32(body)
    said = {"generation": int(os.environ.get("RELAY_GENERATION", 0)), "pid": os.getpid(), "length": len(body), "crc32": crc}
    answer = json.dumps(said).encode()
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(answer))),
            ("X-Request-Id", environ.get("HTTP_X_REQUEST_ID", "")),
            ("X-Generation", os.environ.get("RELAY_GENERATION", "0")),
            ("X-Body-Length", str(len(body))),
            ("X-Body-Crc32", crc),
        ],
    )
    return [answer]
