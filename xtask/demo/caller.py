"""Whoever talks to gaia-web: one request, and what came of it. Always ends with 0: its fate is no incident."""

import sys
import time

import httpx

started = time.monotonic()
response = httpx.post(sys.argv[1], timeout=300)
print(f"after {time.monotonic() - started:.1f} s: HTTP {response.status_code} {response.text}")
