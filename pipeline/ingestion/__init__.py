"""The parts of stage `ingest`: a case's store, the listing, and what batches have stored.

This room may import `grcsf`, errors, settings, storage and datasets; networks and every later room
may import it.

- `listing`: which cases are stored, and what a listing passes over.
- `case_stores`: what a case's store is made from, and what it holds.
- `batch_entries`: what the job of all cases takes over from those of batches.
"""
