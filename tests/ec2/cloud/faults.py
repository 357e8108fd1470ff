"""Faults between the client and the cloud, and the list of all calls.

A rule is a JSON object. It applies to calls of `action` (a pattern) whose parameters are like those in `where`,
after the first `skip` of these and at most `times`, and by `probability` (drawn from `seed`, so that a test is the
same each time). It waits `delay` seconds, and then does one of these:

    "error": {"status", "code", "message"}   refuses the call, which nobody acted on
    "kill": "before" | "after"               kills the caller before or after the call is acted on
    "lose": true                             acts on the call and hangs up without an answer
"""

import os
import random
import re
import signal
import socket
import time
import uuid
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

# The controller's tests let each process name itself by its pid.
CALLER = re.compile(r"\bapp/(\d+)\b")
# Parameters that tell one call from another; the list of calls has them.
SHOWN = re.compile(r"^(InstanceType|ClientToken|ImageId|InstanceId(\.\d+)?|Name|SubnetId)$")


class Call:
    """One request of the API."""

    def __init__(self, environ):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        self.body = body
        # The query protocol names the action in the form, the JSON ones in a header.
        target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        self.action = self.form.get("Action") or target or environ["PATH_INFO"]
        caller = CALLER.search(environ.get("HTTP_USER_AGENT", ""))
        self.caller = int(caller[1]) if caller else None
        self.connection = environ.get("werkzeug.socket")


class Rule:
    """One scripted fault."""

    def __init__(self, form):
        self.form = form
        self.seen = self.done = 0
        self.random = random.Random(form.get("seed", 0))

    def applies(self, call):
        """Does the fault befall this call? Counts it."""
        like = self.form.get("where", {}).items()
        if not fnmatchcase(call.action, self.form.get("action", "*")):
            return False
        if not all(fnmatchcase(call.form.get(name, ""), pattern) for name, pattern in like):
            return False
        if self.form.get("caller") not in (None, call.caller):
            return False
        self.seen += 1
        if self.seen <= self.form.get("skip", 0) or self.done >= self.form.get("times", float("inf")):
            return False
        if self.random.random() >= self.form.get("probability", 1):
            return False
        self.done += 1
        return True


class Faults:
    """WSGI middleware."""

    def __init__(self, cloud):
        self.cloud, self.rules, self.calls = cloud, [], []

    def __call__(self, environ, start_response):
        call = Call(environ)
        rule = next((rule.form for rule in self.rules if rule.applies(call)), {})
        entry = {
            "action": call.action,
            "caller": call.caller,
            "parameters": {name: value for name, value in call.form.items() if SHOWN.match(name)},
            "at": time.time(),
        }
        self.calls.append(entry)
        time.sleep(rule.get("delay", 0))
        if "error" in rule:
            entry["outcome"] = rule["error"]["code"]
            return refuse(rule["error"], start_response)
        if rule.get("kill") == "before":
            entry["outcome"] = "killed before"
            os.kill(call.caller, signal.SIGKILL)
            return hang_up(call, start_response)
        status, headers, body = self.cloud(environ, call)
        entry["outcome"] = outcome(status, body)
        if rule.get("kill") == "after":
            entry["outcome"] += ", killed after"
            os.kill(call.caller, signal.SIGKILL)
        if rule.get("kill") == "after" or rule.get("lose"):
            return hang_up(call, start_response)
        start_response(status, headers)
        return [body]


def outcome(status, body):
    """`ok`, or the code of the error."""
    if status.startswith("200"):
        return "ok"
    code = re.search(rb"<Code>([^<]*)</Code>", body)
    return code[1].decode() if code else status


def refuse(error, start_response):
    """Answers with an error as EC2 writes it."""
    reasons = {400: "Bad Request", 403: "Forbidden", 500: "Internal Server Error", 503: "Service Unavailable"}
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(error['code'])}</Code><Message>{escape(error['message'])}</Message>"
        f"</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
    )
    start_response(f"{error['status']} {reasons[error['status']]}", [("Content-Type", "text/xml")])
    return [body.encode()]


def hang_up(call, start_response):
    """Ends the connection without an answer."""
    call.connection.shutdown(socket.SHUT_RDWR)
    start_response("500 Internal Server Error", [])
    return []
