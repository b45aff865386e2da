"""Passes between variables and constants, and those that constants allow.

- freeze_variables: variables to constants, by way of resource_handles
- unfreeze_constants: the way back, for the constants that find_weights finds
- remove_identities, fold_constants, fold_batch_norm: what a frozen graph does not need to compute
"""
