"""The instance metadata service, version 2, at 169.254.169.254 inside the hosts' network.

It tells instances apart by their address, as EC2 does. What it answers is in the EC2 user guide, "Instance
metadata categories" and "Use the Instance Metadata Service to access instance metadata".
"""

import base64
import ctypes
import json
import os
import secrets
import socket
import subprocess
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import lab

ADDRESS = "169.254.169.254"
# A web server in the same network, for what hosts install; its files are in `web` of the state directory.
WEB = "10.213.0.1"
BRIDGE = "magpie0"
CLONE_NEWNET = 0x40000000
LONGEST_TOKEN = 21600


class Metadata:
    """Serves while there is a network to serve in."""

    def __init__(self, hosts):
        self.hosts = hosts
        self.instances = None
        self.lock = threading.Lock()
        self.network, self.servers = None, []
        # Token: whose it is, and until when.
        self.tokens = {}

    def listen(self):
        """Serves in the network that the hosts have now."""
        with self.lock:
            holder = self.hosts.network_holder()
            network = holder and f"/proc/{holder}/ns/net"
            inode = network and os.stat(network).st_ino
            if inode == self.network:
                return
            self._close()
            if network is None:
                return
            made = []
            thread = threading.Thread(target=lambda: made.extend(_listeners(network)))
            thread.start()
            thread.join()
            web = partial(_Web, directory=os.path.join(self.hosts.state, "web"))
            self.servers = [_Server(self, made[0], _Handler), _Server(self, made[1], web)]
            self.network = inode
            for server in self.servers:
                threading.Thread(target=server.serve_forever, daemon=True).start()

    def close_if_deserted(self):
        """An open socket would keep the network of the last host."""
        with self.lock:
            if self.hosts.network_holder() is None:
                self._close()

    def _close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.network, self.servers = None, []

    def token(self, machine, seconds):
        """A new token of this machine's."""
        token = secrets.token_urlsafe(32)
        self.tokens[token] = (machine.instance.id, lab.now() + seconds)
        return token

    def knows(self, machine, token):
        """Is this a token of this machine's, and still good?"""
        owner, until = self.tokens.get(token, (None, 0))
        return owner == machine.instance.id and lab.now() < until


def _listeners(network):
    """Listening sockets in a network namespace; they stay there, this thread goes.

    A namespace is a thread's own, and so is what the thread starts."""
    with open(network) as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the hosts' network")
    subprocess.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", BRIDGE], check=True)
    return [socket.create_server((address, 80), backlog=64) for address in (ADDRESS, WEB)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, metadata, listener, handler):
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.metadata = listener, metadata


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"

    def do_PUT(self):
        machine = self._machine()
        if machine is None:
            return
        try:
            seconds = int(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", ""))
        except ValueError:
            seconds = 0
        if self.path != "/latest/api/token":
            self._answer(404)
        # The guide: a request that came through a proxy gets no token.
        elif "X-Forwarded-For" in self.headers:
            self._answer(403)
        elif not 0 < seconds <= LONGEST_TOKEN:
            self._answer(400)
        else:
            self._answer(200, self.server.metadata.token(machine, seconds))

    def do_GET(self):
        machine = self._machine()
        if machine is None:
            return
        token = self.headers.get("X-aws-ec2-metadata-token")
        needed = token is not None or machine.instance.metadata_options.http_tokens == "required"
        if needed and not self.server.metadata.knows(machine, token):
            self._answer(401)
            return
        content = find(machine.instance, self.path.split("?")[0].strip("/").split("/"))
        self._answer(404 if content is None else 200, content or "")

    def _machine(self):
        machine = self.server.metadata.instances.at(self.client_address[0])
        if machine is None or lab.now() < machine.booted_at + lab.SETTINGS["metadata"]:
            # Not there yet, as it is while a network comes up.
            self.close_connection = True
            return None
        if machine.instance.metadata_options.http_endpoint == "disabled":
            self._answer(403)
            return None
        return machine

    def _answer(self, status, content=""):
        body = content if isinstance(content, bytes) else content.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


class _Web(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Says nothing."""


def find(instance, path):
    """What is at a path, or None: a value, or the names in a directory, these with a slash that are one."""
    node = {"meta-data": _meta_data(instance), "dynamic": _dynamic(instance)}
    if instance.user_data is not None:
        node["user-data"] = base64.b64decode(str(instance.user_data))
    # The first part is a version, such as latest.
    for name in path[1:]:
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict):
        return "\n".join(name + "/" * isinstance(node[name], dict) for name in node)
    return node


def _meta_data(instance):
    nic = instance.nics[0]
    found = {
        "ami-id": instance.image_id,
        "ami-launch-index": "0",
        "hostname": instance.private_dns_name,
        "instance-id": instance.id,
        "instance-life-cycle": instance.lifecycle or "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": instance.private_ip,
        "mac": nic.mac_address,
        "placement": {
            "availability-zone": instance._placement.zone,
            "region": instance.region_name,
        },
        "security-groups": "\n".join(group.name for group in instance.security_groups),
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if instance.public_ip:
        found["public-ipv4"] = instance.public_ip
    return found


def _dynamic(instance):
    document = {
        "accountId": instance.owner_id,
        "architecture": instance.architecture,
        "availabilityZone": instance._placement.zone,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "privateIp": instance.private_ip,
        "region": instance.region_name,
        "version": "2017-09-30",
    }
    return {"instance-identity": {"document": json.dumps(document)}}
