"""Back ends: what builds an engine of a model, or runs it without one."""
