"""Accuracy: a model's outputs against the reference's, the labels and the ground-truth boxes.

- agreement: the comparison of a model's outputs with the reference's
- task_metrics: accuracy and top-5 accuracy of a classifier
- average_precision: mean average precision of a detector
- on_beam: the comparison as a Beam pipeline
"""
