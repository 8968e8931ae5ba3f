"""Messages of syslog in a stream, as RFC 6587 frames them. What is not framed so is a `Broken` stream: there is no way
to find the next message."""

# Longer counts are of nobody who counts right.
MOST_DIGITS = 9


class Broken(Exception):
    """An invalid stream."""


class Octets:
    """Octet counting: the length in digits, a space, and as many bytes."""

    def __init__(self):
        self.rest = b""

    def feed(self, data):
        """The messages that are complete by now."""
        whole, at = self.rest + data, 0
        self.rest = whole
        while place := _place(whole, at):
            begin, at = place
            # The consumer of the messages may stop after any of them.
            self.rest = memoryview(whole)[at:]
            yield _message(whole[begin:at])
        self.rest = whole[at:]


def _place(data, at):
    """Begin and end of the message that is counted here, or None if it is incomplete."""
    begin = data[at : at + MOST_DIGITS + 1]
    digits, space, _ = begin.partition(b" ")
    right = digits.isdigit() and not digits.startswith(b"0") and len(digits) <= MOST_DIGITS
    if begin and not right:
        raise Broken(f"no length: {data[at : at + 40]!r}")
    first = at + len(digits) + 1
    return (first, first + int(digits)) if space and len(data) >= first + int(digits) else None


class Lines:
    """Each message ends with a newline, and has no other."""

    def __init__(self):
        self.rest = b""

    def feed(self, data):
        """The messages that are complete by now."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        yield from map(_message, lines)


def _message(message):
    if not message.startswith(b"<"):
        raise Broken(f"no priority: {message[:40]!r}")
    return message
