"""The local hosts behind the instances, by way of `ec2-lab-host`; and where their files are.

Names of files are those that the local provider's module `state` documents.
"""

import fcntl
import json
import os
import subprocess


class HostError(Exception):
    """A host could not be had; the sentence is the lab binary's."""


class Hosts:
    """All hosts of one state directory."""

    def __init__(self, program, state):
        self.program, self.state = program, state
        self.addresses = os.path.join(state, "addresses")
        os.makedirs(self.addresses, exist_ok=True)

    def _do(self, verb, *args):
        done = subprocess.run(
            [self.program, "--state", self.state, verb, *args],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        if done.returncode != 0:
            raise HostError(f"{verb} {' '.join(args)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def launch(self, instance_id, image):
        """Boots a new host; returns its id and its address."""
        host = self._do("launch", instance_id, image)
        return host["id"], host["address"]

    def start(self, host):
        self._do("start", host)

    def stop(self, host):
        self._do("stop", host)

    def destroy(self, host):
        self._do("destroy", host)

    def capture(self, host):
        """Makes an image of a host's disk as it is, and returns the image's name."""
        return self._do("capture", host)["image"]

    def console(self, host):
        """All that the host wrote to its console."""
        try:
            with open(os.path.join(self.state, "hosts", host, "console.log"), errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def wait_until_ended(self, host):
        """Blocks for as long as the host runs: its supervisor holds the lock."""
        try:
            with open(os.path.join(self.state, "hosts", host, "running")) as running:
                fcntl.flock(running, fcntl.LOCK_SH)
        except FileNotFoundError:
            pass

    def network_holder(self):
        """The process whose network namespace is the cloud's, while a host runs."""
        try:
            with open(os.path.join(self.state, "cloud", "holder")) as holder:
                fcntl.flock(holder, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        except BlockingIOError:
            with open(os.path.join(self.state, "cloud", "holder")) as holder:
                return int(holder.read())
        except FileNotFoundError:
            return None

    def route(self, address, host):
        """Makes `ec2-lab-host dial ADDRESS` reach this host; with no host, nothing answers there."""
        path = os.path.join(self.addresses, address)
        if host is None:
            if os.path.exists(path):
                os.remove(path)
            return
        with open(path + ".new", "w") as file:
            file.write(host)
        os.rename(path + ".new", path)
