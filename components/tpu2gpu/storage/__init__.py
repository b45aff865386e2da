"""Folders as outputs: paths, all-or-nothing publishing with a manifest, and promotion."""
