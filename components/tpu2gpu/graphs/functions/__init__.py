"""Functions and control flow: inlining, bodies, captured tensors."""
