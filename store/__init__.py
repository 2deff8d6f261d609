"""Where things rest: the journal (raw frames), window rows and records.

The store computes no figure: it keeps and returns what `analytics` made.
"""
