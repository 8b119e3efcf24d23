"""A name server for one name: name_server.py FILE, whose only line is "NAME TTL ADDRESS...", read at each question.

No address: NXDOMAIN. A TTL below 0: no answer, but a line on standard output.
"""

import pathlib
import socket
import struct
import sys

A = 1
NXDOMAIN = 3

link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("127.0.0.1", 53))
print("listening", flush=True)
while True:
    data, client = link.recvfrom(4096)
    end = data.index(b"\0", 12)
    kind = struct.unpack("!H", data[end + 1 : end + 3])[0]
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    name, ttl, *addresses = pathlib.Path(sys.argv[1]).read_text().split()
    if int(ttl) < 0:
        print("unanswered", flush=True)
        continue
    known = ".".join(labels).lower() == name and addresses
    answers = [
        b"\xc0\x0c" + struct.pack("!HHIH", A, 1, int(ttl), 4) + socket.inet_aton(each)
        for each in (addresses if known and kind == A else [])
    ]
    flags = 0x8580 | (0 if known else NXDOMAIN)
    head = data[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0)
    link.sendto(head + data[12 : end + 5] + b"".join(answers), client)
