"""EC2 on one machine: moto's API, with a real host behind every instance. Needs root.

Prints the port of its API on loopback. Ends with its standard input, so with whoever started it, and its hosts with
it.
"""

import argparse
import io
import os
import sys
import threading

# Before moto is imported: its list of public images takes seconds; what EC2 refuses is to be refused.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
os.environ["MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION"] = "true"
os.environ["MOTO_ENABLE_KEYPAIR_VALIDATION"] = "false"

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

import lab
import visibility
from control import Control
from faults import Faults
from hosts import Hosts
from images import Images
from instances import Instances
from metadata import Metadata


class Cloud:
    """moto, asked by one request at a time."""

    def __init__(self, *clocks):
        self.clocks = clocks
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ, call):
        """Acts on a call; returns status, headers and body."""
        environ["wsgi.input"] = io.BytesIO(call.body)
        with lab.turn():
            for clock in self.clocks:
                clock.settle()
            lab.set_request(call.form)
            try:
                answer, status, headers = run_wsgi_app(self.moto, environ, buffered=True)
            finally:
                lab.set_request({})
        return status, list(headers), b"".join(answer)


class Silent(WSGIRequestHandler):
    def log(self, *_args):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lab-host", required=True, help="the built ec2-lab-host")
    parser.add_argument("--state", required=True, help="state directory of the local provider")
    args = parser.parse_args()

    hosts = Hosts(args.lab_host, args.state)
    metadata = Metadata(hosts)
    visibility.install()
    instances = metadata.instances = Instances(hosts, metadata)
    cloud = Cloud(instances, Images(hosts, metadata))
    control = Control(Faults(cloud), instances)
    server = make_server("127.0.0.1", 0, control, threaded=True, request_handler=Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    instances.end()


main()
