"""TF-TRT as a back end, and its dry run without a GPU.

backend: the back end.
availability: what it needs.
build: conversion on a GPU, in a process of its own.
dry_run, segment: its segmenter, without a GPU.
coverage: which operations run in engines.
"""
