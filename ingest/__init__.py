"""Bytes in, acknowledgements out: session, pipeline, ledger and the worker that joins them.

broker ─► session ─► frames ─┬─► journal (fdatasync) ─► PUBACK
                             └─► pipeline: decode ─► dedup ─► windows, detectors ─► commit ─► store
"""
