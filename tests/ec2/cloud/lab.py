"""What the parts of the cloud share: settings, whose turn it is, and the request being answered."""

import sys
import threading
import time
from contextlib import contextmanager

# Seconds that things take besides what the host takes. `lag` is how long Describe calls do not know of a new
# instance or of changed tags, `metadata` how long a booting host does not reach its metadata service.
SETTINGS = {"pending": 0.2, "stopping": 0.0, "image": 0.2, "lag": 0.0, "metadata": 0.0}

# moto's tables are not made for several threads: one request at a time is inside it.
_turn = threading.Lock()
_request = threading.local()


@contextmanager
def turn():
    """Inside, nobody else changes the cloud."""
    with _turn:
        yield


@contextmanager
def elsewhere():
    """Lets others have their turn while this one waits for a host."""
    _turn.release()
    try:
        yield
    finally:
        _turn.acquire()


def later(work, *args):
    """Does work that nobody waits for; it takes its own turn."""
    threading.Thread(target=work, args=args, daemon=True).start()


def set_request(form):
    """Remembers the parameters of the request that this thread answers."""
    _request.form = form


def request():
    """The parameters of the request that this thread answers."""
    return getattr(_request, "form", {})


def now():
    """Seconds on a clock that is never set."""
    return time.monotonic()


def complain(error):
    """Tells whoever reads the lab's log."""
    print(error, file=sys.stderr, flush=True)
