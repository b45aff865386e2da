"""Budgets, and the verdict that they give on a candidate.

- budget: the contract: one field of an options class
- output_budgets, task_budgets, latency_budgets, resource_budgets: the budgets with their checks
- budgets: all of them in one options class
- measurements: what a candidate is judged by
- degenerate: answers that prove nothing
- verification_level: on what a verdict is reached
- judge: the verdict
"""
