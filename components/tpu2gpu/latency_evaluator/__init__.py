"""LatencyEvaluator: measure a candidate against a reference on real examples, and bless or refuse it.

- evaluating: `evaluate_model`
- options: its options
- results: its results, as records that serialise to JSON
- evaluation_run: the steps of one evaluation, in order
- evaluation: all that they found, before it is written
- component, command: the TFX component, and the command
- measure, statistics, accuracy, budgets, report: the sub-rooms
"""
