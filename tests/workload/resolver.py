"""A DNS server without any name, and with one response for all: the upstream of Docker's own in the live suite.

    resolver.py nxdomain|servfail|refused|silent

Answers every question over UDP with this code, or never. Prints one JSON line, `listening`, when it is, also to the file
that GAIA_MONITOR_TEST_EVENTS names.
"""

import json
import os
import socket
import sys

CODES = {"servfail": 2, "nxdomain": 3, "refused": 5, "silent": None}


def answer(question, code):
    """The same header with the bits of a response (RFC 1035, 4.1.1) and the query, nothing else."""
    end = 12
    while question[end]:
        end += question[end] + 1
    end += 5
    flags = bytes([0x80 | question[2], 0x80 | code])
    return question[:2] + flags + b"\0\1" + bytes(6) + question[12:end]


def main():
    code = CODES[sys.argv[1]]
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 53))
    with open(os.environ["GAIA_MONITOR_TEST_EVENTS"], "a") as events:
        events.write(json.dumps({"event": "listening", "pid": os.getpid()}) + "\n")
    while True:
        question, asker = server.recvfrom(4096)
        if code is not None:
            server.sendto(answer(question, code), asker)


main()
