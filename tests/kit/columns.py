"""The columns that tables of the inputs are made with."""

RESERVED = ["__time__", "__topic__", "__source__"]

# Logs of the one kind lack what is the other's.
SAMPLE = RESERVED + [
    *("method", "path", "status", "bytes", "latency", "host", "client_ip", "referer", "user_agent"),
    *("request_id", "level", "logger", "message", "trace_id", "thread", "user", "context"),
]

HOSTILE = RESERVED + ["text", "number", "nested", "flag", "twice", "键"]
