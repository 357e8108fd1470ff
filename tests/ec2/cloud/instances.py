"""Instances with a host behind them, and EC2's rules where moto is laxer.

A token launches once; states take time; what EC2 refuses in a state is refused; a host that powers itself off
stops or terminates its instance; the console is the host's own.
"""

import copy
import threading

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2 import utils
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend, StateReason
from moto.ec2.responses.general import General
from moto.ec2.utils import Base64EncodedString

import images
import lab
import visibility
from hosts import HostError

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
GONE = ("shutting-down", "terminated")
# More than EC2's own 64 KiB is never returned.
CONSOLE_LIMIT = 64 << 10


class Machine:
    """What an instance has besides what moto knows of it."""

    def __init__(self, instance):
        self.instance = instance
        self.host = None
        self.address = None
        # Counts what was asked of the instance; work that was overtaken leaves it alone.
        self.epoch = 0
        # The next state by itself, and when.
        self.due = None
        self.booted_at = lab.now()
        self.visible_at = float("inf")

    def become(self, state, due=None):
        """Changes the state now; `due` is a pair of the state after it and the seconds until then."""
        self.instance._state.name, self.instance._state.code = state, CODES[state]
        self.due = due and (due[0], lab.now() + due[1])

    def settle(self):
        """Enters the state that is due."""
        if self.due and self.due[1] <= lab.now():
            self.become(self.due[0])

    def refuse(self, what):
        raise EC2ClientError(
            "IncorrectInstanceState",
            f"The instance '{self.instance.id}' is not in a state from which it can be {what}.",
        )


class Launched:
    """What a client token stands for."""

    def __init__(self, form):
        self.form, self.reservation, self.done = form, None, threading.Event()


class Instances:
    """Every instance of the cloud; installs itself into moto."""

    def __init__(self, hosts, metadata):
        self.hosts, self.metadata = hosts, metadata
        self.machines = {}
        self.tokens = {}
        self._patch()

    def _patch(self):
        patch(InstanceBackend, "run_instances", self._run)
        patch(Instance, "start", self._start)
        patch(Instance, "stop", self._stop)
        patch(Instance, "terminate", self._terminate)
        patch(Instance, "reboot", self._reboot)
        patch(InstanceBackend, "modify_instance_attribute", self._modify)
        patch(General, "get_console_output", self._console)
        utils.filter_dict_attribute_mapping["client-token"] = "client_token"

    def settle(self):
        """Lets every instance enter the state that is due."""
        for machine in list(self.machines.values()):
            machine.settle()

    def at(self, address):
        """The machine whose host has this address in the cloud's network."""
        for machine in list(self.machines.values()):
            if machine.address == address and machine.instance.state not in GONE:
                return machine
        return None

    def end(self):
        """Destroys all hosts."""
        for machine in list(self.machines.values()):
            try:
                if machine.host and machine.instance.state != "terminated":
                    self.hosts.destroy(machine.host)
            except HostError as error:
                lab.complain(error)

    # RunInstances

    def _run(self, original, backend, image_id, count, user_data, groups, **more):
        token = more.get("client_token")
        form = {key: value for key, value in lab.request().items() if key != "ClientToken"}
        known = self.tokens.get((id(backend), token)) if "ClientToken" in lab.request() else None
        if known:
            return self._again(known, form)
        image = images.bootable(backend, image_id)
        with visibility.at_once():
            reservation = original(backend, image_id, count, user_data, groups, **more)
        launched = self.tokens[id(backend), token] = Launched(form)
        launched.reservation = reservation
        try:
            for instance in reservation.instances:
                self._boot_new(instance, image)
        except HostError as error:
            lab.complain(error)
            del self.tokens[id(backend), token]
            raise EC2ClientError("InternalError", str(error)) from error
        finally:
            launched.done.set()
        return reservation

    def _again(self, known, form):
        if known.form != form:
            raise EC2ClientError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )
        with lab.elsewhere():
            known.done.wait()
        return known.reservation

    def _boot_new(self, instance, image):
        machine = self.machines[instance.id] = instance.machine = Machine(instance)
        machine.become("pending")
        with lab.elsewhere():
            host, address = self.hosts.launch(instance.id, image)
            self.metadata.listen()
        machine.host, machine.address = host, address
        instance.nics[0].private_ip_address = address
        for entry in instance.nics[0].private_ip_addresses:
            entry["PrivateIpAddress"] = address
        machine.become("pending", ("running", lab.SETTINGS["pending"]))
        machine.visible_at = lab.now() + lab.SETTINGS["lag"]
        self._up(machine)

    def _up(self, machine):
        machine.booted_at = lab.now()
        for address in filter(None, (machine.address, machine.instance.public_ip)):
            self.hosts.route(address, machine.host)
        lab.later(self._watch, machine, machine.epoch)

    def _down(self, machine):
        machine.epoch += 1
        for address in filter(None, (machine.address, machine.instance.public_ip)):
            self.hosts.route(address, None)
        return machine.epoch

    # A host's own end

    def _watch(self, machine, epoch):
        self.hosts.wait_until_ended(machine.host)
        with lab.turn():
            if machine.epoch != epoch:
                return
            terminates = machine.instance.instance_initiated_shutdown_behavior == "terminate"
            (machine.instance.terminate if terminates else machine.instance.stop)()
            code = "Client.InstanceInitiatedShutdown"
            machine.instance.state_reason = StateReason(f"{code}: Instance initiated shutdown", code)

    # StartInstances, StopInstances, RebootInstances, TerminateInstances

    def _start(self, original, instance):
        machine, previous = instance.machine, copy.copy(instance._state)
        if previous.name in ("pending", "running"):
            return previous
        if previous.name != "stopped":
            machine.refuse("started")
        original(instance)
        machine.epoch += 1
        machine.become("pending")
        lab.later(self._boot_again, machine, machine.epoch)
        return previous

    def _boot_again(self, machine, epoch):
        try:
            self.hosts.start(machine.host)
            self.metadata.listen()
        except HostError as error:
            lab.complain(error)
            with lab.turn():
                machine.become("stopped")
            return
        with lab.turn():
            if machine.epoch == epoch:
                machine.become("pending", ("running", lab.SETTINGS["pending"]))
                self._up(machine)

    def _stop(self, original, instance):
        machine, previous = instance.machine, copy.copy(instance._state)
        if previous.name in ("stopping", "stopped"):
            return previous
        if previous.name not in ("running", "pending") or machine.host is None:
            machine.refuse("stopped")
        epoch = self._down(machine)
        original(instance)
        machine.become("stopping")
        lab.later(self._finish, machine, epoch, self.hosts.stop, "stopped")
        return previous

    def _terminate(self, original, instance):
        machine, previous = instance.machine, copy.copy(instance._state)
        if previous.name in GONE:
            return previous
        epoch = self._down(machine)
        original(instance)
        machine.become("shutting-down")
        lab.later(self._finish, machine, epoch, self.hosts.destroy, "terminated")
        return previous

    def _finish(self, machine, epoch, work, state):
        try:
            work(machine.host)
        except HostError as error:
            lab.complain(error)
        self.metadata.close_if_deserted()
        with lab.turn():
            if machine.epoch == epoch:
                machine.become(machine.instance.state, (state, lab.SETTINGS["stopping"]))

    def _reboot(self, _original, instance):
        machine = instance.machine
        if instance.state != "running":
            machine.refuse("rebooted")
        machine.epoch += 1
        lab.later(self._boot_anew, machine, machine.epoch)

    def _boot_anew(self, machine, epoch):
        self.hosts.stop(machine.host)
        self.hosts.start(machine.host)
        self.metadata.listen()
        with lab.turn():
            if machine.epoch == epoch:
                self._up(machine)

    def _modify(self, original, backend, instance_id, key, value):
        machine = backend.get_instance(instance_id).machine
        if key in ("user_data", "instance_type") and machine.instance.state != "stopped":
            raise EC2ClientError(
                "IncorrectInstanceState", f"The instance '{instance_id}' is not in the 'stopped' state."
            )
        return original(backend, instance_id, key, value)

    # GetConsoleOutput

    def _console(self, _original, response):
        instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
        said = self.hosts.console(instance.machine.host)[-CONSOLE_LIMIT:]
        return ActionResult({
            "InstanceId": instance.id,
            "Timestamp": utcnow(),
            "Output": Base64EncodedString.from_raw_string(said),
        })


def patch(owner, name, replacement):
    """Replaces a method; the new one gets the old one first."""
    original = getattr(owner, name)

    def patched(*args, **more):
        return replacement(original, *args, **more)

    setattr(owner, name, patched)
