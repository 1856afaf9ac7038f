#!/usr/bin/env python3
"""A connector in plain Python: it asks a reputation service about file hashes, lists them, and brings new verdicts as events."""
import casewire
from casewire import READ, Connector

CONFIG = {
    "type": "object",
    "required": ["base_url", "token"],
    "additionalProperties": False,
    "properties": {
        "base_url": {"type": "string", "format": "uri", "pattern": "^https?://", "description": "Address of the service"},
        "token": {"type": "string", "x-casewire-secret": True, "writeOnly": True, "description": "API token"},
    },
}
HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the file"}


def open_connection(config):
    """What a connection is: here, a client of the service. It reaches no network yet."""
    return casewire.HTTP(config["base_url"], {"Authorization": "Bearer " + config["token"]})


c = Connector("hashes-py", "1.0.0", "Asks a reputation service about file hashes.", CONFIG, open_connection,
              egress=["{config.base_url}"], licence="Apache-2.0")


@c.action("hash.lookup", "Look a file hash up.", READ,
          input={"type": "object", "required": ["sha256"], "additionalProperties": False, "properties": {"sha256": HASH}},
          output={"type": "object", "required": ["known"], "properties": {
              "known": {"type": "boolean", "description": "The service has seen the file"},
              "name": {"type": "string", "description": "What the service calls it"}}},
          examples=[("A file that is no malware", {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"})])
def lookup(service, inp, call):
    got = service.get("/v1/hashes/" + inp["sha256"])
    out = {"known": bool(got.get("known"))}
    if got.get("name"):
        out["name"] = str(got["name"])
    return out


@c.action("hash.list", "List the hashes that the service knows.", READ, rows=True,
          input={"type": "object", "additionalProperties": False, "properties": {
              "limit": {"type": "integer", "minimum": 1, "maximum": 100000, "default": 1000}}},
          output={"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}},
                  "rows": {"type": "object", "properties": {"sha256": HASH, "name": {"type": "string"}}}})
def hashes(service, inp, call):
    total = 0
    for item in service.get("/v1/hashes", limit=inp["limit"])["hashes"]:
        call.row({"sha256": item["sha256"], "name": item["name"]})
        total += 1
    return {"total": total}


@c.poll("verdicts", "New verdicts of the service.", emits=["io.casewire.row.v1"], interval=300)
def verdicts(service, cursor, emit):
    since = (cursor or {}).get("since", "1970-01-01T00:00:00Z")
    while True:
        page = service.get("/v1/verdicts", since=since)
        events = []
        for v in page["verdicts"]:
            events.append(casewire.row_event(service.base, v["sha256"], "hashes/" + v["sha256"], casewire.millis(v["at"]), v, "Hashes"))
            since = max(since, v["at"])
        emit(events, {"since": since})
        if not page.get("more"):
            return


@c.check
def check(service):
    try:
        service.get("/v1/ping")
    except casewire.Error as e:
        yield "token", False, e.message, "Look at base_url and token of the connection."
    else:
        yield "token", True, "The service takes the token.", ""


if __name__ == "__main__":
    c.serve()
