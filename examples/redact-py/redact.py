"""Masks e-mail addresses and card numbers in the values of a batch.

Values stand end to end in one piece of bytes. It is searched as a whole, by C code, for places where something might
be; only values with such a place are taken out and looked at one by one. So a chunk without any is through in some
milliseconds, and Python has to do with the others only.
"""

import re
from bisect import bisect_right

# The first search: an `@` (in a URL, `%40`), and what may be the digits of a card. It finds too much, and is quick.
AT = re.compile(rb"@|%40")
DIGITS = re.compile(rb"[0-9 -]{13,}+")
FEWEST = 13

# Possessive (`++`), and only from where a word begins: each byte is looked at a fixed number of times, also of a
# value of 16 MB that a stranger made.
EMAIL = re.compile(
    rb"(?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]++(?:@|%40)[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++"
)
# By the first digits of the large card networks: numbers that are times or ids mostly begin otherwise.
CARD = re.compile(rb"(?<![0-9])[2-6](?:[ -]?[0-9]){12,18}+(?![0-9])")

SEPARATORS = b" -"
# What twice a digit counts in Luhn's checksum: its digits' sum.
DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
STARS = bytes.maketrans(b"0123456789", b"**********")


class Redactor:
    """What is masked, as a configuration says."""

    def __init__(self, config):
        self.config = config
        self.text = config.text.encode().replace(b"\\", rb"\\")

    def redact(self, batch):
        """Masks in the batch itself: `values`, and `value_ends` where lengths change."""
        ends, values = batch.value_ends, batch.values
        pieces, new_ends, copied, done, shift = [], [], 0, 0, 0
        for field in self.suspects(batch):
            start, end = ends[field - 1] if field else 0, ends[field]
            old = values[start:end]
            new = self.mask(old)
            if new == old:
                continue
            pieces += (values[copied:start], new)
            copied = end
            if len(new) != len(old):
                append(new_ends, ends, done, field, shift)
                done, shift = field, shift + len(new) - len(old)
        if pieces:
            pieces.append(values[copied:])
            batch.values = b"".join(pieces)
        if new_ends or shift:
            append(new_ends, ends, done, len(ends), shift)
            batch.value_ends = new_ends

    def suspects(self, batch):
        """The fields that may have something to mask, each once, in order."""
        spared = {index for index, key in enumerate(batch.keys) if key in self.config.spared}
        found = set()
        if self.config.email and (b"@" in batch.values or b"%40" in batch.values):
            found.update(self.fields(batch, AT, 1))
        if self.config.card:
            found.update(self.fields(batch, DIGITS, FEWEST))
        return sorted(field for field in found if batch.field_keys[field] not in spared)

    @staticmethod
    def fields(batch, pattern, least):
        """The fields in which at least so many bytes of a match are."""
        values, ends = batch.values, batch.value_ends
        position = 0
        while match := pattern.search(values, position):
            start, position = match.span()
            field = bisect_right(ends, start)
            # A match may begin in one value and end in another.
            while start < position:
                if min(position, ends[field]) - start >= least:
                    yield field
                    # Once is enough for this value.
                    position = max(position, ends[field])
                start = ends[field]
                field += 1

    def mask(self, value):
        """A value with its addresses and card numbers masked."""
        if self.config.email:
            value = EMAIL.sub(self.text, value)
        if self.config.card:
            value = CARD.sub(self.stars, value)
        return value

    def stars(self, match):
        number = match[0]
        if not is_card(number.translate(None, SEPARATORS)):
            return number
        # Separators stay where they are, so a number's length does too.
        kept, digits = len(number), 0
        while digits < self.config.keep_digits:
            kept -= 1
            digits += number[kept] not in SEPARATORS
        return number[:kept].translate(STARS) + number[kept:]


def append(new_ends, ends, first, last, shift):
    """Appends the ends of the fields from `first` up to `last`, moved by `shift` bytes."""
    new_ends += [end + shift for end in ends[first:last]] if shift else ends[first:last]


def is_card(digits):
    """Whether the last digit is the checksum of those before it (Luhn)."""
    total = sum(digits[::-2]) + sum(digits[-2::-2].translate(DOUBLED))
    return (total - 48 * len(digits)) % 10 == 0
