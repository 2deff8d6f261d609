"""The fault catalogue: break one thing at a time on real parts and count, against the publisher's own ledger."""
