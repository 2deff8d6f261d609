"""A port in virtual time: its model, its signals, its truth log, and what puts them on the wire.

The model is a pure function of a profile, a seed and time: it never sleeps, reads no clock and opens no socket. Only
``fleet``, ``replay`` and ``publisher`` touch the network, and they speak the same wire as real devices would::

    profiles ─► port (event heap, motions) ─► signals ─► messages ─► fleet ─┐
                          │                                                ├─► publisher ─► broker
                          └─► truth                     tracks ─► replay ──┘
"""
