"""How a test speaks to the cloud: JSON over HTTP, below /magpie-lab/."""

import json

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

import images
import lab
from faults import Rule

PREFIX = "/magpie-lab/"


class Control:
    """WSGI middleware above the faults, which do not befall it."""

    def __init__(self, faults, instances):
        self.faults, self.instances = faults, instances
        self.verbs = {
            ("GET", "calls"): self._calls,
            ("GET", "instances"): self._instances,
            ("PUT", "calls"): self._forget_calls,
            ("PUT", "faults"): self._set_faults,
            ("PUT", "settings"): self._set_settings,
            ("POST", "images"): self._register,
        }

    def __call__(self, environ, start_response):
        if not environ["PATH_INFO"].startswith(PREFIX):
            return self.faults(environ, start_response)
        verb = self.verbs.get((environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(PREFIX)))
        if verb is None:
            start_response("404 Not Found", [])
            return [b"null"]
        sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        answer = json.dumps(verb(json.loads(sent) if sent else None)).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]

    def _calls(self, _):
        return self.faults.calls

    def _forget_calls(self, _):
        self.faults.calls.clear()

    def _set_faults(self, rules):
        self.faults.rules = [Rule(rule) for rule in rules]

    def _set_settings(self, settings):
        unknown = settings.keys() - lab.SETTINGS.keys()
        if unknown:
            raise KeyError(f"no such settings: {unknown}")
        lab.SETTINGS.update(settings)

    def _register(self, image):
        with lab.turn():
            backend = ec2_backends[DEFAULT_ACCOUNT_ID][image["region"]]
            return images.register(backend, image["image"], image["name"], image["tags"])

    def _instances(self, _):
        with lab.turn():
            self.instances.settle()
            return [self._told(machine) for machine in self.instances.machines.values()]

    def _told(self, machine):
        instance = machine.instance
        return {
            "id": instance.id,
            "state": instance.state,
            "host": machine.host,
            "private": machine.address,
            "public": instance.public_ip,
            "type": instance.instance_type,
            "image": instance.image_id,
            "token": instance.client_token,
            "tags": dict(instance.ec2_backend.tags.get(instance.id, {})),
        }
