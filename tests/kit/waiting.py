"""Waits for conditions."""

import time

# Seconds until a wait fails.
PATIENCE = 30


def wait_for(condition, patience=PATIENCE, message="the condition was never met", every=0.02):
    """Returns the first true value of `condition`. Fails with `message`, a text or a function, after `patience` seconds."""
    end = time.monotonic() + patience
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(every)
    return result
