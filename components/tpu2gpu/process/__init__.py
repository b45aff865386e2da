"""Child processes for native code."""
