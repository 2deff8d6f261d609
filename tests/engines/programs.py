"""Where the servers are that the tests start."""

import os
import shutil


def program(name: str) -> str:
    """Return the path of a server, which Debian keeps where a user's PATH may not look; RuntimeError without one."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(f"{name} is not installed: make setup-test")
    return found
