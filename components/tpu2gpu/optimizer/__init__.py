"""From a trained model to the best serving model that its budgets bless: all steps, several candidates, one call.

- optimizing: `optimize_model`
- options: its options, and those of each step that follow from them
- results: its results, as records that serialise to JSON
- candidates: what is tried: each precision with each back end that applies
- chain: the steps of a run, each taken from the cache where all that made it is the same
- cache: former outputs of steps, by content
- page: the report, and the table on a terminal
- command: the command
"""
