"""RAM policies, and keys with them."""

import json


def statement(action, resource="*", effect="Allow"):
    return {"Effect": effect, "Action": action, "Resource": resource}


def policy(*statements):
    return {"Version": "1", "Statement": list(statements)}


def create_key(service, *statements):
    """Creates a key with a policy. The next start of the service finds it at once."""
    file = service.folder / "policy.json"
    file.write_text(json.dumps(policy(*statements), indent=4))
    return service.create_key("--policy", file)
