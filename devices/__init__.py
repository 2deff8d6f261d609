"""What a device says: vocabulary, topics, codecs, identities and columns.

Nothing here opens a socket or a file, and nothing awaits: every codec turns bytes into samples, events or a reject.
"""
