"""Images: each AMI stands for an image of the local provider; CreateImage copies a host's disk."""

from moto.ec2.exceptions import EC2ClientError, InvalidAMIIdError
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.utils import random_ami_id

import lab
from hosts import HostError


def bootable(backend, image_id):
    """The local image behind an AMI that can be launched now."""
    ami = backend.amis.get(image_id)
    if ami is None:
        raise InvalidAMIIdError(image_id)
    if ami.state != "available":
        raise EC2ClientError(
            "InvalidAMIID.Unavailable", f"The image ID '{image_id}' is not available ({ami.state})"
        )
    return ami.local_image


def register(backend, image, name, tags):
    """Makes an image of the local provider known as an AMI, and returns its id."""
    ami = Ami(backend, random_ami_id(), name=name, architecture="x86_64", virtualization_type="hvm",
              root_device_type="ebs", root_device_name="/dev/xvda", tags=tags)
    ami.local_image = image
    backend.amis[ami.id] = ami
    return ami.id


class Images:
    """Installs itself into moto."""

    def __init__(self, hosts, metadata):
        self.hosts, self.metadata = hosts, metadata
        self.pending = []
        original = AmiBackend.create_image

        def create_image(backend, instance_id, name, description, tag_specifications):
            return self._create(original, backend, instance_id, name, description, tag_specifications)

        AmiBackend.create_image = create_image

    def settle(self):
        """Makes images available whose time has come."""
        for due, ami in list(self.pending):
            if due <= lab.now():
                ami.state = "available"
                self.pending.remove((due, ami))

    def _create(self, original, backend, instance_id, name, description, specifications):
        if any(ami.name == name for ami in backend.amis.values()):
            raise EC2ClientError(
                "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by another AMI"
            )
        machine = backend.get_instance(instance_id).machine
        state = machine.instance.state
        if state not in ("running", "stopping", "stopped"):
            machine.refuse("imaged")
        of = {each["ResourceType"]: each["Tags"] for each in specifications}
        own = [each for each in specifications if each["ResourceType"] == "image"]
        ami = original(backend, instance_id, name, description, own)
        for tag in of.get("snapshot", []):
            ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
        ami.state, ami.root_device_type = "pending", "ebs"
        reboot = state == "running" and lab.request().get("NoReboot", "false") != "true"
        if reboot:
            machine.epoch += 1
        try:
            # The image is of this moment; what becomes of the instance afterwards does not matter to it.
            with lab.elsewhere():
                ami.local_image = self._capture(machine, reboot)
            self.pending.append((lab.now() + lab.SETTINGS["image"], ami))
        except HostError as error:
            lab.complain(error)
            ami.state = "failed"
        return ami

    def _capture(self, machine, reboot):
        if not reboot:
            return self.hosts.capture(machine.host)
        self.hosts.stop(machine.host)
        image = self.hosts.capture(machine.host)
        self.hosts.start(machine.host)
        self.metadata.listen()
        return image
