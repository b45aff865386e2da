"""Passes that take training out of a graph, and the check that it is gone.

- remove_training_loops, fold_training_phase, batch_norm_inference, remove_dropout, replace_infeeds,
  prune_to_serving: the passes, in their order
- choose_outputs: what a training graph predicts, where nobody names it
- training_ops: what must not be left
- layer_norm: what looks like batch norm in training, and is none
- rewriter: a model whose tensors a pass replaces one by one
"""
