"""Refusals of requests, as both servers answer them."""

import json
from xml.sax.saxutils import escape


class Refused(Exception):
    """A refused request. `hold` is the delay that Tunnel asks for, in milliseconds."""

    def __init__(self, status, code, message, hold=None):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.hold = status, code, message, hold

    def json(self):
        """The body of Tunnel's answer."""
        said = {"Code": self.code, "Message": self.message}
        return json.dumps(said | ({} if self.hold is None else {"HoldClientMillis": self.hold})).encode()

    def xml(self, request_id):
        """The body of the service's answer."""
        body = f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message>"
        body += f"<RequestId>{request_id}</RequestId><HostId>fake</HostId></Error>"
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()
