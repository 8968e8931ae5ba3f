"""The scale of long tests: LOGSHIP_SOAK=1 runs them whole (`cargo xtask soak`), and a tenth is the default."""

import os

SCALE = float(os.environ.get("LOGSHIP_SOAK", 0.1))


def scaled(whole, least=1, step=1):
    """Returns `whole` at the scale, in multiples of `step`, and at least `least`."""
    return max(least, round(whole * SCALE / step) * step)
