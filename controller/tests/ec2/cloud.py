"""EC2's API by moto, made to keep what EC2 promises and moto does not. Prints its port; ends with its standard input.

- One client token makes one instance, and is refused with other parameters.
- The types in SHORT have no capacity, which EC2 says with status 500.
- An instance whose user-data ends in `poweroff` has stopped by the time anybody looks, and its console shows the
  last words that its user-data has for a good end.
- GET /calls lists the calls since the last time.
"""

import base64
import io
import json
import os
import re
import sys
import threading

os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import AmiBackend
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.responses.general import General
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

SHORT = {"c5.large"}
LAST_WORDS = re.compile(r"MAGPIE-(?:BAKE done|IMAGE clean)")

calls = []
tokens = {}
run_instances = InstanceBackend.run_instances
create_image = AmiBackend.create_image


class NoCapacity(EC2ClientError):
    code = 500


def text(user_data):
    return user_data.decode() if user_data else ""


def run_once(self, image_id, count, user_data, security_group_names, **kwargs):
    if kwargs["instance_type"] in SHORT:
        raise NoCapacity("InsufficientInstanceCapacity", "We currently do not have sufficient capacity.")
    request = (image_id, str(user_data), kwargs["instance_type"], str(kwargs.get("tags")))
    known = tokens.get(kwargs["client_token"])
    if known and known[0] != request:
        raise EC2ClientError("IdempotentParameterMismatch", "The token was used with other parameters.")
    if not known:
        made = run_instances(self, image_id, count, user_data, security_group_names, **kwargs)
        known = tokens[kwargs["client_token"]] = (request, made)
        if text(user_data).rstrip().endswith("poweroff"):
            made.instances[0].stop()
    return known[1]


def console(self):
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    said = LAST_WORDS.search(text(instance.user_data))
    output = base64.b64encode(f"boot\n{said[0] if said else 'login:'}\n".encode()).decode()
    return f"<GetConsoleOutputResponse><instanceId>{instance.id}</instanceId><output>{output}</output></GetConsoleOutputResponse>"


def create_once(self, instance_id, name, description, tag_specifications):
    if any(ami.name == name for ami in self.amis.values()):
        raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is in use.")
    # moto knows of tags of images only.
    own = [each for each in tag_specifications if each["ResourceType"] == "image"]
    return create_image(self, instance_id, name, description, own)


InstanceBackend.run_instances = run_once
AmiBackend.create_image = create_once
General.get_console_output = console


class Cloud:
    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ, start_response):
        request = Request(environ)
        if request.path == "/calls":
            answer, calls[:] = json.dumps(calls), []
            return Response(answer, content_type="application/json")(environ, start_response)
        action = re.search(rb"(?:^|&)Action=(\w+)", request.get_data())
        if action:
            calls.append(action[1].decode())
        environ["wsgi.input"] = io.BytesIO(request.get_data())
        return self.moto(environ, start_response)


class Silent(WSGIRequestHandler):
    def log(self, *_args):
        pass


server = make_server("127.0.0.1", 0, Cloud(), threaded=True, request_handler=Silent)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.port, flush=True)
sys.stdin.read()
