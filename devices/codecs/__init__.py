"""One file per wire format, each pure: bytes in, samples and events or a reject out."""
