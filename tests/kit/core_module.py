"""Core modules of WebAssembly, written byte by byte: small files that are hard to compile or to run."""

END = b"\x0b"
I32, I64 = b"\x7f", b"\x7e"
NO_LOCALS = b"\x00"


def unsigned(number):
    """The number in LEB128."""
    encoded = b""
    while True:
        low, number = number & 0x7F, number >> 7
        if not number:
            return encoded + bytes([low])
        encoded += bytes([low | 0x80])


def signed(number):
    """The number in signed LEB128."""
    encoded = b""
    while True:
        low, number = number & 0x7F, number >> 7
        if (number, low & 0x40) in ((0, 0), (-1, 0x40)):
            return encoded + bytes([low])
        encoded += bytes([low | 0x80])


def vector(items):
    return unsigned(len(items)) + b"".join(items)


def _text(text):
    return unsigned(len(text)) + text.encode()


def _section(number, content):
    return bytes([number]) + unsigned(len(content)) + content


def renderer(describe=b"\x00", functions=(), start=None):
    """A module with the exports of a renderer. `describe` is the code of that function; by default it traps.

    `functions` are the locals and the code of more functions. The one at the index `start` runs first.
    """
    interface = "logship:object-path/renderer@1.0.0#"
    types = [(4 * [I32], [I32]), ([], [I32]), ([I32], [I32]), ([], [])]
    bodies = [(NO_LOCALS, b"\x00"), (vector([b"\x01" + I64]), describe), (NO_LOCALS, b"\x00"), *functions]
    kinds = [0, 1, 2] + [3] * len(functions)
    exports = [("memory", 2, 0), ("cabi_realloc", 0, 0), (interface + "describe", 0, 1), (interface + "render", 0, 2)]
    code = [locals + body + END for locals, body in bodies]
    sections = [
        _section(1, vector([b"\x60" + vector(parameters) + vector(results) for parameters, results in types])),
        _section(3, vector([unsigned(kind) for kind in kinds])),
        _section(5, vector([b"\x00\x01"])),
        _section(7, vector([_text(name) + bytes([kind, index]) for name, kind, index in exports])),
        b"" if start is None else _section(8, unsigned(3 + start)),
        _section(10, vector([unsigned(len(body)) + body for body in code])),
    ]
    return b"\0asm\1\0\0\0" + b"".join(sections)


def endless():
    """Code that never ends."""
    return b"\x03\x40\x0c\x00\x0b"


def countdown(turns):
    """Code that counts an i64, the local variable 0, down to zero."""
    decrement = b"\x20\x00\x42\x01\x7d\x22\x00"
    return b"\x42" + signed(turns) + b"\x21\x00" + b"\x03\x40" + decrement + b"\x50\x45\x0d\x00" + END


def wide(variables, branches):
    """A function with many local variables and branches. Compilers need memory for the product."""
    code = b""
    for number in range(branches):
        variable = unsigned(number % variables)
        code += b"\x03\x40\x20" + variable + b"\x41\x01\x6a\x21" + variable + b"\x20" + variable + b"\x0d\x00" + END
    return vector([unsigned(variables) + I32]), code


def empty():
    """A function that does nothing."""
    return NO_LOCALS, b""


def appended(component, module):
    """The component with one more core module, which it does not use."""
    return component + b"\x01" + unsigned(len(module)) + module
