"""Turns a frozen model's weights back into variables."""
