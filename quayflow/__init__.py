"""The front door: command line, settings and the supervisor of `quayflow demo` and `quayflow up`.

It knows every room and no room knows it.
"""

__version__ = "0.1.0"
