"""Promotion: the folder that a server polls, its versions and its ledger.

- promoting: promote a model, roll back, list what was promoted
- home: one model in a promotion folder: versions, incumbent, staging, retention
- ledger: `promotions.jsonl`: who, what, why, when, from which
- verdicts: verdicts of an evaluation, and what must hold of one before a model is promoted
- layouts: how a serving folder becomes a version that Triton or TensorFlow Serving polls
- model_card: the Markdown page beside each version
"""
