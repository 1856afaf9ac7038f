"""Casewire connectors in Python.

One file beside connector.v1.binpb (the protocol, as a set of file descriptors) and two libraries: grpcio and protobuf,
of any version since 1.51 and 3.21. It does what the protocol asks of a process and of its answers; what an author writes
is the schemas and the functions:

    c = Connector("hashes", "1.0.0", "Asks a reputation service about file hashes.", config=SCHEMA, open=Client)

    @c.action("hash.lookup", "Look a file hash up.", READ, input=..., output=...)
    def lookup(client, inp, call):
        return {"known": True}

    c.serve()

Actions (with rows, files and progress), polls and checks are here. Webhooks and streams are in the protocol, and not in
this file.
"""
import base64
import calendar
import hashlib
import http.client
import io
import json
import logging
import math
import os
import queue
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse
import zipfile
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# The protocol.

_pool = descriptor_pool.DescriptorPool()
# By the loader, which also finds it in a packed connector.
for _file in descriptor_pb2.FileDescriptorSet.FromString(__loader__.get_data(os.path.join(os.path.dirname(__file__), "connector.v1.binpb"))).file:
    _pool.Add(_file) if hasattr(_pool, "Add") else _pool.AddSerializedFile(_file.SerializeToString())
_messages = None if hasattr(message_factory, "GetMessageClass") else message_factory.MessageFactory(_pool)


def _message(name):
    d = _pool.FindMessageTypeByName(name)
    return message_factory.GetMessageClass(d) if _messages is None else _messages.GetPrototype(d)


class _PB:
    """Message classes by their short names."""

    def __getattr__(self, name):
        cls = _message("casewire.connector.v1." + name)
        setattr(self, name, cls)
        return cls


pb = _PB()
_Status, _ErrorInfo = _message("google.rpc.Status"), _message("google.rpc.ErrorInfo")
_BadRequest, _RetryInfo = _message("google.rpc.BadRequest"), _message("google.rpc.RetryInfo")

READ, IDEMPOTENT, KEYED, UNSAFE = 1, 2, 3, 4  # what happens when an action is called twice
MAX_SEND, MAX_INPUT, MAX_OUTPUT = 3 << 20, 2 << 20, 2 << 20
MAX_EVENT, MAX_CURSOR, ROW_CHUNK, BLOB_PIECE = 1 << 20, 64 << 10, 256 << 10, 256 << 10
REDACTED = "[redacted]"
COOKIE = ("CASEWIRE_CONNECTOR", "b7a4d2f0-casewire-connector-v1")

log = logging.getLogger("casewire")

# Errors that tell the host what to do next.

_INPUT, _CONFIG, _DOWNSTREAM, _PLUGIN, _HOST = 1, 2, 3, 4, 5  # whose side failed
NONE, UNKNOWN, APPLIED = 1, 2, 3  # what became of the change
_CODES = {c.value[0]: c for c in grpc.StatusCode}


class Error(Exception):
    """A failure with its class, its side effect and its pacing; made by the functions below."""

    def __init__(self, code, message, origin=_PLUGIN, effect=0, reason="", after=0.0, violations=(), domain=""):
        super().__init__(message)
        self.code, self.message, self.origin, self.effect = code, message, origin, effect
        self.reason, self.after, self.violations, self.domain = reason, after, list(violations), domain

    @property
    def is_not_found(self):
        return self.code == grpc.StatusCode.NOT_FOUND

    def status(self, redact=str):
        """The error as a google.rpc.Status."""
        text = redact(self.message)
        s = _Status(code=self.code.value[0], message=text if len(text.encode()) <= 3000 else text[:1000] + "…")
        details = [pb.Failure(origin=self.origin, side_effect=self.effect or UNKNOWN),
                   _ErrorInfo(reason=self.reason, domain=self.domain)]
        if self.after > 0:
            info = _RetryInfo()
            info.retry_delay.seconds, info.retry_delay.nanos = int(self.after), int(self.after % 1 * 1e9)
            details.append(info)
        if self.violations:
            bad = _BadRequest()
            for field, why in self.violations[:16]:
                bad.field_violations.add(field=field, description=redact(why)[:500])
            details.append(bad)
        for d in details:
            s.details.add(type_url="type.googleapis.com/" + d.DESCRIPTOR.full_name, value=d.SerializeToString())
        return s


def _pointer(field):
    return field if not field or field.startswith("/") else "/" + field.replace(".", "/")


def invalid(field, why):
    """A fault of the input, at a property."""
    return Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid input: " + why, _INPUT, NONE, violations=[(_pointer(field), why)])


def bad_config(field, why):
    """A fault of the configuration, at a property."""
    return Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid configuration: " + why, _CONFIG, NONE, violations=[(_pointer(field), why)])


def not_found(why):
    """The object does not exist, or cannot be seen."""
    return Error(grpc.StatusCode.NOT_FOUND, why, _DOWNSTREAM, NONE)


def throttled(after, why):
    """The vendor asks for a pause, in seconds."""
    return Error(grpc.StatusCode.RESOURCE_EXHAUSTED, why, _DOWNSTREAM, NONE, after=after)


def unavailable(why):
    """The vendor cannot answer now, and nothing was changed."""
    return Error(grpc.StatusCode.UNAVAILABLE, why, _DOWNSTREAM, NONE)


def uncertain(why):
    """A write may or may not have happened."""
    return Error(grpc.StatusCode.UNAVAILABLE, why, _DOWNSTREAM, UNKNOWN)


def unresolved(why):
    """Answers Call.resolve: nothing found so far, and it may still turn up."""
    return Error(grpc.StatusCode.NOT_FOUND, why, _DOWNSTREAM, NONE, reason="UNRESOLVED", domain="casewire")


def absent(why):
    """Answers Call.resolve: it surely did not happen, and may be sent again."""
    return Error(grpc.StatusCode.NOT_FOUND, why, _DOWNSTREAM, NONE, reason="ABSENT", domain="casewire")


def unauthenticated(why):
    """The vendor refuses the credential."""
    return Error(grpc.StatusCode.UNAUTHENTICATED, why, _DOWNSTREAM, NONE)


def denied(why):
    """A permission is missing."""
    return Error(grpc.StatusCode.PERMISSION_DENIED, why, _DOWNSTREAM, NONE)


def too_large(why, origin=_PLUGIN):
    """Something is over a limit."""
    return Error(grpc.StatusCode.OUT_OF_RANGE, why, origin, NONE, reason="TOO_LARGE", domain="casewire")


def _ours(code, reason, why, after=0.0):
    return Error(code, why, _PLUGIN, NONE, reason=reason, after=after, domain="casewire")


def _unsupported(why):
    return Error(grpc.StatusCode.UNIMPLEMENTED, why, _HOST, NONE)


# JSON: strict reading, and the part of JSON Schema that connectors need.


def _pairs(pairs):
    out = {}
    for k, v in pairs:
        if k in out:
            raise ValueError("the property %r appears twice" % k)
        out[k] = v
    return out


def _read(raw, problem):
    if not raw.strip():
        return {}
    try:
        def no(x):
            raise ValueError(x + " is no JSON")
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=no)
    except (ValueError, RecursionError) as e:
        raise problem("", "is no valid JSON: %s" % e)


def _write(v):
    return json.dumps(v, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


_TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "number": (int, float), "integer": int,
}


def _is(v, name):
    if isinstance(v, bool) and name in ("number", "integer"):
        return False
    return isinstance(v, _TYPES[name]) or name == "integer" and isinstance(v, float) and v.is_integer()


def validate(schema, v, at=""):
    """Everything that is wrong with v: a list of (JSON pointer, sentence). Fills in defaults of properties."""
    if not isinstance(schema, dict):
        return []
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    if types and not any(_is(v, t) for t in types):
        return [(at, "must be %s" % " or ".join(types))]
    bad = []
    if "enum" in schema and v not in schema["enum"]:
        bad.append((at, "must be one of %s" % ", ".join(map(str, schema["enum"]))))
    if isinstance(v, str):
        if "pattern" in schema and not re.search(schema["pattern"], v):
            bad.append((at, "must match %s" % schema["pattern"]))
        if len(v) < schema.get("minLength", 0) or len(v) > schema.get("maxLength", math.inf):
            bad.append((at, "has a length that is out of bounds"))
    elif isinstance(v, (int, float)) and not isinstance(v, bool):
        if v < schema.get("minimum", -math.inf) or v > schema.get("maximum", math.inf):
            bad.append((at, "is out of bounds"))
    elif isinstance(v, list):
        if len(v) < schema.get("minItems", 0) or len(v) > schema.get("maxItems", math.inf):
            bad.append((at, "has a number of entries that is out of bounds"))
        for i, x in enumerate(v):
            bad += validate(schema.get("items"), x, "%s/%d" % (at, i))
    elif isinstance(v, dict):
        props = schema.get("properties", {})
        for k in schema.get("required", []):
            if v.get(k) is None or v[k] == "" and props.get(k, {}).get("x-casewire-secret"):
                bad.append((at + "/" + k, "is required"))
        for k, x in list(v.items()):
            here = at + "/" + k.replace("~", "~0").replace("/", "~1")
            if x is None and k in props:
                del v[k]  # null stands for absent
            elif k in props:
                bad += validate(props[k], x, here)
            elif schema.get("additionalProperties") is False:
                bad.append((here, "unknown property"))
            else:
                bad += validate(schema.get("additionalProperties"), x, here)
        for k, p in props.items():
            if isinstance(p, dict) and "default" in p and k not in v:
                v[k] = json.loads(json.dumps(p["default"]))
    return bad


def _secrets(schema, v):
    if not isinstance(schema, dict):
        return []
    if isinstance(v, str):
        return [v] if schema.get("x-casewire-secret") and len(v) >= 6 else []
    if isinstance(v, dict):
        props = schema.get("properties", {})
        return [s for k, x in v.items() for s in _secrets(props.get(k, schema.get("additionalProperties")), x)]
    if isinstance(v, list):
        return [s for x in v for s in _secrets(schema.get("items"), x)]
    return []


# Events.


def digest(projection):
    """Hashes what matters of a source object. Use strings, whole numbers, lists and objects with plain ASCII names."""
    text = json.dumps(projection, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def millis(timestamp):
    """UTC epoch milliseconds of "2026-01-02T03:04:05Z", with or without a fraction."""
    m = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", timestamp)
    if not m:
        raise ValueError("%r is no UTC timestamp such as 2026-01-02T03:04:05Z" % timestamp)
    whole = calendar.timegm(time.strptime(m.group(1), "%Y-%m-%dT%H:%M:%S"))
    return whole * 1000 + int(((m.group(2) or ".") + "000")[1:4])


def row_event(source, subject, partition_key, at, row, product, title=""):
    """An event of type row: one object of a source as it was at the time at (epoch milliseconds). Two hosts that see the
    same object at the same time make the same event, which is then taken once."""
    rev, dig = "%015d" % at, digest(row)
    h = hashlib.sha256(b"cw1")
    for part in (source, subject, rev, dig):
        raw = part.encode("utf-8")
        h.update(struct.pack(">I", len(raw)) + raw)
    uid = base64.b32encode(h.digest()[:20]).decode()
    uid = uid.translate(str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghijklmnopqrstuv"))
    data = {
        "class_uid": 0, "category_uid": 0, "activity_id": 0, "type_uid": 0, "severity_id": 0, "time": at,
        "metadata": {"version": "1.8.0", "uid": uid, "product": {"vendor_name": product, "name": product}},
        "message": title or subject, "unmapped": {"row": row},
    }
    e = pb.Event(id=uid, source=source, type="io.casewire.row.v1", subject=subject, partition_key=partition_key.lower(), rev=rev,
                 digest=dig, dataschema="https://schema.ocsf.io/1.8.0/classes/base_event", data=_write(data))
    e.time.seconds, e.time.nanos = at // 1000, at % 1000 * 1000000
    return e


# The connector.


class _Action:
    def __init__(self, **kw):
        self.__dict__.update(kw)


class _Connection:
    def __init__(self, name, generation):
        self.name, self.generation = name, generation
        self.value, self.error, self.secrets, self.gone = None, None, [], threading.Event()

    def redact(self, text):
        for s in self.secrets:
            for form in (s, base64.b64encode(s.encode()).decode()):
                text = text.replace(form, REDACTED)
        return text


class Call:
    """What a function may know about the call that it serves, and how it sends more than one answer."""

    def __init__(self, ctx, put, action=None):
        self.connection, self.id, self.key = ctx.connection, ctx.call_id, ctx.idempotency_key
        self.attempt, self.dry_run, self.resolve = max(1, ctx.attempt), ctx.dry_run, ctx.mode == 2
        self.prior = json.loads(ctx.prior) if ctx.prior else None
        self._put, self._action, self._rows, self._size = put, action, [], 0

    def progress(self, done, total=0, message=""):
        """Says how far a long action is."""
        self._put(pb.InvokeResponse(progress=pb.Progress(done=done, total=total, message=message)))

    def row(self, row):
        """Sends one row of an action that is declared with rows; waits while the host is busy."""
        if not self._action.rows:
            raise Error(grpc.StatusCode.INTERNAL, "%s sends rows, but is declared without rows=True" % self._action.name)
        line = _write(row) + b"\n"
        if len(line) > MAX_EVENT:
            raise too_large("a row has %d bytes, more than the limit of %d" % (len(line), MAX_EVENT))
        self._rows.append(line)
        self._size += len(line)
        if self._size >= ROW_CHUNK:
            self.flush()

    def flush(self):
        if self._rows:
            self._put(pb.InvokeResponse(rows=pb.Rows(ndjson=b"".join(self._rows), count=len(self._rows))))
            self._rows, self._size = [], 0

    def blob(self, name, media_type, data):
        """Sends one file, as bytes, of an action that is declared with blobs."""
        if not self._action.blobs:
            raise Error(grpc.StatusCode.INTERNAL, "%s sends files, but is declared without blobs=True" % self._action.name)
        for at in range(0, max(1, len(data)), BLOB_PIECE):
            last = at + BLOB_PIECE >= len(data)
            self._put(pb.InvokeResponse(blob=pb.Blob(name=name, media_type=media_type, data=data[at:at + BLOB_PIECE], last=last)))


class _Gone(Exception):
    """Nobody waits for the answer any more."""


_local = threading.local()  # .feed: of the call that the thread works for


class _Feed:
    """What one thread puts and a gRPC handler sends: at most a few messages are under way. A call that is over lets go of
    what it waits for: its HTTP requests are cut off."""

    def __init__(self, context):
        self.items, self.over, self.why = queue.Queue(4), threading.Event(), None
        self.lock, self.sockets = threading.Lock(), set()
        if not context.add_callback(self.cancel):
            self.cancel()

    def cancel(self, why=None):
        with self.lock:
            if not self.over.is_set():
                self.why = why
                self.over.set()
            for s in self.sockets:
                _cut(s)

    def hold(self, sock):
        with self.lock:
            self.sockets.add(sock)
            if self.over.is_set():
                _cut(sock)

    def drop(self, sock):
        with self.lock:
            self.sockets.discard(sock)

    def put(self, item):
        while not self.over.is_set():
            try:
                return self.items.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Gone()

    def run(self, fn, deadline=None):
        """Runs fn in a thread of its own and yields what it puts; its exception is raised here."""
        def work():
            end = None
            _local.feed = self
            try:
                fn()
            except BaseException as e:  # every failure of an author's function is an answer
                end = e
            try:
                self.put((end,))
            except _Gone:
                pass
        threading.Thread(target=work, daemon=True).start()
        while True:
            try:
                item = self.items.get(timeout=0.1)
            except queue.Empty:
                if self.over.is_set():
                    if self.why:
                        raise self.why
                    return
                if deadline and time.time() > deadline:
                    self.cancel()
                    raise Error(grpc.StatusCode.DEADLINE_EXCEEDED, "there was no answer in time")
                continue
            if isinstance(item, tuple):
                if item[0] is not None:
                    raise item[0]
                return
            yield item


def _cut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class HTTP:
    """JSON over HTTP for one connection: failures become errors that tell the host what to do, an answer is read up to
    8 MiB, redirects are not followed, and a call that is cancelled lets go at once."""

    def __init__(self, base_url, headers=(), timeout=60):
        self.base = base_url.rstrip("/")
        self._url, self._headers, self._timeout = urllib.parse.urlsplit(base_url.rstrip("/")), dict(headers), timeout
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise bad_config("base_url", "is no https URL")

    def get(self, path, **query):
        """The JSON answer to a GET."""
        return self.send("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""))

    def send(self, method, path, body=None):
        """The JSON answer to a request with a JSON body; None if it is empty."""
        writes, what = method not in ("GET", "HEAD"), "%s %s" % (method, path.split("?")[0])
        lost = uncertain if writes else unavailable
        feed = getattr(_local, "feed", None)
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        conn = kind(self._url.hostname, self._url.port, timeout=self._timeout)
        headers = dict(self._headers, **{"User-Agent": "casewire", "Accept": "application/json"})
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            conn.connect()
        except OSError as e:
            raise unavailable("%s: %s" % (what, e))
        sock = conn.sock
        if feed:
            feed.hold(sock)
        try:
            conn.request(method, self._url.path + path, None if body is None else _write(body), headers)
            resp = conn.getresponse()
            raw = resp.read((8 << 20) + 1)
        except (OSError, http.client.HTTPException) as e:
            raise lost("%s: %s" % (what, e))
        finally:
            if feed:
                feed.drop(sock)
            conn.close()
        why = "%s: %d %s" % (what, resp.status, resp.reason)
        if 200 <= resp.status < 300:
            if len(raw) > 8 << 20:
                raise too_large(why + ": the answer is over 8 MiB")
            try:
                return json.loads(raw) if raw else None
            except ValueError:
                raise lost("%s: the answer is no JSON: %.80r" % (why, raw))
        after = resp.getheader("Retry-After", "")
        known = {400: lambda w: invalid("", w), 401: unauthenticated, 403: denied, 404: not_found, 422: lambda w: invalid("", w),
                 429: lambda w: throttled(float(after) if after.isdigit() else 30.0, w)}
        raise known.get(resp.status, lost)(why)


_EGRESS_HOST = re.compile(r"((\*\.)?[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class Connector:
    """A connector under construction. Open makes a connection's value of its configuration, a dict that fits the schema; it
    reaches no network. A value with a method close is closed when its connection is replaced or removed."""

    def __init__(self, name, version, summary, config, open, egress=(), homepage="", licence=""):
        self.name, self._open, self._config = name, open, config
        for host in egress:
            ref = re.fullmatch(r"\{config\.([^.}?]+)[^}?]*(?:\?([^}]*))?\}", host)
            if ref and ref.group(1) not in config.get("properties", {}):
                raise ValueError("egress names %s, but the configuration has no such property" % host)
            plain = host if not ref else ref.group(2)
            if plain is not None and not _EGRESS_HOST.fullmatch(plain):
                raise ValueError("egress %r: write a host, such as api.example.com, *.example.com or api.example.com:8443, without scheme "
                                 "and path; or {config.base_url} for the host of a configured URL" % host)
        self.about = pb.DescribeResponse(name=name, version=version, summary=summary, egress=list(egress), homepage=homepage,
                                         licence=licence, config_schema=_write(dict(_DIALECT, **config)))
        self._actions, self._polls, self._check = {}, {}, None
        self._lock, self._conns, self._open_calls, self._feeds = threading.Condition(), {}, 0, set()
        self._draining = threading.Event()

    def action(self, name, summary, effect, input=None, output=None, rows=False, blobs=False, dry_runs=False, resolve_window=None, examples=()):
        """Declares a function(connection, input, call) that returns its output, a dict."""
        input, output = input or {"type": "object", "additionalProperties": False}, output or {"type": "object"}

        def declare(fn):
            out = dict(output, properties=dict(output.get("properties", {})))
            if rows:
                out["properties"]["rows"] = {"type": "array", "items": out.pop("rows", {})}
            if blobs:
                out["properties"]["blobs"] = _BLOBS
            a = pb.Action(name=name, summary=summary, effect=effect, rows=rows, blobs=blobs,
                          input_schema=_write(dict(_DIALECT, **input)), output_schema=_write(dict(_DIALECT, **out)))
            if resolve_window:
                a.resolve_window.seconds = int(resolve_window)
            for text, example in examples:
                if validate(input, json.loads(json.dumps(example))):
                    raise ValueError("%s: the example %r breaks the input's own schema" % (name, text))
                a.examples.add(summary=text, input=_write(example))
            self.about.actions.append(a)
            self._actions[name] = _Action(name=name, effect=effect, input=input, rows=rows, blobs=blobs, dry_runs=dry_runs, fn=fn)
            return fn
        return declare

    def poll(self, name, summary, emits, interval=60):
        """Declares a function(connection, cursor, emit) that brings everything since cursor, which is None the first time.
        It calls emit(events, cursor) for each page in order; a page's cursor, any JSON, is durable with its events."""
        def declare(fn):
            t = pb.Trigger(name=name, summary=summary, emits=list(emits), polls=True)
            t.interval.seconds = int(interval)
            self.about.triggers.append(t)
            self._polls[name] = fn
            return fn
        return declare

    def check(self, fn):
        """Declares a function(connection) that returns probes: (name, ok, summary, remedy)."""
        self._check = fn
        return fn

    # The RPCs.

    def _describe(self, _, __):
        return self.about

    def _configure(self, req, _):
        resp = pb.ConfigureResponse()
        if self._draining.is_set():
            raise self._drained()
        for name in req.removes:
            self._retire(name)
        for u in req.upserts:
            out = resp.outcomes.add(connection=u.connection, generation=u.generation)
            with self._lock:
                old = self._conns.get(u.connection)
            if old and old.error is None and old.generation == u.generation:
                continue  # a replay
            c = _Connection(u.connection, u.generation)
            try:
                if not u.connection:
                    raise invalid("connection", "is required")
                cfg = _read(u.config, bad_config)
                bad = validate(self._config, cfg)
                if bad:
                    raise Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid configuration", _CONFIG, NONE, violations=bad)
                c.secrets = _secrets(self._config, cfg)
                c.value = self._open(cfg)
            except Exception as e:
                c.error = self._error(e, c, False)
                out.status = c.error.status(c.redact).SerializeToString()
            self._retire(u.connection)
            with self._lock:
                self._conns[u.connection] = c
        return resp

    def _retire(self, name):
        with self._lock:
            c = self._conns.pop(name, None)
        if c:
            c.gone.set()
            if hasattr(c.value, "close"):
                try:
                    c.value.close()
                except Exception as e:
                    log.warning("connection did not close: %s", c.redact(str(e)), extra={"connection": name})

    def _connection(self, ctx):
        with self._lock:
            c = self._conns.get(ctx.connection)
            if self._draining.is_set():
                raise self._drained()
        if c is None or c.generation != ctx.generation:
            raise _ours(grpc.StatusCode.FAILED_PRECONDITION, "CONFIG_MISMATCH",
                        "connection %r is not configured at generation %d" % (ctx.connection, ctx.generation))
        if c.error:
            raise c.error
        return c

    @staticmethod
    def _drained():
        return _ours(grpc.StatusCode.UNAVAILABLE, "DRAINING", "the connector is draining and takes no new work", after=1.0)

    def _check_rpc(self, req, _):
        if not self._check:
            raise _unsupported("%s has no checks" % self.name)
        c = self._connection(req.call)
        resp = pb.CheckResponse()
        try:
            for name, ok, summary, remedy in self._check(c.value):
                resp.probes.add(name=name, status=1 if ok else 3, summary=c.redact(summary), remedy=c.redact(remedy))
        except Exception as e:
            raise self._error(e, c, False)
        return resp

    def _invoke(self, req, context):
        a, ctx = self._actions.get(req.action), req.call
        if not a:
            raise _unsupported("%s has no action %r" % (self.name, req.action))
        resolve, changes = ctx.mode == 2, a.effect != READ
        if len(req.input) > MAX_INPUT:
            raise too_large("%s: the input has %d bytes, more than the limit of %d" % (a.name, len(req.input), MAX_INPUT), _INPUT)
        if resolve and a.effect != KEYED:
            raise invalid("", "%s is not a keyed action: there is nothing to resolve" % a.name)
        if a.effect == KEYED and not ctx.idempotency_key:
            raise invalid("", "%s is a keyed action and needs an idempotency key" % a.name)
        if ctx.dry_run and changes and not a.dry_runs:
            raise _unsupported("%s cannot be tried without effect (dry run)" % a.name)
        c = self._connection(ctx)
        inp = _read(req.input, invalid)
        bad = validate(a.input, inp)
        if bad:
            raise Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid input", _INPUT, NONE, violations=bad)
        feed, sent = self._feed(context), [0]
        call = Call(ctx, feed.put, a)

        def work():
            out = _write(a.fn(c.value, inp, call))
            call.flush()
            if len(out) > min(MAX_OUTPUT, req.max_output_bytes or MAX_OUTPUT):
                e = too_large("%s: the output has %d bytes, more than the caller takes" % (a.name, len(out)))
                e.effect = APPLIED if changes else NONE
                raise e
            feed.put(pb.InvokeResponse(result=pb.Result(output=out)))
        try:
            for m in feed.run(work, self._deadline(ctx)):
                if m.WhichOneof("kind") == "rows":
                    sent[0] += m.rows.count
                    if req.max_rows and sent[0] > req.max_rows:
                        raise too_large("%s: there are more than %d rows, the most that the caller takes" % (a.name, req.max_rows))
                yield m
        except Exception as e:
            raise self._error(e, c, changes and not resolve and not ctx.dry_run)
        finally:
            self._end(feed)

    def _feed(self, context):
        feed = _Feed(context)
        with self._lock:
            self._feeds.add(feed)
        return feed

    def _end(self, feed):
        feed.cancel()
        with self._lock:
            self._feeds.discard(feed)

    @staticmethod
    def _deadline(ctx):
        return ctx.deadline.seconds + ctx.deadline.nanos / 1e9 if ctx.HasField("deadline") else None

    def _consume(self, requests, context):
        first = next(iter(requests), None)
        if first is None or first.WhichOneof("kind") != "open":
            raise invalid("", "the first request of a stream must be Open")
        o = first.open
        fn = self._polls.get(o.trigger)
        if not fn or o.mode != 1:
            raise _unsupported("%s has no trigger %r that polls" % (self.name, o.trigger))
        c = self._connection(o.call)
        cursor = _read(o.cursor, invalid) if o.cursor else None
        feed, window = self._feed(context), o.window or 4
        state = {"sent": 0, "acked": 0, "stopped": False}
        changed = threading.Condition()

        def listen():
            try:
                for m in requests:
                    with changed:
                        state["acked"] = max(state["acked"], m.ack.through)
                        if m.WhichOneof("kind") == "stop":
                            state["stopped"] = True
                            feed.cancel()
                        changed.notify_all()
            except Exception:
                pass  # the stream broke
            with changed:
                state["stopped"] = True
                changed.notify_all()
        threading.Thread(target=listen, daemon=True).start()

        def until(pending):
            with changed:
                while state["sent"] - state["acked"] > pending and not state["stopped"] and not feed.over.is_set():
                    changed.wait(0.1)
                if feed.over.is_set() or state["stopped"] and state["sent"] - state["acked"] > pending:
                    raise _Gone()

        def send(events, cur, caught_up=False):
            until(window - 1)
            if state["stopped"]:
                raise _Gone()
            state["sent"] += 1
            feed.put(pb.ConsumeResponse(batch=pb.Batch(seq=state["sent"], events=events, cursor=cur, caught_up=caught_up)))

        last = [bytes(o.cursor)]

        def emit(events, cur):
            raw = _write(cur)
            if len(raw) > MAX_CURSOR:
                raise too_large("the cursor has %d bytes, more than the limit of %d" % (len(raw), MAX_CURSOR))
            batch, size = [], 0
            for e in events:  # a page may be larger than a message; only its last part moves the cursor
                if batch and size + e.ByteSize() > 2 << 20:
                    send(batch, last[0])
                    batch, size = [], 0
                batch.append(e)
                size += e.ByteSize() + 8
            send(batch, raw)
            last[0] = raw
            if self._draining.is_set():
                raise self._drained()

        def work():
            fn(c.value, cursor, emit)
            send([], last[0], True)
            until(0)
        try:
            yield from feed.run(work)
        except _Gone:
            return
        except Exception as e:
            raise self._error(e, c, False)
        finally:
            self._end(feed)

    def _webhook(self, _, __):
        raise _unsupported("%s takes no webhooks" % self.name)

    def _drain(self, req, _):
        grace = req.grace.seconds + req.grace.nanos / 1e9
        self._draining.set()
        end = time.time() + grace
        with self._lock:
            before = self._open_calls
            while self._open_calls > 1 and time.time() < end:  # one is this call
                self._lock.wait(0.05)
            late = list(self._feeds)
        why = Error(grpc.StatusCode.UNAVAILABLE, "the connector had to end before the call did", reason="DRAINING", domain="casewire")
        for feed in late:
            feed.cancel(why)
        end = time.time() + 0.8
        with self._lock:
            while self._open_calls > 1 and time.time() < end:
                self._lock.wait(0.05)
            return pb.DrainResponse(finished=max(0, before - 1 - len(late)), cancelled=len(late))

    def _error(self, e, conn, changes):
        """Any exception as an Error that may leave the process."""
        if not isinstance(e, Error):
            log.error("connector failed", extra={"stack": conn.redact("".join(traceback.format_exception(type(e), e, e.__traceback__)))})
            e = Error(grpc.StatusCode.INTERNAL, "the connector failed: %s: %s" % (type(e).__name__, e), reason="PANIC", domain="casewire")
        out = Error(e.code, e.message, e.origin, e.effect, e.reason, e.after, e.violations, e.domain or self.name)
        out.message = conn.redact(out.message)
        if not changes:
            out.effect = NONE
        return out

    # The process.

    def _wrap(self, fn, stream):
        def abort(context, e):
            if not isinstance(e, Error):
                log.error("connector failed", extra={"stack": traceback.format_exc()})
                e = Error(grpc.StatusCode.INTERNAL, "the connector failed: %s" % type(e).__name__)
            e.domain = e.domain or self.name
            s = e.status()
            context.set_trailing_metadata((("grpc-status-details-bin", s.SerializeToString()),))
            context.abort(e.code, s.message)

        def count(n):
            with self._lock:
                self._open_calls += n
                self._lock.notify_all()

        def unary(req, context):
            count(1)
            try:
                return fn(req, context)
            except Exception as e:
                abort(context, e)
            finally:
                count(-1)

        def streaming(req, context):
            count(1)
            try:
                yield from fn(req, context)
            except Exception as e:
                abort(context, e)
            finally:
                count(-1)
        return streaming if stream else unary

    def _server(self):
        def enc(m):
            raw = m.SerializeToString()
            if len(raw) > MAX_SEND:
                raise ValueError("an answer of %d bytes is over the limit of %d" % (len(raw), MAX_SEND))
            return raw
        u, s, b = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        rpcs = {
            "Describe": u(self._wrap(self._describe, False), pb.DescribeRequest.FromString, enc),
            "Configure": u(self._wrap(self._configure, False), pb.ConfigureRequest.FromString, enc),
            "Check": u(self._wrap(self._check_rpc, False), pb.CheckRequest.FromString, enc),
            "Invoke": s(self._wrap(self._invoke, True), pb.InvokeRequest.FromString, enc),
            "Consume": b(self._wrap(self._consume, True), pb.ConsumeRequest.FromString, enc),
            "HandleWebhook": u(self._wrap(self._webhook, False), pb.HandleWebhookRequest.FromString, enc),
            "Drain": u(self._wrap(self._drain, False), pb.DrainRequest.FromString, enc),
        }
        server = grpc.server(futures.ThreadPoolExecutor(64), options=[
            ("grpc.max_receive_message_length", MAX_SEND), ("grpc.max_send_message_length", MAX_SEND + (1 << 16)),
            ("grpc.max_metadata_size", 64 << 10), ("grpc.so_reuseport", 0),
        ])
        server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("casewire.connector.v1.Connector", rpcs),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": u(lambda _, __: b"\x08\x01")}),
        ))
        return server

    def serve(self):
        """Runs the connector until its host lets go of it, and ends the process. With the argument pack, it writes the
        connector into one file instead, for `casewire connectors install`."""
        if os.environ.get(COOKIE[0]) != COOKIE[1]:
            if sys.argv[1:2] == ["pack"] and len(sys.argv) < 4:
                out = sys.argv[2] if len(sys.argv) > 2 else "casewire-connector-" + self.name
                sys.stdout.write("%s: %s\n" % (out, ", ".join(pack(sys.argv[0], out))))
                sys.exit(0)
            sys.stderr.write("This program is a Casewire connector. It is started by a Casewire host, not by hand.\n"
                             "Judge it with: casewire connector conformance %s\n"
                             "Pack it into one file, to be installed, with: %s pack\n" % (sys.argv[0], sys.argv[0]))
            sys.exit(1)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JSONLines())
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
        over = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: over.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        path = os.path.join(os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or ".", "c%d.sock" % os.getpid())
        server = self._server()
        if not server.add_insecure_port("unix:" + path):
            sys.exit("cannot listen on " + path)
        server.start()
        os.write(1, ("1|1|unix|%s|grpc|\n" % path).encode())
        os.dup2(2, 1)  # whatever prints from now on prints logs

        def lifeline():
            while os.read(0, 4096):
                pass
            over.set()
        threading.Thread(target=lifeline, daemon=True).start()
        over.wait()
        self._draining.set()
        server.stop(1).wait(1.5)
        for name in list(self._conns):
            self._retire(name)
        if hasattr(os, "getpgrp") and os.getpgrp() == os.getpid():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.kill(0, signal.SIGTERM)  # children, which must not outlive the connector
        os._exit(0)


def pack(script, out):
    """Writes script, with every .py, .json and .binpb file of its folder but tests, into one file that Python runs, and
    returns their names. Hosts install, pin and start single files. The same files make the same bytes. Libraries are not
    packed: grpcio has parts that cannot be."""
    if zipfile.is_zipfile(script):
        sys.exit("%s is packed already" % script)
    root, names = os.path.dirname(os.path.abspath(script)), []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith((".", "_")) and not os.path.exists(os.path.join(folder, f, "pyvenv.cfg"))]
        names += [os.path.relpath(os.path.join(folder, f), root) for f in files
                  if f.endswith((".py", ".json", ".binpb")) and not f.startswith((".", "test_"))]
    with open(script, "rb") as f:
        first = f.readline()
    main = "import runpy\nrunpy.run_module(%r, run_name=\"__main__\")\n" % os.path.splitext(os.path.basename(script))[0]
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as z:
        z.writestr(zipfile.ZipInfo("__main__.py"), main)
        for name in sorted(names):
            with open(os.path.join(root, name), "rb") as f:
                z.writestr(zipfile.ZipInfo(name.replace(os.sep, "/")), f.read())
    with open(out, "wb") as f:
        f.write(first.rstrip() + b"\n" if first.startswith(b"#!") else b"#!/usr/bin/env python3\n")
        f.write(body.getvalue())
    os.chmod(out, 0o755)
    return sorted(names)


class Harness:
    """A connector with one connection, for its tests: every call goes over the real protocol to a server in this process.
    Errors are Error, as the host sees them."""

    def __init__(self, connector, config, state=b""):
        self._dir = tempfile.mkdtemp(prefix="cw")
        self._c, self._server, self._calls = connector, connector._server(), 0
        self._server.add_insecure_port("unix:%s/s" % self._dir)
        self._server.start()
        self._channel = grpc.insecure_channel("unix:%s/s" % self._dir)
        connection = pb.ConnectionConfig(connection="test", generation=1, config=_write(config), state=state)
        try:
            out = self._rpc("Configure", pb.ConfigureResponse)(pb.ConfigureRequest(upserts=[connection])).outcomes[0]
            if out.status:
                raise self._error(_Status.FromString(out.status))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._channel.close()
        self._server.stop(0).wait()
        self._c._retire("test")
        shutil.rmtree(self._dir, ignore_errors=True)

    def _rpc(self, name, answer, kind="unary_unary"):
        return getattr(self._channel, kind)("/casewire.connector.v1.Connector/" + name, lambda m: m.SerializeToString(), answer.FromString)

    def _context(self, **kw):
        self._calls += 1
        return pb.CallContext(connection="test", generation=1, call_id="call-%d" % self._calls, attempt=1, **kw)

    @staticmethod
    def _error(status):
        e = Error(_CODES[status.code], status.message)
        for d in status.details:
            if d.type_url.endswith(".Failure"):
                f = pb.Failure.FromString(d.value)
                e.origin, e.effect = f.origin, f.side_effect
            elif d.type_url.endswith(".ErrorInfo"):
                e.reason = _ErrorInfo.FromString(d.value).reason
            elif d.type_url.endswith(".BadRequest"):
                e.violations = [(v.field, v.description) for v in _BadRequest.FromString(d.value).field_violations]
        return e

    def _raise(self, e):
        for k, v in e.trailing_metadata() or ():
            if k == "grpc-status-details-bin":
                raise self._error(_Status.FromString(v)) from None
        raise e

    def call(self, action, input=None, key="", resolve=False, dry_run=False):
        """Calls an action and returns its output, with rows as "rows"."""
        ctx = self._context(idempotency_key=key or "key of a test", mode=2 if resolve else 1, dry_run=dry_run)
        rows, output = [], None
        try:
            for m in self._rpc("Invoke", pb.InvokeResponse, "unary_stream")(pb.InvokeRequest(call=ctx, action=action, input=_write(input or {}))):
                if m.WhichOneof("kind") == "rows":
                    rows += [json.loads(line) for line in m.rows.ndjson.splitlines()]
                elif m.WhichOneof("kind") == "result":
                    output = json.loads(m.result.output)
        except grpc.RpcError as e:
            self._raise(e)
        if self._c._actions[action].rows:
            output["rows"] = rows
        return output

    def check(self):
        """Runs the probes."""
        try:
            return list(self._rpc("Check", pb.CheckResponse)(pb.CheckRequest(call=self._context())).probes)
        except grpc.RpcError as e:
            self._raise(e)


class _JSONLines(logging.Formatter):
    def format(self, r):
        m = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(r.created)), "level": r.levelname, "msg": r.getMessage()}
        for k in ("connection", "stack"):
            if hasattr(r, k):
                m[k] = getattr(r, k)
        return json.dumps(m)


_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_BLOBS = {"type": "array", "items": {"type": "object", "required": ["name", "media_type", "size", "sha256"], "properties": {
    "name": {"type": "string"}, "media_type": {"type": "string"}, "size": {"type": "integer"}, "sha256": {"type": "string"},
    "data": {"type": "string", "contentEncoding": "base64"}}}}
