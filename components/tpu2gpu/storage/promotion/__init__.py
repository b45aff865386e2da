"""Promotion: the folder that a server polls, its versions and its ledger.

- promoting: promote a model, roll back, list what was promoted
- home: one model in a promotion folder: versions, incumbent, staging, retention
- promotion_folder: where a promotion folder lies, and how things get into it
- mounted_folder, object_store: both kinds of it; lease: the lock of the second
- ledger: `promotions.jsonl`: who, what, why, when, from which
- verdicts: verdicts of an evaluation, and what must hold of one before a model is promoted
- layouts: how a serving folder becomes a version that Triton or TensorFlow Serving polls
- copying: copies of folders that the disk holds before anything depends on them
- model_card: the Markdown page beside each version
"""
