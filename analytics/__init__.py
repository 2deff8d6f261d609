"""From columns to answers: windows, deduplication, detectors and KPI definitions.

Nothing here performs I/O or asks for the time. Windows are half-open and aligned to the epoch:

    ──┬─────────────┬─────────────┬──►  event time, int64 ns UTC
      │  [0 s,10 s) │ [10 s,20 s) │
"""
