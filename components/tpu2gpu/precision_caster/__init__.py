"""Casts weights and graphs to another floating type, with a report of what that did to the values."""
