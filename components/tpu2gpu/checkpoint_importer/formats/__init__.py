"""Source formats: how each is recognised, inspected and read."""
