"""Detectors turn samples of one device, in event-time order, into port events.

A detector is fed what the watermark has released and keeps a small state per device, which rests in the checkpoint. A
port event is also a set of samples (a move is ``moves=1, teu=2, cycle_s=112``), so that figures of events go through
the same windows as every other sample.
"""
