"""The operations that the sweep covers, a family in each file."""
