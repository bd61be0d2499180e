"""Client of gaia-web: sends one request and prints the outcome. Always exits with 0, so that it is no incident."""

import sys
import time

import httpx

started = time.monotonic()
response = httpx.post(sys.argv[1], timeout=300)
print(f"after {time.monotonic() - started:.1f} s: HTTP {response.status_code} {response.text}")
