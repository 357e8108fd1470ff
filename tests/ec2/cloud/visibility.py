"""What Describe calls see: EC2 is eventually consistent, so it may be what was true a moment ago."""

from contextlib import contextmanager

from moto.ec2.models.instances import InstanceBackend
from moto.ec2.models.tags import TagBackend

import lab

_lagging = True
# Of each resource: until when which tags are seen, the oldest first.
_past = {}


@contextmanager
def at_once():
    """Tags that are made together with their resource are seen with it."""
    global _lagging
    _lagging = False
    try:
        yield
    finally:
        _lagging = True


def install():
    """Gives moto this memory."""
    for name in ("create_tags", "delete_tags"):
        _remember(name)
    describe_tags, all_reservations = TagBackend.describe_tags, InstanceBackend.all_reservations

    def describe(backend, filters=None):
        true, backend.tags = backend.tags, _seen(backend.tags)
        try:
            return describe_tags(backend, filters)
        finally:
            backend.tags = true

    def reservations(backend, filters=None):
        seen = []
        for reservation in all_reservations(backend, filters):
            reservation.instances = [each for each in reservation.instances if _is_seen(each)]
            if reservation.instances:
                seen.append(reservation)
        return seen

    TagBackend.describe_tags = describe
    InstanceBackend.all_reservations = reservations


def _is_seen(instance):
    # The cloud itself sees all, and so does whoever is launching it.
    machine = getattr(instance, "machine", None)
    return machine is None or not lab.request() or machine.visible_at <= lab.now()


def _remember(name):
    change = getattr(TagBackend, name)

    def remembering(backend, resource_ids, tags):
        if _lagging and lab.SETTINGS["lag"]:
            for resource in resource_ids:
                before = (lab.now() + lab.SETTINGS["lag"], dict(backend.tags[resource]))
                _past.setdefault(resource, []).append(before)
        return change(backend, resource_ids, tags)

    setattr(TagBackend, name, remembering)


def _seen(tags):
    seen = tags.copy()
    for resource, versions in _past.items():
        versions[:] = [each for each in versions if each[0] > lab.now()]
        if versions:
            seen[resource] = versions[0][1]
    return seen
