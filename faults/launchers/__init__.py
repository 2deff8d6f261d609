"""The product started on a bad disk, or broken on purpose: ``python -m faults.launchers.NAME ingest`` runs it so."""
