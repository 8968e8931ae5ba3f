"""What the tests of SIEM receivers wait by."""

import time

# Seconds after which something that has to happen has not.
PATIENCE = 20


def wait_for(found, patience=PATIENCE, message="waited in vain", every=0.01):
    """What `found` returns once that is something. `message` may be a function."""
    end = time.monotonic() + patience
    while not (result := found()):
        if time.monotonic() > end:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(every)
    return result
