"""Access keys of the local cloud, which the store and the token service share."""

import secrets
import threading
import time
from dataclasses import dataclass

ACCOUNT = "1000000000000001"
OTHER_ACCOUNT = "1000000000000002"


def user_arn(account, name):
    return f"acs:ram::{account}:user/{name}"


def role_arn(account, name):
    return f"acs:ram::{account}:role/{name}"


def root_arn(account):
    """The account itself; as somebody to trust, all of the account's users and roles."""
    return f"acs:ram::{account}:root"


@dataclass
class AccessKey:
    """A key of a user, or a temporary one of a session of a role."""

    id: str
    secret: str
    principal: str
    role: str = ""
    token: str = ""
    expires: float = float("inf")

    @property
    def account(self):
        return self.principal.split(":")[3]

    def names(self):
        """The names of the holder in policies."""
        return {self.id, self.principal, self.role} - {""}


class Keyring:
    """All keys, and the clock by which they expire. `ahead` is its difference from the true clock, in seconds."""

    def __init__(self):
        self.ahead = 0.0
        self._keys = {}
        self._lock = threading.Lock()

    def now(self):
        return time.time() + self.ahead

    def find(self, key_id):
        with self._lock:
            return self._keys.get(key_id)

    def remove(self, key):
        with self._lock:
            del self._keys[key.id]

    def add(self, user="tester", account=ACCOUNT, key_id="", secret=""):
        """A new key of a user; of the account itself, where `user` is empty."""
        principal = user_arn(account, user) if user else root_arn(account)
        key_id = key_id or "LTAI" + secrets.token_hex(10)
        return self._keep(AccessKey(key_id, secret or secrets.token_hex(15), principal))

    def issue(self, role, session, seconds):
        """A temporary key of a session of a role, given by its ARN."""
        principal = f"{role.replace(':role/', ':assumed-role/')}/{session}"
        expires = self.now() + seconds
        # With all that has to be escaped.
        token = "CAIS" + secrets.token_urlsafe(60) + "+/=="
        key_id, secret = "STS." + secrets.token_hex(12), secrets.token_hex(22)
        return self._keep(AccessKey(key_id, secret, principal, role, token, expires))

    def expire(self, key):
        """Ends a temporary key before its time."""
        key.expires = self.now()

    def _keep(self, key):
        with self._lock:
            self._keys[key.id] = key
        return key
