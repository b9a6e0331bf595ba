"""An operator on the kopf framework: writes into the status what the specification adds up to."""

import kopf


@kopf.on.create("example.com", "v1", "toys")
def made(spec, patch, **_):
    patch.status["sum"] = spec["min"] + spec["max"]
