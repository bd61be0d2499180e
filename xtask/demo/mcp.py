"""gaia-mcp of the demo: a JSON-RPC server with two tools."""

from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/jsonrpc")
async def jsonrpc(request: Request):
    call = await request.json()
    return {"jsonrpc": "2.0", "id": call["id"], "result": {"tools": ["web_search", "read_file"]}}
