"""gaia-core and gaia-core-candidate of the demo. The variable GAIA_FAULT selects a fault."""

import asyncio
import ctypes
import faulthandler
import logging
import os
import pathlib
import time

import requests
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

# As PYTHONFAULTHANDLER=1 does: a native crash leaves the Python stack in the log.
faulthandler.enable()
logging.Formatter.converter = time.gmtime
logging.basicConfig(format="%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
log = logging.getLogger("gaia-core")
log.setLevel(logging.INFO)

FAULT = os.environ.get("GAIA_FAULT", "")
MCP = os.environ["MCP_ENDPOINT"]
MIB = 1024 * 1024
DIED = pathlib.Path("/tmp/died")

app = FastAPI()


def tools() -> list[str]:
    """The tools of the MCP server, requested synchronously with `requests`."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    return requests.post(MCP, json=call, timeout=10).json()["result"]["tools"]


def load_embedding_model() -> None:
    """Native code that reads an invalid address."""
    ctypes.string_at(0)


def index_in_memory() -> None:
    """Allocates without limit."""
    kept = []
    while True:
        kept.append(b"x" * (8 * MIB))


async def respond_in_pieces():
    """A handler that fails after half of its response is sent."""
    yield b'{"answer": '
    await asyncio.sleep(0.5)
    raise KeyError("session")


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/process_packet")
async def process_packet(request: Request):
    packet = await request.body()
    log.info("packet of %d bytes, %d tools available", len(packet), len(await run_in_threadpool(tools)))
    if FAULT == "embedding":
        log.info("loading the embedding model")
        # Five seconds of work before native code fails, as on GAIA's candidate.
        await asyncio.sleep(5)
        load_embedding_model()
    elif FAULT == "once" and not DIED.exists():
        log.info("loading the embedding model for the first time")
        DIED.touch()
        load_embedding_model()
    elif FAULT == "memory":
        log.info("indexing in memory")
        index_in_memory()
    elif FAULT == "exit":
        log.error("no session state, exiting")
        os._exit(3)
    elif FAULT == "slow":
        log.info("working on the packet")
        await asyncio.sleep(5)
    elif FAULT == "stream":
        return StreamingResponse(respond_in_pieces(), media_type="application/json")
    return {"answer": "done"}


@app.post("/ingest")
async def ingest(request: Request):
    """Reads slowly, so that a large body is in flight for seconds."""
    read = 0
    async for chunk in request.stream():
        if read // MIB != (read + len(chunk)) // MIB:
            log.info("ingested %d MiB", (read + len(chunk)) // MIB)
        read += len(chunk)
        await asyncio.sleep(0.02)
    return {"bytes": read}
