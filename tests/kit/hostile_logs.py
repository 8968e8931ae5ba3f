"""Lines with topics, tags and hostile values."""

import json

HOSTILE = ["plain", "a,b\"c\"\r\nd", "||", "\u0000\u001f", "é😀", "", " 1", "x" * 70_000]


def logs(count=3000):
    """Lines with topics, tags and hostile values."""
    made = []
    for number in range(count):
        made.append({
            "__time__": 1_760_000_000 + number, "__topic__": f"topic-{number % 3}", "__source__": f"10.0.0.{number % 7}",
            "__tag__:host": f"web-{number % 2}", "id": str(number), "size": str(number * 7), "text": HOSTILE[number % 8 if number % 50 == 0 else number % 7],
        })
    return "".join(json.dumps(log) + "\n" for log in made).encode()
