"""Masks e-mail addresses and card numbers in the values of a batch.

The values of a batch are concatenated in one buffer. C code searches the whole buffer for candidates. Python code only
processes the values with candidates. So a chunk without candidates takes only a few milliseconds.
"""

import re
from bisect import bisect_right

# The first search: an `@` (in URLs `%40`), and sequences that may be card numbers. Fast, but with false positives.
AT = re.compile(rb"@|%40")
DIGITS = re.compile(rb"[0-9 -]{13,}+")
MIN_CARD_BYTES = 13

# Possessive (`++`), and only from the start of a word: linear time even for hostile values of 16 MB.
EMAIL = re.compile(
    rb"(?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]++(?:@|%40)[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++"
)
# Only prefixes of the large card networks: most numbers that are times or ids begin with other digits.
CARD = re.compile(rb"(?<![0-9])[2-6](?:[ -]?[0-9]){12,18}+(?![0-9])")

SEPARATORS = b" -"
# The digit sum of each doubled digit, for Luhn's checksum.
DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
STARS = bytes.maketrans(b"0123456789", b"**********")


class Redactor:
    """Masks values as configured."""

    def __init__(self, config):
        self.config = config
        self.text = config.text.encode().replace(b"\\", rb"\\")

    def redact(self, batch):
        """Masks in place: changes `values`, and `value_ends` if lengths change."""
        ends, values = batch.value_ends, batch.values
        pieces, new_ends, copied, done, shift = [], [], 0, 0, 0
        for field in self.candidates(batch):
            start, end = ends[field - 1] if field else 0, ends[field]
            old = values[start:end]
            new = self.mask(old)
            if new == old:
                continue
            pieces += (values[copied:start], new)
            copied = end
            if len(new) != len(old):
                append_ends(new_ends, ends, done, field, shift)
                done, shift = field, shift + len(new) - len(old)
        if pieces:
            pieces.append(values[copied:])
            batch.values = b"".join(pieces)
        if new_ends or shift:
            append_ends(new_ends, ends, done, len(ends), shift)
            batch.value_ends = new_ends

    def candidates(self, batch):
        """Returns the fields that may have something to mask, without duplicates, in order."""
        excepted = {index for index, key in enumerate(batch.keys) if key in self.config.excepted}
        found = set()
        if self.config.email and (b"@" in batch.values or b"%40" in batch.values):
            found.update(self.fields_with_match(batch, AT, 1))
        if self.config.card:
            found.update(self.fields_with_match(batch, DIGITS, MIN_CARD_BYTES))
        return sorted(field for field in found if batch.field_keys[field] not in excepted)

    @staticmethod
    def fields_with_match(batch, pattern, min_bytes):
        """Yields the fields that contain at least `min_bytes` bytes of a match."""
        values, ends = batch.values, batch.value_ends
        position = 0
        while match := pattern.search(values, position):
            start, position = match.span()
            field = bisect_right(ends, start)
            # A match may span several values.
            while start < position:
                if min(position, ends[field]) - start >= min_bytes:
                    yield field
                    # One match per value is enough.
                    position = max(position, ends[field])
                start = ends[field]
                field += 1

    def mask(self, value):
        """Returns a value with its addresses and card numbers masked."""
        if self.config.email:
            value = EMAIL.sub(self.text, value)
        if self.config.card:
            value = CARD.sub(self.mask_card, value)
        return value

    def mask_card(self, match):
        number = match[0]
        if not is_card(number.translate(None, SEPARATORS)):
            return number
        # Separators are kept, so the length does not change.
        kept, digits = len(number), 0
        while digits < self.config.keep_digits:
            kept -= 1
            digits += number[kept] not in SEPARATORS
        return number[:kept].translate(STARS) + number[kept:]


def append_ends(new_ends, ends, first, last, shift):
    """Appends the ends of the fields from `first` up to `last`, shifted by `shift` bytes."""
    new_ends += [end + shift for end in ends[first:last]] if shift else ends[first:last]


def is_card(digits):
    """Returns True if the last digit is the Luhn checksum of the other digits."""
    total = sum(digits[::-2]) + sum(digits[-2::-2].translate(DOUBLED))
    return (total - 48 * len(digits)) % 10 == 0
