"""The whole of ingest in a made world: virtual time, and a broker, a disk and a store that fail as a seed says.

    devices ──► broker ──► the real worker ──► the real journal ──► disk
                  ▲            │   │                                  ▲
                  │            │   └─► the real pipeline ──► store    │
                  └── faults, from the seed alone ──────────▲─────────┘

Real are the worker (when to read, write, acknowledge, commit, start again), the journal, the pipeline with its ledger
and checkpoint, and in some worlds the SQLite store. Made are the loop's clock, in which an hour takes no time, and what
lies outside. One seed is one schedule: a seed that fails fails again, and can be looked into.

``python -m faults.simulation --seeds 10000`` plays seeds by hand; 300 are part of the tests.
"""
